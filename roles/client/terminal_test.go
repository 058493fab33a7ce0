package client

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"nutshell/roles/api"
)

// person sits at a real terminal: sees what is printed and types.
type person struct {
	t    *testing.T
	ptm  *os.File
	mu   sync.Mutex
	seen bytes.Buffer
	read int // how much of seen was waited for
}

// atTerminal runs a command line with a terminal on all three streams.
func (w *world) atTerminal(line string, talk func(*person)) (screen string, exit int) {
	w.t.Helper()
	ptm, tty, err := pty.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = ptm.Close() }()
	if err := pty.Setsize(ptm, &pty.Winsize{Rows: 24, Cols: 100}); err != nil {
		w.t.Fatal(err)
	}
	p := &person{t: w.t, ptm: ptm}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 4096)
		for {
			n, err := ptm.Read(b)
			p.mu.Lock()
			p.seen.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	done := make(chan int)
	go func() {
		o := w.options()
		o.Stdin, o.Stdout, o.Stderr = tty, tty, tty
		done <- Main(w.t.Context(), splitWords(line), o)
		_ = tty.Close()
	}()
	talk(p)
	exit = <-done
	<-read
	return p.seen.String(), exit
}

// answer types a line when the screen shows a prompt.
func (p *person) answer(prompt, line string) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		p.mu.Lock()
		text := p.seen.String()
		p.mu.Unlock()
		if i := strings.Index(text[p.read:], prompt); i >= 0 {
			p.read += i + len(prompt)
			break
		}
		if time.Now().After(end) {
			p.t.Fatalf("the screen never showed %q:\n%s", prompt, text)
		}
	}
	if _, err := p.ptm.WriteString(line + "\n"); err != nil {
		p.t.Fatal(err)
	}
}

func silent(*person) {}

// alone takes the sign-in out of the environment.
func (w *world) alone() {
	for _, k := range []string{"NUTSHELL_DIRECTOR", "NUTSHELL_USER", "NUTSHELL_PASSWORD", "NUTSHELL_CA_SHA256"} {
		delete(w.env, k)
	}
}

func TestLoginAtTerminal(t *testing.T) {
	w := newWorld(t)
	w.alone()
	screen, exit := w.atTerminal("nutshell login "+w.URL, func(p *person) {
		p.answer("(yes/no) ", "yes")
		p.answer("User name: ", "admin")
		p.answer("Password of admin: ", fakePassword)
	})
	if exit != 0 || !strings.Contains(screen, showFingerprint(w.authority.RootSHA256())) {
		t.Fatalf("exit %d, screen:\n%s", exit, screen)
	}
	if strings.Contains(screen, fakePassword) {
		t.Errorf("the password was shown:\n%s", screen)
	}
	path := filepath.Join(w.env["HOME"], ".config", "nutshell", "client.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode of %s is %o, want 600", path, st.Mode().Perm())
	}
	if strings.Contains(string(b), fakePassword) || !strings.Contains(string(b), "nsh_secret1") {
		t.Errorf("want the token and no password in:\n%s", b)
	}
	if out, stderr, exit := w.run(t.Context(), "nutshell application list"); exit != 0 {
		t.Errorf("signed in, but exit %d: %s%s", exit, out, stderr)
	}
	if out, stderr, exit := w.run(t.Context(), "nutshell logout"); exit != 0 || len(w.tokens) != 0 {
		t.Errorf("logout: exit %d, %d tokens left: %s%s", exit, len(w.tokens), out, stderr)
	}
	if _, _, exit := w.run(t.Context(), "nutshell application list"); exit != api.CodeInvalid.Exit() {
		t.Errorf("signed out: exit %d, want %d", exit, api.CodeInvalid.Exit())
	}
}

