// Package machine changes an appliance while it runs: its addresses and its
// binary, each with a way back that needs nobody. It knows systemd and files;
// menus and commands are elsewhere.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"nutshell/appliance"
	"nutshell/roles/api"
)

// runTime bounds each program that is asked to do something.
const runTime = 3 * time.Minute

// Machine is the appliance that this process runs on.
type Machine struct {
	Root   string                                                       // "/", or a directory in tests
	Run    func(ctx context.Context, name string, args ...string) error // runs a program; nil: really
	Health func(context.Context) error                                  // whether the director answers
	Say    func(format string, args ...any)                             // tells what is done; nil: nobody

	// Clash says which addresses others have on an interface's network, see the function; nil: nobody is asked
	Clash func(device string, addresses []netip.Addr) (map[netip.Addr]string, error)

	done func(step string) error // is asked behind each step of an upgrade: tests cut the power there, or let it fail
}

func (m *Machine) path(name string) string { return filepath.Join(m.Root, name) }

func (m *Machine) say(format string, args ...any) {
	if m.Say != nil {
		m.Say(format, args...)
	}
}

// run runs a program; what it printed is in the error.
func (m *Machine) run(ctx context.Context, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	if m.Run != nil {
		return m.Run(ctx, name, args...)
	}
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Facts says what this machine is. On a machine that no image of ours made it
// is an error of code not_found.
func (m *Machine) Facts() (appliance.Facts, error) {
	var f appliance.Facts
	b, err := os.ReadFile(m.path(appliance.FactsPath))
	if errors.Is(err, fs.ErrNotExist) {
		return f, &api.Error{Code: api.CodeNotFound, Op: "read", Object: appliance.FactsPath, Message: "this machine is not a Nutshell appliance",
			Hint: "these commands are for machines made from `nutshell image build`"}
	}
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, &api.Error{Code: api.CodeInvalid, Op: "read", Object: appliance.FactsPath, Err: err, Hint: "the file was changed by hand; it is JSON"}
	}
	return f, nil
}

// Used are the networks that this machine is in, beside the one of the
// interface that is named and those of containers, whose bridges are ours.
func Used(except string) ([]appliance.Used, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var used []appliance.Used
	for _, i := range list {
		if i.Name == except || i.Flags&net.FlagLoopback != 0 || strings.HasPrefix(i.Name, "nsh") || strings.HasPrefix(i.Name, "veth") {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				used = append(used, appliance.Used{Prefix: p, By: "the interface " + i.Name})
			}
		}
	}
	return used, nil
}

// write replaces a file as a whole: a machine that loses power has the old
// one or the new one.
func (m *Machine) write(name string, content []byte, mode fs.FileMode) error {
	to := m.path(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(to+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(to+".new"))
	}
	return syncDir(filepath.Dir(to))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
