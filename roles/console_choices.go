package roles

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"nutshell/appliance/machine"
	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
)

// account is the person's account on the machine; the pages have another admin.
const account = "admin"

// prove asks for the password of admin where somebody has set one: a screen in
// a room is open to more people than a machine on a laptop.
func (c *console) prove(ctx context.Context) error {
	if c.proved || !hasPassword("/etc/shadow", account) {
		return nil
	}
	password, err := c.askSecret("password of " + account + " on this machine")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/sbin/unix_chkpwd", account, "nullok")
	cmd.Stdin = strings.NewReader(password + "\x00")
	if err := cmd.Run(); err != nil {
		return &api.Error{Code: api.CodeUnauthorized, Op: "go on", Message: "this is not the password", Hint: "who has lost it starts the machine with init=/bin/bash"}
	}
	c.proved = true
	return nil
}

// hasPassword reports whether an account can sign in by a password.
func hasPassword(shadow, name string) bool {
	b, err := os.ReadFile(shadow)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(line, ":"); len(f) > 1 && f[0] == name {
			return f[1] != "" && f[1][0] != '!' && f[1][0] != '*'
		}
	}
	return false
}

func (c *console) resetPassword(ctx context.Context) error {
	if answer, err := c.ask("the old one ends. Make a new one? yes or no", "no"); err != nil || answer != "yes" {
		return errors.Join(errGivenUp, err)
	}
	client, err := localClient(c.dir)
	if err != nil {
		return err
	}
	defer client.HTTP.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	password := auth.NewPassword()
	if err := client.Do(ctx, http.MethodPatch, "/api/v1/users/admin", api.ChangeUser{Password: &password}, nil); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "\n  The user admin of the pages has the password  %s\n  It is not shown again. Change it on the pages: Profile.\n", password)
	return nil
}

func (c *console) changeNetwork(ctx context.Context) error {
	f, err := c.machine.Facts()
	if err != nil {
		return err
	}
	if _, pending, err := c.machine.Pending(); err != nil || pending {
		if err != nil {
			return err
		}
		return c.confirmNetwork(ctx)
	}
	if f.Network == nil {
		return &api.Error{Code: api.CodeInvalid, Op: "change addresses", Message: "those of this machine are given by the network it is in"}
	}
	n := *f.Network
	c.say("Enter keeps what is in brackets. Take the network of VirtualBox's host-only adapter, and a range outside of its DHCP server's.")
	answers := map[string]string{}
	for _, q := range []struct{ name, text, now string }{
		{"address", "this machine", n.Address.String()},
		{"range", "instances", n.First.String() + "-" + n.Last.String()},
		{"gateway", "router of this network, or none", orNone(n.Gateway.IsValid(), n.Gateway.String())},
		{"containers", "network behind this machine", n.Containers.String()},
	} {
		if to, err := netip.ParsePrefix(answers["address"]); q.name == "range" && err == nil {
			q.now = inNetwork(n.First, to) + "-" + inNetwork(n.Last, to)
		}
		if answers[q.name], err = c.ask(q.text, q.now); err != nil {
			return err
		}
	}
	if n, err = changedNetwork(n, func(name string) string { return answers[name] }); err != nil {
		return err
	}
	used, err := machine.Used(n.Interface)
	if err != nil {
		return err
	}
	if err := c.machine.SetNetwork(ctx, n, used); err != nil {
		return err
	}
	return c.confirmNetwork(ctx)
}

func orNone(ok bool, s string) string {
	if ok {
		return s
	}
	return "none"
}

// inNetwork is the address that has a's place in another network.
func inNetwork(a netip.Addr, to netip.Prefix) string {
	if !a.Is4() || !to.Addr().Is4() {
		return a.String()
	}
	host, net := a.As4(), to.Masked().Addr().As4()
	for i := range host {
		mask := ^byte(0xff >> min(8, max(0, to.Bits()-8*i)))
		host[i] = net[i] | host[i]&^mask
	}
	return netip.AddrFrom4(host).String()
}

