package roles

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/appliance"
	"nutshell/appliance/machine"
	"nutshell/roles/api"
)

func TestNotify(t *testing.T) {
	t.Chdir(t.TempDir())
	const name = "notify" // its whole path may be longer than the kernel takes
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	if err := notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		b := make([]byte, 64)
		_ = l.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if got := read(); got != "READY=1" {
		t.Errorf("got %q", got)
	}
	t.Setenv("WATCHDOG_USEC", "30000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan struct{}, 100)
	busy := 3 // times that it does not answer at first
	go watched(ctx, func(context.Context) error {
		asked <- struct{}{}
		if busy--; busy >= 0 {
			return context.DeadlineExceeded
		}
		return nil
	})
	for range 4 {
		<-asked
	}
	if got := read(); got != "WATCHDOG=1" {
		t.Errorf("got %q", got)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify("READY=1"); err != nil {
		t.Errorf("without systemd: %v", err)
	}
}

func TestFirstPasswordGoesToAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run", "password")
	if left, err := writePassword(file, "secret"); err != nil || left != "" {
		t.Fatalf("got %q, %v", left, err)
	}
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", st, err)
	}
	if left, _ := writePassword("", "secret"); left != "secret" {
		t.Errorf("without a file it is shown, got %q", left)
	}
	if _, err := writePassword("/proc/none/password", "secret"); err == nil || !strings.Contains(err.Error(), "secret") {
		t.Errorf("a password that cannot be kept must be shown: %v", err)
	}
}

// keyboard is a console that is typed into.
func keyboard(t *testing.T, typed string) (*console, *bytes.Buffer) {
	t.Helper()
	out := &bytes.Buffer{}
	return &console{p: &Program{Stdout: out}, in: bufio.NewReader(strings.NewReader(typed)), out: out, fd: -1, dir: t.TempDir(), machine: &machine.Machine{Root: t.TempDir()}}, out
}

