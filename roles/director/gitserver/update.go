package gitserver

import (
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// update makes the pack part of the repository and changes the references, in
// this order and under the lock: other pushes see all of it or nothing.
func (p *receive) update() ([]Change, error) {
	p.repo.lock.Lock()
	defer p.repo.lock.Unlock()
	all, err := p.repo.refs()
	if err != nil {
		return nil, err
	}
	head, err := p.repo.head()
	if err != nil {
		return nil, err
	}
	o, err := p.repo.lockedObjects(p.ctx)
	if err != nil {
		return nil, err
	}
	defer func() { o.close() }()
	if p.taken != nil {
		if p.repo.tidied.Load() != p.checked { // what it builds on may have been taken out
			if err := p.connected(o); err != nil {
				return nil, err
			}
		}
		if err := p.taken.keep(p.repo.dir); err != nil {
			return nil, err
		}
		o.close()
		if o, err = p.repo.lockedObjects(p.ctx); err != nil {
			return nil, err
		}
	}
	failed := 0
	for i := range p.list {
		c := &p.list[i]
		if c.problem == "" {
			c.problem = c.why(all, head)
		}
		if c.problem != "" {
			failed++
		} else if err := c.apply(all, o); err != nil {
			return nil, err
		}
	}
	if failed > 0 && p.caps["atomic"] {
		for i := range p.list {
			if p.list[i].problem == "" {
				p.list[i].problem = "atomic push failed"
			}
		}
		return nil, nil
	}
	if failed == len(p.list) {
		return nil, nil
	}
	if err := p.chooseHead(all, head); err != nil {
		return nil, err
	}
	return p.changes(), p.repo.setRefs(all)
}

// why tells what stands in the way of a change.
func (c *command) why(all refs, head string) string {
	now, there := all[c.name]
	if err := checkRefName(c.name); err != nil && !there {
		return err.Error()
	}
	if c.old != now.id && (there || !c.old.IsZero()) {
		if c.new.IsZero() && !there {
			return "it does not exist"
		}
		return "somebody else has changed it: fetch first"
	}
	switch {
	case c.new.IsZero() && !there:
		return "it does not exist"
	case c.new.IsZero() && c.name == head:
		return "the default branch cannot be deleted"
	case c.new.IsZero() || there:
		return ""
	case len(all) >= maxRefs:
		return "the repository has too many branches and tags"
	}
	if other, ok := all.collides(c.name); ok {
		return "it cannot be beside " + other
	}
	return ""
}

func (c *command) apply(all refs, o *objects) error {
	if c.new.IsZero() {
		delete(all, c.name)
		return nil
	}
	at := ref{id: c.new}
	target, _, tags, err := newWalk(o).peel(c.new)
	if err != nil {
		return err
	}
	if len(tags) > 0 {
		at.peeled = target
	}
	all[c.name] = at
	return nil
}

// chooseHead makes master the default branch when it is pushed first.
func (p *receive) chooseHead(all refs, head string) error {
	if _, ok := all[head]; ok {
		return nil
	}
	if _, ok := all["refs/heads/master"]; ok {
		return p.repo.setHead("refs/heads/master")
	}
	return nil
}

func (p *receive) changes() []Change {
	var list []Change
	text := func(h plumbing.Hash) string {
		if h.IsZero() {
			return ""
		}
		return h.String()
	}
	for _, c := range p.list {
		if c.problem == "" && c.old != c.new {
			list = append(list, Change{Ref: strings.Clone(c.name), Old: text(c.old), New: text(c.new)})
		}
	}
	return list
}
