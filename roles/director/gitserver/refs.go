package gitserver

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

const (
	packedHeader = "# pack-refs with: peeled fully-peeled sorted \n"
	maxRefs      = 20_000
	maxRefName   = 255
)

// ref is where a reference points. peeled is the object behind an annotated
// tag, zero for anything else.
type ref struct{ id, peeled plumbing.Hash }

type refs map[string]ref

func (r refs) names() []string {
	list := make([]string, 0, len(r))
	for name := range r {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}

// refs reads all references at one moment.
func (r *repository) refs() (refs, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, "packed-refs"))
	if err != nil {
		return nil, err
	}
	all := refs{}
	last := ""
	for line := range bytes.Lines(b) {
		text := strings.TrimSuffix(string(line), "\n")
		switch {
		case text == "" || text[0] == '#':
		case text[0] == '^' && last != "" && len(text) == 41:
			all[last] = ref{all[last].id, plumbing.NewHash(text[1:])}
		case len(text) > 41 && text[40] == ' ':
			last = text[41:]
			all[last] = ref{id: plumbing.NewHash(text[:40])}
		default:
			return nil, fmt.Errorf("packed-refs is damaged at %q", text)
		}
	}
	return all, nil
}

// setRefs replaces all references. The caller holds the lock.
func (r *repository) setRefs(all refs) error {
	var b bytes.Buffer
	b.WriteString(packedHeader)
	for _, name := range all.names() {
		fmt.Fprintf(&b, "%s %s\n", all[name].id, name)
		if p := all[name].peeled; !p.IsZero() {
			fmt.Fprintf(&b, "^%s\n", p)
		}
	}
	return replaceFile(filepath.Join(r.dir, "packed-refs"), b.Bytes())
}

// checkRefName refuses names that git would not have.
func checkRefName(name string) error {
	bad := func(why string) error { return fmt.Errorf("%s", why) }
	switch {
	case len(name) > maxRefName:
		return bad("the name is too long")
	case !strings.HasPrefix(name, "refs/") || strings.Count(name, "/") < 2:
		return bad("the name must begin with refs/heads/ or refs/tags/")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return bad("the name has control characters")
	}
	if plumbing.ReferenceName(name).Validate() != nil {
		return bad("this cannot be a name of a branch or tag")
	}
	return nil
}

// collides finds a reference that cannot be beside name, because one would be
// a directory and the other a file of it.
func (r refs) collides(name string) (string, bool) {
	for other := range r {
		if strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
			return other, true
		}
	}
	return "", false
}

// tips are the objects that references point to, each once.
func (r refs) tips() []plumbing.Hash {
	var list []plumbing.Hash
	for _, at := range r {
		list = append(list, at.id)
	}
	slices.SortFunc(list, func(a, b plumbing.Hash) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(list)
}
