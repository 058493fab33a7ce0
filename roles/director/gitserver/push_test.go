package gitserver

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// files are some whose changes git packs as deltas.
func manyFiles(n int, word string) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprintf("1/dir%d/file%d.php", i%7, i)] = strings.Repeat(fmt.Sprintf("line of file %d\n", i), 50) + word + "\n"
	}
	return all
}

func TestPushFetchAndForce(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	out := r.git("ann", "", "clone", r.url("ann/my%20shop"), "empty")
	if !strings.Contains(out, "empty repository") || strings.Contains(out, "missing") {
		t.Errorf("clone of an empty repository: %s", out)
	}
	r.work("w", manyFiles(60, "one"))
	if out := r.git("ann", "w", "push", "-u", "origin", "main"); !strings.Contains(out, "remote: took 1 change(s)") {
		t.Errorf("push says: %s", out)
	}
	noise := make([]byte, 700<<10) // more than fits into one packet
	_, _ = rand.Read(noise)
	r.commit("w", "noise", map[string]string{"1/noise": string(noise)})
	for i := range 4 { // thin packs would have their bases elsewhere
		r.commit("w", fmt.Sprint("change ", i), manyFiles(3+i, fmt.Sprint("two", i)))
		r.git("ann", "w", "push")
	}
	r.git("ann", "", "clone", r.url("ann/my%20shop"), "c")
	if a, b := r.git("ann", "w", "rev-parse", "HEAD"), r.git("ann", "c", "rev-parse", "HEAD"); a != b {
		t.Errorf("clone has %s, want %s", b, a)
	}
	r.git("ann", "c", "fsck", "--strict")
	if out := r.git("ann", "c", "fetch"); out != "" { // wants nothing
		t.Errorf("fetch without news says: %s", out)
	}
	if out := r.git("ann", "c", "ls-remote"); !strings.Contains(out, "refs/heads/main") {
		t.Errorf("ls-remote: %s", out)
	}

	// Tags and branches.
	r.git("ann", "w", "tag", "light")
	r.git("ann", "w", "tag", "-a", "v1", "-m", "one")
	r.git("ann", "w", "checkout", "-q", "-b", "feature/x")
	r.commit("w", "on a branch", map[string]string{"1/x.php": "x"})
	r.git("ann", "w", "push", "origin", "feature/x", "v1", "light")
	r.git("ann", "c", "fetch", "--tags")
	if out := r.git("ann", "c", "tag"); out != "light\nv1\n" {
		t.Errorf("tags: %q", out)
	}
	if out := r.git("ann", "c", "describe", "--always", "origin/feature/x"); !strings.HasPrefix(out, "v1-1-") {
		t.Errorf("describe: %q", out)
	}
	r.git("ann", "w", "push", "origin", "--delete", "feature/x")
	if got := r.serverRef(1, "refs/heads/feature/x"); got != "" {
		t.Errorf("a deleted branch shows %s", got)
	}
	r.refused("cannot be deleted", "ann", "w", "push", "origin", "--delete", "main")
	r.refused("cannot be beside refs/heads/main", "ann", "w", "push", "origin", "HEAD:refs/heads/main/sub")
	r.refused("a branch must show a commit", "ann", "w", "push", "origin", "HEAD^{tree}:refs/heads/tree")

	// Back and away: forced.
	r.git("ann", "w", "checkout", "-q", "main")
	r.git("ann", "w", "reset", "-q", "--hard", "HEAD~2")
	r.commit("w", "another way", manyFiles(5, "three"))
	r.refused("rejected", "ann", "w", "push")
	r.git("ann", "w", "push", "--force")
	r.git("ann", "c", "fetch")
	r.git("ann", "c", "reset", "-q", "--hard", "origin/main")
	if a, b := r.git("ann", "w", "rev-parse", "HEAD^{tree}"), r.git("ann", "c", "rev-parse", "HEAD^{tree}"); a != b {
		t.Errorf("after a forced push the clone has the tree %s, want %s", b, a)
	}
	r.fsck()
	if left, _ := filepath.Glob(filepath.Join(r.dir, "git/1.git/objects/[0-9a-f][0-9a-f]")); len(left) > 0 {
		t.Errorf("loose objects: %v", left)
	}
}

func TestShallow(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.work("w", manyFiles(30, "begin"))
	for i := range 6 {
		r.commit("w", fmt.Sprint("change ", i), manyFiles(4, fmt.Sprint(i)))
	}
	r.git("ann", "w", "push", "origin", "main")
	r.git("ann", "", "clone", "--depth", "1", r.url("ann/my%20shop"), "s")
	count := func(want string) {
		t.Helper()
		if n := strings.TrimSpace(r.git("ann", "s", "rev-list", "--count", "HEAD")); n != want {
			t.Errorf("the clone has %s commits, want %s", n, want)
		}
		r.git("ann", "s", "fsck", "--strict")
	}
	count("1")
	r.commit("w", "more", manyFiles(3, "more"))
	r.git("ann", "w", "push", "origin", "main")
	r.git("ann", "s", "pull", "-q")
	count("2")
	r.git("ann", "s", "fetch", "-q", "--depth", "4")
	count("4")
	r.commit("s", "from the shallow clone", map[string]string{"1/s.php": "s"})
	r.git("ann", "s", "push", "origin", "main")
	r.git("ann", "w", "pull", "-q", "origin", "main")
	r.git("ann", "s", "fetch", "-q", "--unshallow")
	count("9")
}

