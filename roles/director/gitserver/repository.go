package gitserver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"nutshell/roles/api"
)

// firstBranch is the default branch of a repository until master is pushed
// to it first.
const firstBranch = "refs/heads/main"

// repository is one bare repository. Its objects lie in packs only and its
// references in packed-refs only, which is replaced as a whole: so a push is
// there or is not, whenever the power goes.
type repository struct {
	*state
	id  int64
	dir string
}

// repository opens an application's repository, and makes it if asked to.
func (s *Server) repository(id int64, create bool) (*repository, error) {
	r := &repository{state: s.state(id), id: id, dir: s.path(id)}
	if _, err := os.Stat(filepath.Join(r.dir, "HEAD")); err == nil {
		return r, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !create {
		return nil, missing()
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.gone {
		return nil, api.NotFoundf("the application is being deleted")
	}
	if _, err := os.Stat(r.dir); err == nil {
		return r, nil // somebody was faster
	}
	fresh := r.dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return nil, err
	}
	for _, dir := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags", "incoming"} {
		if err := os.MkdirAll(filepath.Join(fresh, dir), 0o700); err != nil {
			return nil, err
		}
	}
	for name, text := range map[string]string{
		"config":      "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n",
		"HEAD":        "ref: " + firstBranch + "\n",
		"packed-refs": packedHeader,
	} {
		if err := replaceFile(filepath.Join(fresh, name), []byte(text)); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(fresh, r.dir); err != nil {
		return nil, err
	}
	return r, syncDir(s.c.Dir)
}

// head is the default branch.
func (r *repository) head() (string, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, "HEAD"))
	if err != nil {
		return "", err
	}
	name, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "ref: ")
	if !ok {
		return "", errors.New("HEAD of the repository is damaged")
	}
	return name, nil
}

func (r *repository) setHead(ref string) error {
	return replaceFile(filepath.Join(r.dir, "HEAD"), []byte("ref: "+ref+"\n"))
}

// replaceFile writes a file that is there as a whole, or as it was before.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename outlive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Tip is the commit that a repository's default branch shows, empty for none.
func (s *Server) Tip(id int64) (string, error) {
	r, err := s.repository(id, false)
	if api.CodeOf(err) == api.CodeNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	all, err := r.refs()
	if err != nil {
		return "", err
	}
	head, err := r.head()
	if at, ok := all[head]; ok {
		return at.id.String(), err
	}
	return "", err
}

// Summary is what a repository shows.
type Summary struct {
	Branch   string // the default branch, without refs/heads/
	Commit   string // what it shows, empty if it is not there yet
	Subject  string
	Branches []string
	Bytes    int64 // of the packs
}

// Summary tells about a repository; one that nobody has used yet is empty.
func (s *Server) Summary(ctx context.Context, id int64) (Summary, error) {
	sum := Summary{Branch: strings.TrimPrefix(firstBranch, "refs/heads/"), Branches: []string{}}
	r, err := s.repository(id, false)
	if api.CodeOf(err) == api.CodeNotFound {
		return sum, nil
	}
	if err != nil {
		return sum, err
	}
	refs, err := r.refs()
	if err != nil {
		return sum, err
	}
	head, err := r.head()
	if err != nil {
		return sum, err
	}
	sum.Branch = strings.TrimPrefix(head, "refs/heads/")
	for _, ref := range refs.names() {
		if name, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
			sum.Branches = append(sum.Branches, name)
		}
	}
	if sum.Bytes, err = r.bytes(); err != nil {
		return sum, err
	}
	tip, ok := refs[head]
	if !ok {
		return sum, nil
	}
	o, err := r.objects(ctx)
	if err != nil {
		return sum, err
	}
	defer o.close()
	c, err := o.commit(tip.id)
	sum.Commit, sum.Subject = tip.id.String(), c.subject
	return sum, err
}

// bytes is the size of all packs.
func (r *repository) bytes() (int64, error) {
	files, err := filepath.Glob(filepath.Join(r.dir, "objects/pack/*.pack"))
	var sum int64
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			sum += st.Size()
		}
	}
	return sum, err
}

// shortID is a commit as people name it.
func shortID(h plumbing.Hash) string { return h.String()[:7] }