func TestConsoleShowsItselfWithoutADirector(t *testing.T) {
	c, out := keyboard(t, "\nnonsense\n")
	_ = c.run(t.Context()) // ends with the keyboard
	for _, want := range []string{"does not answer yet", "memory", "disk", "1  new password", "6  start again"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestConsoleTakesKeys(t *testing.T) {
	for _, line := range []string{"", "hello", "ssh-dss AAAA", "ssh-ed25519 AAAA", "ssh-ed25519 $(reboot)"} {
		c, _ := keyboard(t, line+"\n")
		file := filepath.Join(t.TempDir(), "keys")
		if err := c.addKey(file, nil); err == nil {
			t.Errorf("%q is taken as a key", line)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%q was written", line)
		}
	}
}

func TestHasPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shadow")
	if err := os.WriteFile(file, []byte("root:*:1::::::\nadmin:!*:1::::::\nann:$y$abc:1::::::\nbob::1::::::\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"root": false, "admin": false, "ann": true, "bob": false, "nobody": false} {
		if got := hasPassword(file, name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestAddressesAsTyped(t *testing.T) {
	now, _ := appliance.Plan(appliance.Director)
	given := map[string]string{"address": "192.168.60.2/24", "range": "192.168.60.10 - 192.168.60.99", "gateway": "192.168.60.1", "name": "lab.example.org", "dns": "192.168.60.1, 9.9.9.9"}
	n, err := changedNetwork(now, func(s string) string { return given[s] })
	if err != nil || n.Address.String() != "192.168.60.2/24" || n.Last.String() != "192.168.60.99" || n.Gateway.String() != "192.168.60.1" || len(n.Servers) != 2 || n.Names[0] != "lab.example.org" || n.Containers != now.Containers {
		t.Errorf("got %+v, %v", n, err)
	}
	if n, err = changedNetwork(n, func(s string) string { return map[string]string{"gateway": "none"}[s] }); err != nil || n.Gateway != (netip.Addr{}) {
		t.Errorf("got %+v, %v", n, err)
	}
	for name, value := range map[string]string{"address": "192.168.60.2", "range": "192.168.60.10", "gateway": "router", "containers": "10.0.0.0", "dns": "a,b", "name": "-x", "interface": "../eth0"} {
		if _, err := changedNetwork(now, func(s string) string { return map[string]string{name: value}[s] }); err == nil || api.AsError(err).Hint == "" {
			t.Errorf("--%s %s: got %v", name, value, err)
		}
	}
}

// TestRowsFitTheScreen: 80 columns, and characters that any font has.
func TestRowsFitTheScreen(t *testing.T) {
	for _, s := range []string{"short", strings.Repeat("long ", 40), "dots … and ✓", "two\nlines", "a\tb"} {
		got := firstLine(s)
		if len(got) > width || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q becomes %q", s, got)
		}
	}
	var told []string
	rows(func(_, s string) { told = append(told, s) }, strings.Repeat("five5 ", 30)+"end\nnot this")
	if len(told) != 3 || strings.Join(told, " ") != strings.Repeat("five5 ", 30)+"end" {
		t.Errorf("rows: %q", told)
	}
	c, _ := keyboard(t, "")
	for line := range strings.Lines(c.screen(t.Context())) {
		if len([]rune(strings.TrimSuffix(line, "\n"))) > 80 {
			t.Errorf("wider than the screen: %q", line)
		}
	}
}

// TestTextFitsTheScreen: what is said and what goes wrong breaks between words.
func TestTextFitsTheScreen(t *testing.T) {
	text := "use /etc/passwd: " + strings.Repeat("this is not a Linux program ", 12) + "(make one)\nsecond"
	for _, indent := range []string{"", "  "} {
		got := wrapped(text, indent)
		for line := range strings.Lines(got) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > columns || !strings.HasPrefix(line, indent) || strings.HasSuffix(line, " ") {
				t.Errorf("%q", line)
			}
		}
		if a, b := strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(text), " "); a != b {
			t.Errorf("got %q", a)
		}
	}
	if long := strings.Repeat("x", 100); wrapped(long, "  ") != "  "+long+"\n" {
		t.Errorf("got %q", wrapped(long, "  "))
	}
}

func TestOddClock(t *testing.T) {
	const made = "2026-11-23T01:00:00Z"
	for now, odd := range map[string]bool{"1970-01-01T00:00:10Z": true, "2026-11-20T00:00:00Z": true, "2026-11-22T12:00:00Z": false, "2030-01-01T00:00:00Z": false, "2040-01-01T00:00:00Z": true} {
		at, err := time.Parse(time.RFC3339, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := oddClock(at, made); (got != "") != odd || len(got) > width {
			t.Errorf("%s: got %q", now, got)
		}
		if got := oddClock(at, ""); got != "" {
			t.Errorf("a program that does not know when it was made says %q", got)
		}
	}
}

func TestInNetwork(t *testing.T) {
	for to, want := range map[string]string{"192.168.60.2/24": "192.168.60.99", "10.1.2.3/8": "10.168.56.99", "172.16.0.1/20": "172.16.8.99", "192.168.56.2/24": "192.168.56.99", "10.0.0.64/26": "10.0.0.99", "fd00::1/64": "192.168.56.99"} {
		if got := inNetwork(netip.MustParseAddr("192.168.56.99"), netip.MustParsePrefix(to)); got != want {
			t.Errorf("in %s: got %s, want %s", to, got, want)
		}
	}
}

func TestConsoleAddsAKey(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJqfdMQ8mWxXgYk9mI1zJb0lqvS0b8Yy6y0Nq2o5v1xk me"
	c, _ := keyboard(t, key+"\n")
	file := filepath.Join(t.TempDir(), "keys")
	have := []byte("ssh-ed25519 AAAA by-hand")
	if err := os.WriteFile(file, have, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = c.addKey(file, have) // the account is not on every machine
	if got, err := os.ReadFile(file); err != nil || string(got) != string(have)+"\n"+key+"\n" {
		t.Errorf("got %q, %v", got, err)
	}
}
