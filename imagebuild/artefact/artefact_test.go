package artefact

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/imagebuild"
	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/plan"
	"nutshell/imagebuild/recipe"
	"nutshell/imagebuild/tree"
	"nutshell/roles/api"
)

// container makes a small image of a container in out.
func container(t *testing.T, out string, key ed25519.PrivateKey) Manifest {
	t.Helper()
	layer := filepath.Join(t.TempDir(), "layer")
	for name, text := range map[string]string{"etc/hostname": "a\n", "etc/ssh/ssh_host_rsa_key": "secret", "usr/bin/sh": "#!/bin/sh\n"} {
		p := filepath.Join(layer, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	chain := []recipe.Recipe{{Name: "small", Title: "A small one", Packages: []string{"dash"}, Remove: []string{"/etc/ssh/ssh_host_*"}}}
	work, err := plan.Begin(out, "small")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := work.End(); err != nil {
			t.Error(err)
		}
	}()
	install := func(root *tree.Tree, i recipe.Image) error {
		root.Write("/etc/profile-is", []byte(i.Profile), 0o644)
		return nil
	}
	b := &build{work: work, unwanted: map[string][]string{strings.Repeat("a", 64): chain[0].Remove}, layers: []imagebuild.Layer{{Name: "small", Suite: "trixie", Digest: strings.Repeat("a", 64), Dir: layer, Installed: map[string]string{"dash": "0.5"}}},
		Job: Job{Chain: chain, Image: recipe.Image{Formats: []recipe.Format{recipe.LXC, recipe.Unified}, Profile: "instance"}, Kinds: []Kind{{Name: "php"}}, Arch: "amd64",
			Program: filepath.Join(layer, "usr/bin/sh"), Version: "1", Install: install, Out: out, Name: "small", Time: time.Unix(1_700_000_000, 0), Key: key}}
	nothing := func(string, float64) {}
	if err := errors.Join(b.makeRoot(t.Context(), nothing), b.makeSplit(t.Context(), nothing), b.makeUnified(t.Context(), nothing)); err != nil {
		t.Fatal(err)
	}
	m, err := b.seal()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSameInputSameBytes(t *testing.T) {
	key, err := OpenKey(filepath.Join(t.TempDir(), "data", "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	one, two := t.TempDir(), t.TempDir()
	m := container(t, one, key)
	container(t, two, key)
	if len(m.Files) != 3 || m.Packages["dash"] != "0.5" || m.Services[0] != "php" || m.Program.SHA256 == "" {
		t.Errorf("got manifest %+v", m)
	}
	left, err := os.ReadDir(one)
	if err != nil || len(left) != 6 {
		t.Errorf("got %v, %v; want three files and three beside them", left, err)
	}
	for _, f := range left {
		a, err := os.ReadFile(filepath.Join(one, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(two, f.Name()))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %v", f.Name(), err)
		}
	}
}

// What is asked for beforehand is what lies there at the worst moment: less, and
// a build fails when it is almost done; more, and one that would do is refused.
func TestPeak(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name    string
		formats []recipe.Format
		packed  int64 // of 800 MB
		want    int64 // MB
	}{
		{"container", []recipe.Format{recipe.Unified}, 0, 400 + 192},
		{"container-twice", []recipe.Format{recipe.LXC, recipe.Unified}, 0, 800 + 192},
		{"disk", []recipe.Format{recipe.QCOW2}, 0, 2000 + 192},
		{"disk-twice", []recipe.Format{recipe.QCOW2, recipe.Raw}, 0, 2000 + 192},
		{"machine", []recipe.Format{recipe.OVA}, 0, 2000 + 192},
		{"machine-of-packed-layers", []recipe.Format{recipe.OVA}, 600, 1000 + 1400 + 192},
		{"card", []recipe.Format{recipe.SDCard}, 0, 2000 + 192},
		{"all", []recipe.Format{recipe.OVA, recipe.QCOW2, recipe.Raw, recipe.SDCard}, 0, 1000 + 800 + 2000 + 192},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := peak(c.formats, 800*mb, c.packed*mb) / mb; got != c.want {
				t.Errorf("got %d MB, want %d", got, c.want)
			}
		})
	}
}

func TestCheckNamesWhatWasChanged(t *testing.T) {
	dir := t.TempDir()
	key, err := OpenKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	container(t, dir, key)
	trusted := Checks{Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}}
	r, err := Check(t.Context(), filepath.Join(dir, "small.tar.zst"), trusted)
	if err != nil || r.Signer != Fingerprint(trusted.Keys[0]) || len(r.Files) != 1 {
		t.Errorf("got %+v, %v; want it good", r, err)
	}
	if r, err = Check(t.Context(), filepath.Join(dir, "small.json"), trusted); err != nil || len(r.Files) != 3 {
		t.Errorf("got %+v, %v; want all of it good", r, err)
	}
	stranger, err := OpenKey(filepath.Join(t.TempDir(), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	others := Checks{Keys: []ed25519.PublicKey{stranger.Public().(ed25519.PublicKey)}}
	for _, c := range []struct {
		name, file string
		how        func(file string) error
		checks     Checks
		want       string
	}{
		{"one-byte", "small-rootfs.tar.zst", flip, trusted, "small-rootfs.tar.zst: it was changed"},
		{"cut-off", "small.tar.zst", func(f string) error { return os.Truncate(f, 1000) }, trusted, "small.tar.zst: it was changed, or not written to its end"},
		{"manifest", "small.json", flip, trusted, "small.json: it was changed"},
		{"sums", "small.sha256", flip, trusted, "small.sha256 was changed"},
		{"signature-gone", "small.sig", os.Remove, trusted, "its signature is missing"},
		{"sums-gone", "small.sha256", os.Remove, trusted, "its sums are missing"},
		{"part-gone", "small-meta.tar.zst", os.Remove, trusted, "small-meta.tar.zst: it is missing"},
		{"somebody-else", "small.tar.zst", func(string) error { return nil }, others, "somebody else's"},
		{"changed-though-unsigned", "small.tar.zst", flip, Checks{Unsigned: true}, "small.tar.zst: it was changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			container(t, dir, key)
			if err := c.how(filepath.Join(dir, c.file)); err != nil {
				t.Fatal(err)
			}
			_, err := Check(t.Context(), filepath.Join(dir, "small.json"), c.checks)
			if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want invalid with %q", err, c.want)
			}
		})
	}
	if _, err := Check(t.Context(), filepath.Join(dir, "letter.txt"), trusted); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a letter: got %v", err)
	}
	if _, err := Check(t.Context(), filepath.Join(dir, "none.ova"), trusted); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("nothing: got %v", err)
	}
}

