package director

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// gitUser is a person with a key and the stock git client.
type gitUser struct {
	client
	dir string
	key string // file of the private key
}

// git makes a key of a type and gives it to the director.
func (c client) gitUser(kind string, bits ...string) gitUser {
	t := c.h.t
	t.Helper()
	for _, tool := range []string{"git", "ssh", "ssh-keygen"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is missing: apt-get install git openssh-client", tool)
			}
			t.Skipf("%s is missing: apt-get install git openssh-client", tool)
		}
	}
	g := gitUser{client: c, dir: t.TempDir()}
	g.key = filepath.Join(g.dir, "key")
	g.run(g.dir, "ssh-keygen", append([]string{"-q", "-t", kind, "-N", "", "-C", "laptop of somebody", "-f", g.key}, bits...)...)
	return g
}

func (g gitUser) public() string {
	g.h.t.Helper()
	b, err := os.ReadFile(g.key + ".pub")
	if err != nil {
		g.h.t.Fatal(err)
	}
	return string(b)
}

func (g gitUser) add() (added []api.Key) {
	g.h.t.Helper()
	g.must("POST", "/keys", api.AddKey{Text: g.public()}, &added, 201)
	return added
}

func (g gitUser) try(dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "HOME="+g.dir, "LC_ALL=C", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=a@b.org", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=a@b.org",
		"GIT_SSH_COMMAND=ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no -o UserKnownHostsFile="+filepath.Join(g.dir, "known")+
			" -o ControlPath="+filepath.Join(g.dir, "c")+" -i "+g.key)
	out, err := c.CombinedOutput()
	return string(out), err
}

func (g gitUser) run(dir, name string, args ...string) string {
	g.h.t.Helper()
	out, err := g.try(dir, name, args...)
	if err != nil {
		g.h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// says runs git, whose output must have each of the texts.
func (g gitUser) says(dir string, args []string, want ...string) {
	g.h.t.Helper()
	out := g.run(dir, "git", args...)
	for _, w := range want {
		if !strings.Contains(out, w) {
			g.h.t.Errorf("git %s does not say %q:\n%s", strings.Join(args, " "), w, out)
		}
	}
}

func (g gitUser) refusedGit(want, dir string, args ...string) {
	g.h.t.Helper()
	if out, err := g.try(dir, "git", args...); err == nil || !strings.Contains(out, want) {
		g.h.t.Errorf("git %s: %v, want a failure with %q:\n%s", strings.Join(args, " "), err, want, out)
	}
}

func (g gitUser) repository(app string) (r api.Repository) {
	g.h.t.Helper()
	g.must("GET", "/applications/"+app+"/repository", nil, &r, 200)
	return r
}

// clone clones an application's repository and puts files into a commit.
func (g gitUser) clone(url, name string) string {
	g.h.t.Helper()
	g.run(g.dir, "git", "clone", "-q", url, name)
	w := filepath.Join(g.dir, name)
	g.run(w, "git", "checkout", "-q", "-B", "main")
	return w
}

func (g gitUser) commit(dir, message string, files map[string]string) {
	g.h.t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			g.h.t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			g.h.t.Fatal(err)
		}
	}
	g.run(dir, "git", "add", "-A")
	g.run(dir, "git", "commit", "-q", "-m", message)
}

func push(args ...string) []string { return append([]string{"push", "origin"}, args...) }

func TestKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob := h.user("ann"), h.user("bob")
	ann.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	ann.must("POST", "/applications", api.CreateApplication{Name: "my first app"}, nil, 201)
	for _, k := range [][]string{{"ed25519"}, {"ecdsa"}, {"ecdsa", "-b", "521"}, {"rsa", "-b", "2048"}} {
		g := ann.gitUser(k[0], k[1:]...)
		g.refusedGit("Permission denied", g.dir, "ls-remote", g.repository("shop").URL)
		added := g.add()
		if len(added) != 1 || added[0].Name != "laptop of somebody" || !strings.HasPrefix(added[0].Fingerprint, "SHA256:") || !added[0].Used.IsZero() {
			t.Errorf("added: %+v", added)
		}
		if again := g.add(); len(again) != 1 || again[0].ID != added[0].ID {
			t.Errorf("added again: %+v, want %s", again, added[0].ID)
		}
		g.run(g.dir, "git", "ls-remote", g.repository("shop").URL)
		g.run(g.dir, "git", "clone", "-q", g.repository("my%20first%20app").URL, "a")
		g.run(g.dir, "git", "ls-remote", strings.Replace(g.repository("shop").URL, "/ann/", "/", 1)) // one's own
		g.refusedGit("no such application", g.dir, "ls-remote", strings.Replace(g.repository("shop").URL, "shop", "other", 1))
	}
	var keys []api.Key
	ann.must("GET", "/keys", nil, &keys, 200)
	if len(keys) != 4 || keys[0].Used.IsZero() {
		t.Errorf("keys: %+v", keys)
	}
	bob.must("GET", "/keys", nil, &keys, 200)
	if len(keys) != 0 {
		t.Errorf("bob sees %+v", keys)
	}

	// The right key, another's application: as if it was not there.
	b := bob.gitUser("ed25519")
	b.add()
	shop := ann.gitUser("ed25519")
	url := shop.repository("shop").URL
	b.refusedGit("no such application", b.dir, "ls-remote", url)
	b.refusedGit("no such application", b.dir, "ls-remote", strings.Replace(url, "shop", "none", 1))
	root := h.admin.gitUser("ed25519")
	root.add()
	root.run(root.dir, "git", "ls-remote", url)
	bob.refused("GET", "/applications/shop/repository", nil, api.CodeNotFound)

	// Revoked: at once, also on a connection that is open.
	k := shop.add()[0]
	master := []string{"-c", "core.sshCommand=ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR -o UserKnownHostsFile=" + filepath.Join(shop.dir, "known") +
		" -o ControlMaster=auto -o ControlPersist=60 -o ControlPath=" + filepath.Join(shop.dir, "c") + " -i " + shop.key, "ls-remote", url}
	t.Cleanup(func() { _, _ = shop.try(shop.dir, "ssh", "-O", "exit", "-S", filepath.Join(shop.dir, "c"), "x") })
	noEnv := append([]string{"-u", "GIT_SSH_COMMAND", "git"}, master...)
	shop.run(shop.dir, "env", noEnv...)
	bob.refused("DELETE", "/keys/"+k.ID, nil, api.CodeNotFound)
	ann.must("DELETE", "/keys/"+k.ID, nil, nil, 204)
	if out, err := shop.try(shop.dir, "env", noEnv...); err == nil || !strings.Contains(out, "your key was revoked") {
		t.Errorf("a revoked key on an open connection: %v\n%s", err, out)
	}
	shop.run(shop.dir, "ssh", "-O", "exit", "-S", filepath.Join(shop.dir, "c"), "x")
	shop.refusedGit("Permission denied", shop.dir, "ls-remote", url)
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	good := ann.gitUser("ed25519")
	weak := ann.gitUser("rsa", "-b", "1024")
	private, err := os.ReadFile(good.key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, say string }{
		{"small-rsa", weak.public(), "1024 bits"},
		{"dsa", "ssh-dss AAAAB3NzaC1kc3MAAAAJAJLyspkA2ZJtAAAAFQCQf4jF3gAAAAAAAAAAAAAAAAAAAAAAAAAAAQIAAAABAw== old", "no"},
		{"private", string(private), "private key"},
		{"nothing", "# only words\n\n", "no public key"},
		{"nonsense", "hello", "no public key"},
		{"options", `command="rm -rf /" ` + good.public(), "options"},
		{"cut-off", good.public()[:40], "no public key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e := ann.refused("POST", "/keys", api.AddKey{Text: c.text}, api.CodeInvalid); !strings.Contains(e.Message, c.say) || e.Hint == "" {
				t.Errorf("got %+v, want words on %q", e, c.say)
			}
		})
	}
	ann.refused("POST", "/keys", api.AddKey{Text: good.public() + good.public(), Name: "two"}, api.CodeInvalid)
	ann.refused("POST", "/keys", api.AddKey{Text: strings.Repeat("#", 300<<10)}, api.CodeTooLarge)
}