func TestBranchMaster(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.work("w", map[string]string{"1/index.php": "1"})
	r.git("ann", "w", "branch", "-m", "master")
	r.git("ann", "w", "push", "origin", "master")
	r.git("ann", "", "clone", r.url("ann/my%20shop.git"), "c")
	if b := strings.TrimSpace(r.git("ann", "c", "branch", "--show-current")); b != "master" {
		t.Errorf("the clone is on %q", b)
	}
	r.git("ann", "w", "push", "origin", "master:main")
	sum, err := r.server.Summary(t.Context(), 1)
	if err != nil || sum.Branch != "master" || sum.Subject != "first" || len(sum.Branches) != 2 || sum.Bytes == 0 {
		t.Errorf("summary: %+v, %v", sum, err)
	}
}

func TestTidy(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	r.work("w", manyFiles(20, "begin"))
	r.git("ann", "w", "push", "origin", "main")
	for i := range 8 {
		r.commit("w", fmt.Sprint("change ", i), manyFiles(5, fmt.Sprint(i)))
		r.git("ann", "w", "push", "origin", "main")
	}
	r.git("ann", "w", "reset", "-q", "--hard", "HEAD~3")
	r.git("ann", "w", "push", "--force", "origin", "main")
	if err := r.server.repack(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	packs, _ := filepath.Glob(filepath.Join(r.dir, "git/1.git/objects/pack/*.pack"))
	if len(packs) != 1 {
		t.Errorf("packs: %v", packs)
	}
	r.fsck()
	r.git("ann", "", "clone", "-q", r.url("ann/my%20shop"), "c")
	r.git("ann", "c", "fsck", "--strict")
	r.commit("w", "after", manyFiles(4, "after"))
	r.git("ann", "w", "push", "origin", "main")
	r.git("ann", "c", "pull", "-q")
	if err := r.server.repack(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(packs[0]); err == nil {
		t.Errorf("%s is still there", st.Name())
	}
}

// TestLargeDeltas pushes files that are too large for memory as deltas of each
// other, small deltas and large ones, and takes them out again in all ways.
func TestLargeDeltas(t *testing.T) {
	r := newRig(t).start()
	r.key("ann")
	one := make([]byte, 12<<20)
	_, _ = rand.Read(one)
	r.work("w", map[string]string{"1/large": string(one)})
	two := append(slices.Clone(one[:7<<20]), "a small change"...)
	two = append(two, one[7<<20:]...)
	r.commit("w", "small", map[string]string{"1/large": string(two)})
	more := make([]byte, 5<<20)
	_, _ = rand.Read(more)
	three := append(slices.Clone(two[:3<<20]), more...)
	three = append(three, two[3<<20:]...)
	r.commit("w", "large", map[string]string{"1/large": string(three)})
	r.git("ann", "w", "push", "origin", "main")
	pack, err := r.server.Summary(t.Context(), 1)
	if err != nil || pack.Bytes > 20<<20 {
		t.Fatalf("%d bytes are no deltas, or %v", pack.Bytes, err)
	}
	r.git("ann", "", "clone", "-q", r.url("ann/my%20shop"), "c")
	if b, err := os.ReadFile(filepath.Join(r.dir, "c/1/large")); err != nil || !bytes.Equal(b, three) {
		t.Errorf("the clone has another file: %v", err)
	}
	r.git("ann", "", "clone", "-q", "--depth", "1", "--no-local", r.url("ann/my%20shop"), "s")
	for back, want := range map[int][]byte{0: three, 1: two, 2: one} {
		id := strings.TrimSpace(r.git("ann", "w", "rev-parse", fmt.Sprintf("HEAD~%d", back)))
		snap, err := r.server.Open(t.Context(), 1, id)
		if err != nil {
			t.Fatal(err)
		}
		folder, err := snap.Folder("1")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := snap.Archive("1", folder, &out); err != nil {
			t.Fatal(err)
		}
		snap.Close()
		z, err := gzip.NewReader(&out)
		if err != nil {
			t.Fatal(err)
		}
		x := tar.NewReader(z)
		if h, err := x.Next(); err != nil || h.Name != "large" {
			t.Fatalf("%v, %v", h, err)
		}
		if b, err := io.ReadAll(x); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%d back: another file: %d bytes, %v", back, len(b), err)
		}
	}
	if err := r.server.repack(t.Context(), 1); err != nil {
		t.Error(err)
	}
}