// TestSignatureCoversTheManifest gives an image the sums and the signature of
// another one of the same maker: what those say must not be said of it.
func TestSignatureCoversTheManifest(t *testing.T) {
	dir := t.TempDir()
	key, err := OpenKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	container(t, dir, key)
	for _, end := range []string{sumsEnd, signatureEnd} {
		if err := os.Link(filepath.Join(dir, "small"+end), filepath.Join(dir, "evil"+end)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "evil.json"), []byte(`{"files":[{"name":"small.tar.zst","format":"unified"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	trusted := Checks{Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}}
	for _, end := range []string{manifestEnd, sumsEnd, signatureEnd} {
		if r, err := Check(t.Context(), filepath.Join(dir, "evil"+end), trusted); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "evil.json") {
			t.Errorf("evil%s: got %+v, %v", end, r, err)
		}
	}
}

// TestSumsAreReadToTheirEnd: neither a long line nor a name that comes twice
// hides what follows.
func TestSumsAreReadToTheirEnd(t *testing.T) {
	for name, change := range map[string]func(sums string) string{
		"long-line": func(s string) string { return s + strings.Repeat("x", 100_000) + "\n" },
		"twice":     func(s string) string { return s + s },
		"outside":   func(s string) string { return s + strings.Repeat("0", 64) + "  ../key.pem\n" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			key, err := OpenKey(filepath.Join(dir, "key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			container(t, dir, key)
			file := filepath.Join(dir, "small"+sumsEnd)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(change(string(b))), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Check(t.Context(), file, Checks{Unsigned: true}); api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("got %v", err)
			}
		})
	}
}

// flip changes one bit in the middle.
func flip(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(file, b, 0o644)
}

// The signature must be checkable without us.
func TestOpensslAgrees(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl to ask")
	}
	dir := t.TempDir()
	key, err := OpenKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	container(t, dir, key)
	public, err := PublicPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	pub := filepath.Join(dir, "key.pub")
	if err := os.WriteFile(pub, public, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "openssl", "pkeyutl", "-verify", "-pubin", "-inkey", pub, "-rawin", "-in", filepath.Join(dir, "small.sha256"), "-sigfile", filepath.Join(dir, "small.sig")).CombinedOutput(); err != nil {
		t.Errorf("openssl: %v: %s", err, out)
	}
	sums := exec.CommandContext(t.Context(), "sha256sum", "--quiet", "-c", "small.sha256")
	sums.Dir = dir
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v: %s", err, out)
	}
	if again, err := OpenKey(filepath.Join(dir, "key.pem")); err != nil || !again.Equal(key) {
		t.Errorf("the key was not kept: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "key.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info.Mode(), err)
	}
}

func TestJobsThatCannotBe(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := func() Job {
		return Job{Store: &imagebuild.Store{}, Tools: &imagebuild.Store{}, Chain: []recipe.Recipe{{Name: "a"}}, Name: "a", Key: key, Arch: "amd64", Out: t.TempDir(),
			Install: func(*tree.Tree, recipe.Image) error { return nil }, Image: recipe.Image{Formats: []recipe.Format{recipe.Raw}}}
	}
	for _, c := range []struct {
		name, want string
		spoil      func(*Job)
	}{
		{"no-formats", "nothing to make", func(j *Job) { j.Image.Formats = nil }},
		{"other-arch", "not for amd64", func(j *Job) { j.Image.Arch = []string{"arm64"} }},
		{"no-key", "required", func(j *Job) { j.Key = nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := good()
			c.spoil(&j)
			if _, err := Build(t.Context(), j); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left, _ := os.ReadDir(j.Out); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestDisk makes a whole disk and all that is made of it, twice. It needs the
// layers of a machine, so it runs where a store of them is given.
func TestDisk(t *testing.T) {
	dir := os.Getenv("NUTSHELL_TEST_IMAGES")
	if os.Getenv("NUTSHELL_APPLIANCE_TEST") != "1" || dir == "" {
		t.Skip("needs NUTSHELL_APPLIANCE_TEST=1 and NUTSHELL_TEST_IMAGES")
	}
	s, err := imagebuild.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r, err := recipe.Load("server")
	if err != nil {
		t.Fatal(err)
	}
	chain, err := recipe.Chain(r)
	if err != nil {
		t.Fatal(err)
	}
	image, _ := recipe.Resolve(chain)
	image.Formats, image.DiskGB = []recipe.Format{recipe.OVA, recipe.QCOW2, recipe.Raw}, 3
	key, err := OpenKey(filepath.Join(t.TempDir(), "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	var made [2]Manifest
	for i := range made {
		made[i], err = Build(t.Context(), Job{Store: s, Tools: s, Chain: chain, Image: image, Arch: "amd64", Program: os.Args[0], Version: "1", Out: out, Name: "disk", Key: key,
			Install: func(*tree.Tree, recipe.Image) error { return nil }})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range made[0].Files {
		if f != made[1].Files[i] {
			t.Errorf("made twice: %+v and %+v", f, made[1].Files[i])
		}
	}
	c := Checks{Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, Tools: func(ctx context.Context) (*disk.Tools, error) { return OpenTools(ctx, s) }}
	if r, err := Check(t.Context(), filepath.Join(out, "disk.json"), c); err != nil || len(r.Files) != 3 {
		t.Errorf("got %+v, %v", r, err)
	}
}