// TestPushBecomesVersion is git push as a developer sees it.
func TestPushBecomesVersion(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.user("ann").gitUser("ed25519")
	g.add()
	g.running("my shop")
	path := "/applications/1/services/test"
	w := g.clone(g.repository("1").URL, "w")

	g.commit(w, "first page", map[string]string{"1/index.html": "one", "1/lib/a.txt": "a", "README": "about"})
	g.says(w, push("main"), "remote: test (service 1): version git-", " of 1, 2 files: first page", "do it", "serves at")
	var versions []api.CodeVersion
	g.must("GET", path+"/versions", nil, &versions, 200)
	head := strings.TrimSpace(g.run(w, "git", "rev-parse", "HEAD"))
	if len(versions) != 2 || versions[0].ID != "git-"+head[:7] || versions[0].Description != "first page" || versions[0].By != "ann" || !versions[0].Current || versions[0].Files != 2 {
		t.Errorf("versions: %+v", versions)
	}
	if s := g.service(path); s.Version != versions[0].ID {
		t.Errorf("service: %+v", s)
	}
	r := g.repository("1")
	if r.Commit != head || r.Subject != "first page" || r.Branch != "main" || len(r.Folders) != 1 || r.Folders[0].Found != "1" || r.Folders[0].Version != versions[0].ID ||
		r.Pushed.IsZero() || r.Bytes == 0 || !strings.HasPrefix(r.HostKey, "SHA256:") || !strings.HasSuffix(r.Clone, "/ann/my%20shop 'my shop'") {
		t.Errorf("repository: %+v", r)
	}

	g.commit(w, "words only", map[string]string{"README": "more"})
	g.says(w, push("main"), "test (service 1): 1 is unchanged, as in "+versions[0].ID)
	g.says(w, push("main:next"), "made of the branch main, which did not change")

	off := false
	g.must("PATCH", path, api.ChangeService{AutoDeploy: &off}, nil, 200)
	g.run(w, "git", "mv", "1", "test") // the name of the service does as well
	g.commit(w, "second page", map[string]string{"test/index.html": "two"})
	g.says(w, push("main"), "of test, 2 files: second page", "To activate it: nutshell service enable-code 1 1 git-")
	if s := g.service(path); s.Version != versions[0].ID {
		t.Errorf("activated in spite of auto_deploy=false: %+v", s)
	}

	on := true
	g.must("PATCH", path, api.ChangeService{AutoDeploy: &on}, nil, 200)
	h.mu.Lock()
	h.fail[serviceActivate] = &api.Error{Code: api.CodeUnavailable, Op: "activate", Object: "service test", Message: "the page / answers 500", LogTail: []string{"PHP Fatal error: oops"}}
	h.mu.Unlock()
	g.commit(w, "broken page", map[string]string{"test/index.html": "three"})
	g.says(w, push("main"), "is NOT active: activate service test: the page / answers 500", "| PHP Fatal error: oops", versions[0].ID+" serves as before")
	h.mu.Lock()
	h.fail = map[string]error{}
	h.mu.Unlock()

	// Back by force to what was: the version of then.
	g.run(w, "git", "reset", "-q", "--hard", head)
	g.commit(w, "again", map[string]string{"1/index.html": "four"})
	g.says(w, push("--force", "main"), "of 1, 2 files: again", "serves at")
	g.run(w, "git", "reset", "-q", "--hard", head)
	g.says(w, push("--force", "main"), "version git-"+head[:7])
	if s := g.service(path); s.Version != "git-"+head[:7] {
		t.Errorf("after going back: %+v", s)
	}

	// A stopped service takes it for later.
	g.done("POST", path+"/stop", nil)
	g.commit(w, "for later", map[string]string{"1/index.html": "five"})
	g.says(w, push("main"), "is the current version and serves when the service is started")

	// The path follows the name; deleting takes the repository along.
	g.must("PATCH", "/applications/1", api.Rename{Name: "boutique"}, nil, 200)
	g.refusedGit("no such application", w, "fetch")
	g.run(w, "git", "remote", "set-url", "origin", g.repository("boutique").URL)
	g.run(w, "git", "fetch", "-q")
	g.done("DELETE", "/applications/boutique", nil)
	h.eventually("the repository to go", func() bool {
		_, err := os.Stat(filepath.Join(h.dir, "git", "1.git"))
		return os.IsNotExist(err)
	})
	g.refusedGit("no such application", w, "fetch")
	var log []api.AuditEntry
	h.admin.must("GET", "/audit?limit=500", nil, &log, 200)
	pushes := 0
	for _, e := range log {
		if e.Action == "git.push" && e.Actor == "ann" && e.From == "127.0.0.1" && strings.Contains(e.Object, "refs/heads/") {
			pushes++
		}
	}
	if pushes != 8 {
		t.Errorf("%d pushes in the audit, want 8", pushes)
	}
}