func TestLoginIsRefused(t *testing.T) {
	w := newWorld(t)
	w.alone()
	good := w.authority.RootSHA256()
	for _, c := range []struct {
		name, line, stdin, want string
		exit                    int
	}{
		{"nobody-to-ask", "", fakePassword, "add --fingerprint " + good, 3},
		{"other-fingerprint", " --fingerprint " + strings.Repeat("ab", 32), fakePassword, "not the one given", 3},
		{"wrong-password", " --fingerprint " + good, "wrong", "name or password is wrong", 3},
		{"right", " --fingerprint SHA256:" + strings.ToUpper(good[:8]+":"+good[8:]), fakePassword, "Signed in", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			o := w.options()
			o.Stdin, o.Stdout, o.Stderr = strings.NewReader(c.stdin+"\n"), &out, &out
			exit := Main(t.Context(), splitWords("nutshell login "+w.URL+" --username admin --password-stdin"+c.line), o)
			if exit != c.exit || !strings.Contains(out.String(), c.want) {
				t.Errorf("exit %d, want %d with %q in:\n%s", exit, c.exit, c.want, out.String())
			}
		})
	}
	if len(w.tokens) != 1 {
		t.Errorf("%d tokens were made, want 1", len(w.tokens))
	}
}

func TestConfirmAtTerminal(t *testing.T) {
	for name, typed := range map[string]string{"other-name": "shop2", "the-name": "shop"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.run(t.Context(), "nutshell application create shop")
			w.run(t.Context(), "nutshell service add php shop")
			screen, exit := w.atTerminal("nutshell application delete 1", func(p *person) { p.answer("Type shop to go on: ", typed) })
			if !strings.Contains(screen, "code and settings in 1 service: php 'php'") {
				t.Errorf("it was not said what is lost:\n%s", screen)
			}
			if gone := len(w.apps) == 0; gone != (typed == "shop") || (exit == 0) != gone {
				t.Errorf("deleted %v, exit %d:\n%s", gone, exit, screen)
			}
		})
	}
}

func TestProgressAtTerminal(t *testing.T) {
	w := newWorld(t)
	w.env["TERM"] = "xterm"
	w.run(t.Context(), "nutshell application create shop")
	w.hold = make(chan struct{})
	screen, exit := w.atTerminal("nutshell application start shop", func(p *person) {
		for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
			p.mu.Lock()
			seen := strings.Contains(p.seen.String(), "[2/2] configure a1")
			p.mu.Unlock()
			if seen || time.Now().After(end) {
				break
			}
		}
		close(w.hold)
	})
	if exit != 0 || !strings.Contains(screen, "[2/2] configure a1") || !strings.HasSuffix(screen, "Application 'shop' with id 1 is starting... done.\r\n") {
		t.Errorf("exit %d, screen:\n%q", exit, screen)
	}
	w.hold = nil
	file := filepath.Join(t.TempDir(), "big.tar")
	if err := os.WriteFile(file, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run(t.Context(), "nutshell service add php shop")
	screen, exit = w.atTerminal("nutshell service upload-code shop php "+file, silent)
	if exit != 0 || !strings.Contains(screen, "3.00 MiB") || !strings.Contains(screen, "Code version code-pw1LK1 uploaded") {
		t.Errorf("exit %d, screen:\n%q", exit, screen)
	}
}

func TestPasswordAtTerminal(t *testing.T) {
	w := newWorld(t)
	screen, exit := w.atTerminal("nutshell user create bob", func(p *person) {
		p.answer("E-mail address of bob: ", "bob@example.org")
		p.answer("New password of bob: ", "one two three")
		p.answer("The same again: ", "one two four")
	})
	if exit != api.CodeInvalid.Exit() || w.users["bob"] != nil || !strings.Contains(screen, "differ") {
		t.Errorf("exit %d, screen:\n%s", exit, screen)
	}
	if _, exit = w.atTerminal("nutshell user passwd", func(p *person) {
		p.answer("New password of admin: ", "one two three")
		p.answer("The same again: ", "one two three")
	}); exit != 0 {
		t.Errorf("passwd: exit %d", exit)
	}
	want := `PATCH /users/admin {"password":"one two three","current":"` + fakePassword + `"}`
	if asked := w.take(); len(asked) != 1 || asked[0] != want {
		t.Errorf("asked %q, want %q", asked, want)
	}
}