// confirmNetwork waits for a yes as long as the change waits.
func (c *console) confirmNetwork(ctx context.Context) error {
	fmt.Fprintf(c.out, "  Try the new address. Keep it? Type yes within %.0f s; anything else goes back: ", machine.ConfirmTime.Seconds())
	ready, err := c.wait(ctx, machine.ConfirmTime)
	if err != nil {
		return err
	}
	answer := ""
	if ready {
		if answer, err = c.line(); err != nil {
			return err
		}
	}
	switch {
	case answer == "yes":
		return c.machine.Confirm(ctx)
	case !ready:
		c.say("nobody confirmed: the old addresses come back")
		return nil // the timer does it
	default:
		return c.machine.Revert(ctx, true)
	}
}

func (c *console) changeAccess(ctx context.Context) error {
	home := "/home/" + account
	keys := filepath.Join(home, ".ssh/authorized_keys")
	have, err := os.ReadFile(keys)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	set := "no password"
	if hasPassword("/etc/shadow", account) {
		set = "a password"
	}
	c.say("ssh is open to %d keys of admin, who has %s", strings.Count(string(have), "\n"), set)
	answer, err := c.ask("k adds a key, p sets a password, n closes the door to all keys and passwords", "")
	if err != nil {
		return err
	}
	switch answer {
	case "k":
		return c.addKey(keys, have)
	case "p":
		c.proved = true // they are asked for the new one twice
		return c.program(ctx, "passwd", account)
	case "n":
		if err := os.Remove(keys); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return c.program(ctx, "passwd", "--lock", account)
	}
	return errGivenUp
}

// keyKinds are those that sshd of Debian takes.
var keyKinds = []string{"ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "sk-ecdsa-sha2-nistp256@openssh.com", "ssh-rsa"}

func (c *console) addKey(file string, have []byte) error {
	line, err := c.ask("the public key, one line such as ssh-ed25519 AAAA... name", "")
	if err != nil {
		return err
	}
	words := strings.Fields(line)
	if len(words) < 2 || !slices.Contains(keyKinds, words[0]) {
		return &api.Error{Code: api.CodeInvalid, Op: "add", Object: "key " + api.Shorten(line), Message: "this is not a public key", Hint: "cat ~/.ssh/id_ed25519.pub shows one; paste the whole line"}
	}
	if b, err := base64.StdEncoding.DecodeString(words[1]); err != nil || len(b) < 32 {
		return &api.Error{Code: api.CodeInvalid, Op: "add", Object: "key " + api.Shorten(line), Message: "it was cut off on its way", Hint: "paste the whole line"}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if len(have) > 0 && have[len(have)-1] != '\n' { // a line that somebody wrote by hand
		line = "\n" + line
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := giveTo(account, filepath.Dir(file), file); err != nil {
		return err
	}
	c.say("ssh %s@ADDRESS works for this key now", account)
	return nil
}

// giveTo makes files an account's own.
func giveTo(name string, files ...string) error {
	return exec.Command("chown", append([]string{name + ":" + name}, files...)...).Run() //nolint:noctx // a moment
}

func (c *console) upgrade(ctx context.Context) error {
	c.say("Copy the new nutshell to this machine (scp), and name it here.")
	file, err := c.ask("file", "")
	if err != nil {
		return err
	}
	return c.machine.Upgrade(ctx, file)
}

// shell gives the screen over. Who leaves the shell gets the menu again,
// because systemd starts it anew.
func (c *console) shell(context.Context) error {
	if c.fd < 0 {
		return io.EOF
	}
	fmt.Fprintln(c.out)
	return syscall.Exec("/usr/bin/login", []string{"login", "-f", "root"}, append(os.Environ(), "HOME=/root"))
}

func (c *console) power(ctx context.Context) error {
	answer, err := c.ask("r starts again, o switches off", "")
	switch {
	case err != nil:
		return err
	case answer == "r":
		return c.program(ctx, "systemctl", "reboot")
	case answer == "o":
		return c.program(ctx, "systemctl", "poweroff")
	}
	return errGivenUp
}

// program runs a program that speaks with the person itself.
func (c *console) program(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.p.Stdin, c.out, c.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
