package archive

import (
	"path"
	"strings"
	"time"
	"unicode"
)

// entry is one member of an archive, its name made clean by cleanName.
type entry struct {
	name     string // "" is the root itself
	kind     kind
	link     string // target: as written for symbolic, clean for hard links
	size     int64
	runnable bool
	modified time.Time
}

// tree is what the archive has put where so far. Both Inspect and Unpack ask
// it about every entry, so they cannot differ in what they accept.
type tree struct {
	limits  Limits
	size    int64 // of the archive file
	nodes   map[string]node
	entries int
	names   int64 // bytes of all names
	bytes   int64 // of all files
	files   int
}

type node struct {
	kind kind
	link string
}

func newTree(l Limits, size int64) *tree {
	return &tree{limits: l, size: size, nodes: map[string]node{}}
}

// add checks one entry and takes it in. It returns the directories above it
// that are new, outermost first, and whether the entry itself is new: a
// directory may come again.
func (t *tree) add(e entry) (parents []string, fresh bool, err error) {
	t.entries++
	t.names += int64(len(e.name) + len(e.link))
	if t.entries > t.limits.Files || len(t.nodes) > t.limits.Files || t.names > int64(t.limits.Files)*meanName {
		return nil, false, tooLarge("it has more than %d files", t.limits.Files)
	}
	if e.name == "" {
		if e.kind != kindDir {
			return nil, false, refuse("a file in it has no name", "make the archive again")
		}
		return nil, false, nil
	}
	if parents, err = t.addParents(e.name); err != nil {
		return nil, false, err
	}
	if old, there := t.nodes[e.name]; there {
		if old.kind == kindDir && e.kind == kindDir {
			return parents, false, nil
		}
		return nil, false, refusef("make the archive again without duplicates", "it holds %s twice", quote(e.name))
	}
	if err := t.count(e); err != nil {
		return nil, false, err
	}
	if e.kind == kindHardLink {
		if target, there := t.nodes[e.link]; !there || target.kind != kindFile {
			return nil, false, refusef("make the archive again with --hard-dereference", "the hard link %s points to %s, which is no file that came before it", quote(e.name), quote(e.link))
		}
		e.kind = kindFile // it is one from now on
	}
	if e.kind == kindSymlink {
		if err := checkTarget(e); err != nil {
			return nil, false, err
		}
	}
	t.nodes[e.name] = node{kind: e.kind, link: e.link}
	return parents, true, nil
}

func (t *tree) addParents(name string) ([]string, error) {
	var made []string
	for i, c := range name {
		if c != '/' {
			continue
		}
		above := name[:i]
		n, there := t.nodes[above]
		switch {
		case !there:
			t.nodes[above] = node{kind: kindDir}
			made = append(made, above)
		case n.kind != kindDir:
			return nil, refusef("make the archive again", "it uses %s as a directory, but it is a file or a link", quote(above))
		}
	}
	return made, nil
}

func (t *tree) count(e entry) error {
	if e.kind != kindDir {
		t.files++
	}
	if e.kind != kindFile {
		return nil
	}
	if e.size < 0 || e.size > t.limits.Bytes-t.bytes {
		return tooLarge("it unpacks to more than %s", human(t.limits.Bytes))
	}
	t.bytes += e.size
	if t.bytes > ratioFrom && t.bytes/maxRatio > t.size {
		return tooLarge("it unpacks to more than %d times its size, as only a bomb does", maxRatio)
	}
	return nil
}

// finish checks what can be said only when all is there: that no symbolic
// link leaves the tree, also not by way of other links.
func (t *tree) finish() error {
	if t.files == 0 {
		return refuse("there are no files in it", "make the archive from the application's files")
	}
	depth := 0
	if t.top() != "" {
		depth = 1 // it may be taken off, and the links must still stay inside
	}
	for name, n := range t.nodes {
		if n.kind == kindSymlink && !t.stays(name, n.link, depth) {
			return linkLeaves(name, n.link)
		}
	}
	return nil
}

// top is the one directory that holds everything.
func (t *tree) top() string {
	top := ""
	for name := range t.nodes {
		first, _, below := strings.Cut(name, "/")
		if !below && t.nodes[name].kind != kindDir || top != "" && first != top {
			return ""
		}
		top = first
	}
	// A web application may consist of nothing else, and it must stay there.
	if top == "WEB-INF" || top == "META-INF" {
		return ""
	}
	return top
}

// stays follows a symbolic link step by step, as the kernel would, and
// reports whether it remains below the first depth directories. Where it ends
// need not exist: an application may make it later.
func (t *tree) stays(name, target string, depth int) bool {
	at := strings.Split(name, "/")
	at = at[:len(at)-1]
	todo := strings.Split(target, "/")
	for links := 0; len(todo) > 0; {
		step := todo[0]
		todo = todo[1:]
		switch step {
		case "", ".":
			continue
		case "..":
			if len(at) <= depth {
				return false
			}
			at = at[:len(at)-1]
			continue
		}
		at = append(at, step)
		if n := t.nodes[strings.Join(at, "/")]; n.kind == kindSymlink {
			if links++; links > 40 { // as the kernel does
				return false
			}
			at = at[:len(at)-1]
			todo = append(strings.Split(n.link, "/"), todo...)
		}
		if len(todo) > maxPath {
			return false
		}
	}
	return true
}

func checkTarget(e entry) error {
	switch {
	case e.link == "", len(e.link) > maxPath, strings.ContainsFunc(e.link, unicode.IsControl):
		return refusef("make the archive again", "the link %s has a target that cannot be", quote(e.name))
	case path.IsAbs(e.link):
		return linkLeaves(e.name, e.link)
	}
	return nil
}

func linkLeaves(name, target string) error {
	return refusef("make the archive with tar --dereference, which stores the files that links point to",
		"the link %s points to %s, outside of the archive", quote(name), quote(target))
}

// cleanName returns the name without "./", "//" and a "/" at the end, and
// refuses what could be put outside of the tree or not be put at all.
func cleanName(name string) (string, error) {
	const hint = "make the archive again from inside the application's directory"
	switch {
	case strings.ContainsFunc(name, unicode.IsControl):
		return "", refusef("rename the file", "the name %s has a control character", quote(name))
	case strings.HasPrefix(name, "/"):
		return "", refusef(hint, "the name %s is absolute", quote(name))
	case len(name) > maxPath:
		return "", refusef("use shorter names", "the name %s is %d bytes long, at most %d can be", quote(name), len(name), maxPath)
	}
	parts := strings.Split(name, "/")
	kept := parts[:0]
	for _, p := range parts {
		switch {
		case p == "" || p == ".":
			continue
		case p == "..":
			return "", refusef(hint, "the name %s has \"..\" in it", quote(name))
		case len(p) > maxPart:
			return "", refusef("use shorter names", "the name %s is %d bytes long, at most %d can be", quote(p), len(p), maxPart)
		}
		kept = append(kept, p)
	}
	if len(kept) > maxDepth {
		return "", refusef("use fewer levels", "%s is %d directories deep, at most %d can be", quote(name), len(kept), maxDepth)
	}
	return strings.Join(kept, "/"), nil
}
