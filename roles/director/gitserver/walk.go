package gitserver

import (
	"fmt"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// forever is the depth of a clone that is not shallow.
const forever = 0x7fffffff

// walk finds what a client lacks.
type walk struct {
	o       *objects
	commits map[plumbing.Hash]commit
	shallow map[plumbing.Hash]bool // commits whose parents the client does not have
	list    []plumbing.Hash        // what is sent, in order
	seen    map[plumbing.Hash]bool // what is sent or what the client has
}

func newWalk(o *objects) *walk {
	return &walk{o: o, commits: map[plumbing.Hash]commit{}, shallow: map[plumbing.Hash]bool{}, seen: map[plumbing.Hash]bool{}}
}

func (w *walk) commit(h plumbing.Hash) (commit, error) {
	if c, ok := w.commits[h]; ok {
		return c, nil
	}
	c, err := w.o.commit(h)
	if err != nil {
		return c, err
	}
	c.subject = "" // nobody asks, and there are many
	w.commits[h] = c
	return c, nil
}

// peel follows annotated tags. The tags on the way are given, too.
func (w *walk) peel(h plumbing.Hash) (target plumbing.Hash, kind plumbing.ObjectType, tags []plumbing.Hash, err error) {
	for range 50 {
		kind, ok, err := w.o.kindOf(h)
		if err != nil {
			return h, kind, nil, err
		}
		if !ok {
			return h, kind, nil, fmt.Errorf("the object %s is missing", h)
		}
		if kind != plumbing.TagObject {
			return h, kind, tags, nil
		}
		b, err := w.o.meta(h, kind)
		if err != nil {
			return h, kind, nil, err
		}
		tags = append(tags, h)
		if h, _, err = parseTag(b); err != nil {
			return h, kind, nil, err
		}
	}
	return h, 0, nil, damaged("a tag of a tag of a tag, and so on, without end")
}

// has marks all commits that a client has who has these. Behind the ends of
// its shallow clone it has nothing.
func (w *walk) has(tips []plumbing.Hash) (map[plumbing.Hash]bool, error) {
	all := map[plumbing.Hash]bool{}
	for todo := tips; len(todo) > 0; {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if all[h] {
			continue
		}
		all[h] = true
		if w.shallow[h] {
			continue
		}
		c, err := w.commit(h)
		if err != nil {
			return nil, err
		}
		todo = append(todo, c.parents...)
	}
	return all, nil
}

// within finds the commits at most depth away from the wanted ones, and those
// among them whose parents are further away.
func (w *walk) within(wants []plumbing.Hash, depth int) (all map[plumbing.Hash]bool, ends []plumbing.Hash, err error) {
	all = map[plumbing.Hash]bool{}
	for level := wants; len(level) > 0; depth-- {
		var next []plumbing.Hash
		for _, h := range level {
			if all[h] {
				continue
			}
			all[h] = true
			c, err := w.commit(h)
			if err != nil {
				return nil, nil, err
			}
			if depth > 1 {
				next = append(next, c.parents...)
			} else if len(c.parents) > 0 {
				ends = append(ends, h)
			}
		}
		level = next
	}
	return all, ends, nil
}

// lacks lists what is missing to a client that has the commits in has and
// wants what else is reachable. within, if not nil, is where to stay.
func (w *walk) lacks(wants []plumbing.Hash, has, within map[plumbing.Hash]bool) error {
	var news, edge []plumbing.Hash
	var others []plumbing.Hash // trees and files that tags point to
	var todo []plumbing.Hash
	for _, want := range wants {
		h, kind, tags, err := w.peel(want)
		if err != nil {
			return err
		}
		for _, t := range tags {
			w.add(t)
		}
		if kind == plumbing.CommitObject {
			todo = append(todo, h)
		} else {
			others = append(others, h)
		}
	}
	for met := map[plumbing.Hash]bool{}; len(todo) > 0; {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		switch {
		case met[h] || (within != nil && !within[h]):
			continue
		case has[h]:
			edge = append(edge, h)
			met[h] = true
			if within == nil {
				continue
			}
		default:
			news = append(news, h)
		}
		met[h] = true
		if within == nil && w.shallow[h] {
			continue
		}
		c, err := w.commit(h)
		if err != nil {
			return err
		}
		todo = append(todo, c.parents...)
	}
	for _, h := range edge { // what the client's own commits hold need not be sent
		c, err := w.commit(h)
		if err != nil {
			return err
		}
		if err := w.tree(c.tree, func(plumbing.Hash) {}); err != nil {
			return err
		}
	}
	for _, h := range news {
		w.add(h)
	}
	for _, h := range news {
		if err := w.tree(w.commits[h].tree, w.send); err != nil {
			return err
		}
	}
	for _, h := range others {
		kind, _, err := w.o.kindOf(h)
		if err != nil {
			return err
		}
		if kind == plumbing.TreeObject {
			err = w.tree(h, w.send)
		} else {
			w.add(h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) send(h plumbing.Hash) { w.list = append(w.list, h) }

func (w *walk) add(h plumbing.Hash) {
	if !w.seen[h] {
		w.seen[h] = true
		w.send(h)
	}
}

// tree gives a tree with all below it that was not seen before to do.
func (w *walk) tree(root plumbing.Hash, do func(plumbing.Hash)) error {
	for todo := []plumbing.Hash{root}; len(todo) > 0; {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if w.seen[h] {
			continue
		}
		w.seen[h] = true
		do(h)
		b, err := w.o.meta(h, plumbing.TreeObject)
		if err != nil {
			return err
		}
		err = eachEntry(b, func(e treeEntry) error {
			switch {
			case e.mode == filemode.Submodule || w.seen[e.hash]:
			case e.mode == filemode.Dir:
				todo = append(todo, e.hash)
			default:
				w.seen[e.hash] = true
				do(e.hash)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
