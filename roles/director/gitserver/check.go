package gitserver

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
)

// needs are the objects that others speak of, with the kind that they must
// have. What lies in a repository has all it needs, or a later push could
// build on what is not there.
type needs map[plumbing.Hash]plumbing.ObjectType

// note reads an object and adds what it speaks of.
func (n needs) note(kind plumbing.ObjectType, b []byte) error {
	switch kind {
	case plumbing.CommitObject:
		c, err := parseCommit(b)
		if err != nil {
			return err
		}
		for _, p := range c.parents {
			if err := n.add(p, plumbing.CommitObject); err != nil {
				return err
			}
		}
		return n.add(c.tree, plumbing.TreeObject)
	case plumbing.TagObject:
		target, kind, err := parseTag(b)
		if err != nil {
			return err
		}
		return n.add(target, kind)
	case plumbing.TreeObject:
		var last treeEntry
		return eachEntry(b, func(e treeEntry) error {
			if err := e.check(last); err != nil {
				return err
			}
			last = e
			switch e.mode {
			case filemode.Submodule:
				return nil // a commit of another repository
			case filemode.Dir:
				return n.add(e.hash, plumbing.TreeObject)
			default:
				return n.add(e.hash, plumbing.BlobObject)
			}
		})
	default:
		return nil // a file speaks of nothing
	}
}

func (n needs) add(h plumbing.Hash, kind plumbing.ObjectType) error {
	if had, ok := n[h]; ok && had != kind {
		return damaged("the object %s is wanted as %s and as %s", h, had, kind)
	}
	n[h] = kind
	return nil
}

// commit is what we read of a commit.
type commit struct {
	tree    plumbing.Hash
	parents []plumbing.Hash
	subject string
	when    int64 // of the committer, seconds since 1970
}

// parseCommit reads a commit as strictly as git fsck does where that matters.
func parseCommit(b []byte) (commit, error) {
	var c commit
	line := func(name string) (string, bool) {
		rest, ok := bytes.CutPrefix(b, []byte(name+" "))
		end := bytes.IndexByte(rest, '\n')
		if !ok || end < 0 {
			return "", false
		}
		b = rest[end+1:]
		return string(rest[:end]), true
	}
	bad := func(what string) (commit, error) { return c, damaged("a commit has no good %s", what) }
	text, ok := line("tree")
	if c.tree, ok = hashOf(text, ok); !ok {
		return bad("tree")
	}
	for {
		text, more := line("parent")
		if !more {
			break
		}
		h, ok := hashOf(text, true)
		if !ok {
			return bad("parent")
		}
		c.parents = append(c.parents, h)
	}
	if text, ok = line("author"); !ok || !isPerson(text) {
		return bad("author")
	}
	if text, ok = line("committer"); !ok || !isPerson(text) {
		return bad("committer")
	}
	seconds, _, _ := strings.Cut(text[strings.LastIndexByte(text, '>')+2:], " ")
	c.when, _ = strconv.ParseInt(seconds, 10, 64) // it has digits only
	message, plain := bytes.CutPrefix(b, []byte("\n"))
	if !plain {
		_, message, _ = bytes.Cut(b, []byte("\n\n")) // behind a signature, for example
	}
	c.subject = subjectOf(string(message))
	return c, nil
}

// subjectOf is the first paragraph of a message in one line.
func subjectOf(message string) string {
	first, _, _ := strings.Cut(strings.TrimLeft(message, "\n"), "\n\n")
	return strings.ToValidUTF8(strings.Join(strings.Fields(first), " "), "\uFFFD")
}

// isPerson checks: Name <address> seconds zone.
func isPerson(s string) bool {
	open, end := strings.IndexByte(s, '<'), strings.LastIndexByte(s, '>')
	if open < 1 || end < open || strings.ContainsAny(s[:open], ">") || strings.ContainsAny(s[open+1:end], "<>") || s[open-1] != ' ' {
		return false
	}
	fields := strings.Split(s[end+1:], " ")
	if len(fields) != 3 || fields[0] != "" || fields[1] == "" || len(fields[1]) > 18 || len(fields[2]) != 5 {
		return false
	}
	digits := func(s string) bool { return strings.Trim(s, "0123456789") == "" }
	return digits(fields[1]) && (fields[1] == "0" || fields[1][0] != '0') && strings.ContainsAny(fields[2][:1], "+-") && digits(fields[2][1:])
}

func parseTag(b []byte) (plumbing.Hash, plumbing.ObjectType, error) {
	bad := damaged("a tag is not well made")
	lines := strings.SplitN(string(b[:min(len(b), 4096)]), "\n", 4)
	if len(lines) < 4 {
		return plumbing.ZeroHash, 0, bad
	}
	id, ok := strings.CutPrefix(lines[0], "object ")
	h, ok := hashOf(id, ok)
	name, ok2 := strings.CutPrefix(lines[1], "type ")
	kind, err := plumbing.ParseObjectType(name)
	if !ok || !ok2 || err != nil || kind.IsDelta() || !strings.HasPrefix(lines[2], "tag ") {
		return plumbing.ZeroHash, 0, bad
	}
	return h, kind, nil
}

func hashOf(text string, ok bool) (plumbing.Hash, bool) {
	var h plumbing.Hash
	if !ok || len(text) != hex.EncodedLen(len(h)) || strings.ToLower(text) != text {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(text))
	return h, err == nil
}

// treeEntry is one line of a directory.
type treeEntry struct {
	mode filemode.FileMode
	name string
	hash plumbing.Hash
}

// eachEntry reads a tree.
func eachEntry(b []byte, do func(treeEntry) error) error {
	for len(b) > 0 {
		space := bytes.IndexByte(b, ' ')
		end := bytes.IndexByte(b, 0)
		if space < 1 || space > 6 || end < space || len(b) < end+1+len(plumbing.ZeroHash) {
			return damaged("a directory is not well made")
		}
		e := treeEntry{name: string(b[space+1 : end])}
		for _, d := range b[:space] {
			if d < '0' || d > '7' {
				return damaged("a directory is not well made")
			}
			e.mode = e.mode<<3 | filemode.FileMode(d-'0')
		}
		if b[0] == '0' {
			return damaged("a directory has a mode that begins with 0")
		}
		copy(e.hash[:], b[end+1:])
		b = b[end+1+len(e.hash):]
		if err := do(e); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what git fsck would call an error.
func (e treeEntry) check(last treeEntry) error {
	lower := strings.ToLower(e.name)
	switch {
	case e.name == "", e.name == ".", e.name == "..", strings.Contains(e.name, "/"):
		return damaged("a directory holds the name %q", e.name)
	case lower == ".git", lower == "git~1", strings.TrimRight(strings.TrimSuffix(lower, "::$index_allocation"), " .") == ".git":
		return damaged("a directory holds the name %q, which is git's own", e.name)
	case e.hash.IsZero():
		return damaged("%q is no object", e.name)
	case last.name != "" && sortName(last) >= sortName(e) || last.name == e.name:
		return damaged("a directory is not sorted at %q", e.name)
	}
	switch e.mode {
	case filemode.Dir, filemode.Regular, filemode.Executable, filemode.Symlink, filemode.Submodule, filemode.Deprecated:
		return nil
	default:
		return damaged("%q has the mode %o, which git does not know", e.name, uint32(e.mode))
	}
}

// sortName is what trees are sorted by: directories end with a slash.
func sortName(e treeEntry) string {
	if e.mode == filemode.Dir {
		return e.name + "/"
	}
	return e.name
}