// TestPushThatIsNoVersion pushes folders that cannot be a version: the push
// itself is taken, and it says why.
func TestPushThatIsNoVersion(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.user("ann").gitUser("ed25519")
	g.add()
	g.running("shop")
	w := g.clone(g.repository("shop").URL, "w")
	g.commit(w, "no folder", map[string]string{"php/index.php": "1"})
	g.says(w, push("main"), "test (service 1): no version: the repository has no folder 1 or test")
	g.commit(w, "a file", map[string]string{"test": "1"})
	g.says(w, push("main"), `no version: "test" is a file`)
	g.run(w, "git", "rm", "-q", "test")

	if err := os.MkdirAll(filepath.Join(w, "1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"up": "../../etc/passwd", "root": "/etc/passwd"} {
		link := filepath.Join(w, "1", name)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		g.commit(w, "link "+name, map[string]string{"1/index.html": name})
		g.says(w, push("main"), `no version: "1/`+name+`" is a symbolic link to`, "outside of the service's folder")
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(w, "1", "caf\xe9.html"), nil, 0o644); err != nil {
		t.Skip("this file system has no such names: ", err)
	}
	g.commit(w, "latin", nil)
	g.says(w, push("main"), `no version: the name "1/caf\xe9.html" is not UTF-8`, "git mv")
	g.commit(w, "nothing new", map[string]string{"README": "x"})
	g.says(w, push("main"), "no version: 1 is as it was when it was refused")
	g.run(w, "git", "rm", "-q", "-f", "1/caf\xe9.html")

	// What is missing in the version keeps it from being activated.
	before := g.service("/applications/1/services/1").Version
	g.commit(w, "lfs", map[string]string{"1/logo.png": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"})
	g.says(w, push("main"), `WARNING: "1/logo.png" is a Git LFS pointer`, "It is not activated")
	g.run(w, "git", "rm", "-q", "1/logo.png")
	g.run(w, "git", "update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("a", 40)+",1/vendor")
	g.run(w, "git", "commit", "-q", "-m", "submodule")
	g.says(w, push("main"), `WARNING: "1/vendor" is a submodule`, "It is not activated")
	if s := g.service("/applications/1/services/1"); s.Version != before {
		t.Errorf("activated: %s", s.Version)
	}
	out, err := exec.Command("git", "--git-dir", filepath.Join(h.dir, "git/1.git"), "fsck", "--full", "--no-dangling").CombinedOutput()
	if err != nil || len(out) > 0 && !strings.Contains(string(out), "notice:") {
		t.Errorf("git fsck: %v\n%s", err, out)
	}
}

// TestPushGoesOn ends a director between what a push did and what was to come
// of it: the next one does the rest.
func TestPushGoesOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	g := ann.gitUser("ed25519")
	g.add()
	g.running("shop")
	path := "/applications/1/services/test"
	w := g.clone(g.repository("shop").URL, "w")
	g.commit(w, "one", map[string]string{"1/index.html": "one"})
	g.run(w, "git", "push", "-q", "origin", "main")
	first := g.service(path).Version
	g.commit(w, "two", map[string]string{"1/index.html": "two"})
	g.run(w, "git", "push", "-q", "origin", "main")
	second := g.service(path).Version
	if first == second || !strings.HasPrefix(second, "git-") {
		t.Fatalf("versions: %s, %s", first, second)
	}
	restart := func() {
		t.Helper()
		h.stopDirector()
		h.start()
		g.client = client{h: h, http: h.admin.http, auth: ann.auth}
	}
	change := func(do func(ctx context.Context, tx *store.Tx) error) {
		t.Helper()
		if err := h.d.store.Write(t.Context(), func(tx *store.Tx) error { return do(t.Context(), tx) }); err != nil {
			t.Fatal(err)
		}
	}

	// Killed behind the change of the branch: nothing was looked at yet.
	g.must("POST", path+"/activate", api.Activate{Version: first}, nil, 202)
	h.eventually("the first version", func() bool { return g.service(path).Serving == first && g.service(path).Operation == "" })
	g.must("DELETE", path+"/versions/"+second, nil, nil, 204)
	repo, folders, err := h.d.store.Repository(t.Context(), 1)
	if err != nil || len(folders) != 1 {
		t.Fatal(folders, err)
	}
	change(func(ctx context.Context, tx *store.Tx) error {
		repo.Head = ""
		folder := folders[0]
		folder.Tree, folder.Version = strings.Repeat("0", 40), first
		return errors.Join(tx.SaveRepository(ctx, 1, repo), tx.SaveFolder(ctx, 1, folder))
	})
	restart()
	h.eventually("the second version again", func() bool { return g.service(path).Version == second && g.service(path).Operation == "" })

	// Killed behind the version: it was not activated yet.
	g.done("POST", path+"/activate", api.Activate{Version: first})
	change(func(ctx context.Context, tx *store.Tx) error {
		folder := folders[0]
		folder.Pending = true
		return tx.SaveFolder(ctx, 1, folder)
	})
	restart()
	h.eventually("the activation", func() bool { return g.service(path).Version == second })
	h.eventually("nothing to be left", func() bool {
		waiting, err := h.d.store.PendingRepositories(t.Context())
		return err == nil && len(waiting) == 0
	})
}
