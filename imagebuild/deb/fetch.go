// Package deb makes archives of code out of web applications that Debian
// packages. Nothing is installed: packages are fetched with this machine's apt,
// unpacked into a directory, and put together as one plain tree. It needs no
// root, and keeps nothing: where results go is the caller's business.
package deb

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
)

// Apt is how packages are fetched.
type Apt struct {
	Sources []string // lines of sources.list; none: this machine's own
	Options []string // apt.conf lines for this machine
	State   string   // directory for apt's lists, kept between calls
}

const (
	fetchTime   = 10 * time.Minute
	listsFresh  = 6 * time.Hour
	debianKeys  = "/usr/share/keyrings/debian-archive-keyring.gpg"
	stampOfList = "nutshell-updated"
)

// Tools says which program is missing on this machine, or nil.
func Tools() error {
	for program, pkg := range map[string]string{"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"} {
		if _, err := exec.LookPath(program); err != nil {
			return &api.Error{Code: api.CodeUnavailable, Op: "fetch", Object: "Debian packages", Message: program + " is not installed: this machine is no Debian, or one without apt",
				Hint: "apt-get install " + pkg + ", or send the application's archive with the manifest", Err: err}
		}
	}
	return nil
}

// flags make apt use lists of its own below a.State, and with a.Sources only
// those. Without sources and own, this machine's lists are good.
func (a Apt) flags(own bool) ([]string, error) {
	var flags []string
	for _, o := range a.Options {
		flags = append(flags, "-o", strings.TrimSuffix(strings.Replace(o, " ", "=", 1), ";"))
	}
	for i, f := range flags { // apt.conf has its values quoted
		flags[i] = strings.ReplaceAll(f, `"`, "")
	}
	flags = append(flags, "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=true", "-o", "Acquire::Languages=none")
	if !own {
		return flags, nil
	}
	lists, cache := filepath.Join(a.State, "lists"), filepath.Join(a.State, "cache")
	for _, d := range []string{filepath.Join(lists, "partial"), filepath.Join(cache, "archives", "partial")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	flags = append(flags, "-o", "Dir::State::Lists="+lists, "-o", "Dir::Cache="+cache)
	if len(a.Sources) == 0 {
		return flags, nil
	}
	file := filepath.Join(a.State, "sources.list")
	var lines []string
	for _, l := range a.Sources {
		if _, err := os.Stat(debianKeys); err == nil && strings.HasPrefix(l, "deb ") && !strings.HasPrefix(l, "deb [") {
			l = "deb [signed-by=" + debianKeys + "] " + strings.TrimPrefix(l, "deb ")
		}
		lines = append(lines, l)
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	// What this machine pins or has installed says nothing about another release.
	status := filepath.Join(a.State, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	return append(flags, "-o", "Dir::Etc::sourcelist="+file, "-o", "Dir::Etc::sourceparts=-", "-o", "Dir::Etc::preferences=-", "-o", "Dir::Etc::preferencesparts=-",
		"-o", "Dir::State::status="+status), nil
}

// session is one use of apt whose lists are good.
type session struct {
	flags []string
	dir   string
}

// begin makes the lists good: this machine's own where they know the package,
// else lists fetched anew.
func (a Apt) begin(ctx context.Context, dir, name string) (session, error) {
	if len(a.Sources) == 0 {
		flags, err := a.flags(false)
		if err != nil {
			return session{}, err
		}
		s := session{flags, dir}
		if _, err := s.version(ctx, name); err == nil {
			return s, nil
		}
	}
	flags, err := a.flags(true)
	if err != nil {
		return session{}, err
	}
	s := session{flags, dir}
	stamp := filepath.Join(a.State, stampOfList)
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < listsFresh {
		if _, err := s.version(ctx, name); err == nil {
			return s, nil
		}
	}
	if _, err := s.run(ctx, "apt-get", "-q", "update"); err != nil {
		return s, err
	}
	return s, os.WriteFile(stamp, nil, 0o644)
}

func (s session) run(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append(slices.Clone(s.flags), args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LANG=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return string(out), nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	e := &api.Error{Code: api.CodeUnavailable, Op: "fetch", Object: "Debian package " + args[len(args)-1], Message: "apt says no", Err: err, Hint: "check the network and this machine's apt configuration"}
	for line := range strings.Lines(string(out)) {
		if said, ok := strings.CutPrefix(strings.TrimSpace(line), "E: "); ok {
			e.Message, e.Err = said, nil
		}
	}
	return "", e
}

// version is the one that apt would fetch.
func (s session) version(ctx context.Context, name string) (string, error) {
	out, err := s.run(ctx, "apt-cache", "policy", "--", name)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Candidate: "); ok && v != "(none)" {
			return v, nil
		}
	}
	return "", &api.Error{Code: api.CodeNotFound, Op: "fetch", Object: "Debian package " + name, Message: "Debian has no such package, or this machine's apt does not know it", Hint: "check the name; apt-get update fetches newer lists"}
}

// depends lists what a package depends on and recommends, virtual ones left out.
func (s session) depends(ctx context.Context, name string) (depends, recommends []string, err error) {
	out, err := s.run(ctx, "apt-cache", "depends", "--", name)
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(out) {
		kind, other, ok := strings.Cut(strings.TrimLeft(strings.TrimSpace(line), "|"), ": ")
		if !ok || strings.HasPrefix(other, "<") {
			continue
		}
		switch strings.TrimSpace(kind) {
		case "Depends":
			depends = append(depends, other)
		case "Recommends":
			recommends = append(recommends, other)
		}
	}
	return depends, recommends, nil
}

// unpack fetches packages and unpacks them into system.
func (s session) unpack(ctx context.Context, system string, names ...string) error {
	if _, err := s.run(ctx, "apt-get", append([]string{"-q", "download", "--"}, names...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(s.dir, "*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range debs {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", deb, system).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, out)
		}
		if err := os.Remove(deb); err != nil {
			return err
		}
	}
	return nil
}
