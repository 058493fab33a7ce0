package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"nutshell/appliance"
	"nutshell/roles/api"
)

// ConfirmTime is how long a change of addresses waits for somebody who says
// that it works. The unit nutshell-network-revert.timer has the same.
const ConfirmTime = time.Minute

// oldNetwork holds the addresses before a change that nobody confirmed yet.
// Units look for it by its name.
const oldNetwork = "/var/lib/nutshell/appliance/network/old"

const revertTimer = "nutshell-network-revert.timer"

// Pending returns the addresses that come back unless the change is confirmed,
// and false if there is none.
func (m *Machine) Pending() (appliance.Network, bool, error) {
	var n appliance.Network
	b, err := os.ReadFile(m.path(oldNetwork))
	if errors.Is(err, fs.ErrNotExist) {
		return n, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	return n, err == nil, err
}

// SetNetwork gives the machine other addresses. Unless Confirm is called
// within ConfirmTime, or when the machine starts again before that, the old
// ones come back by themselves.
func (m *Machine) SetNetwork(ctx context.Context, n appliance.Network, used []appliance.Used) error {
	f, err := m.Facts()
	if err != nil {
		return err
	}
	if f.Network == nil {
		return &api.Error{Code: api.CodeInvalid, Op: "set network of", Object: string(f.Profile) + " machine", Message: "its addresses are given by the network it is in", Hint: "change them there"}
	}
	if err := n.Check(used); err != nil {
		return err
	}
	if old, pending, err := m.Pending(); err != nil || pending {
		return &api.Error{Code: api.CodeConflict, Op: "set network", Message: "another change waits to be confirmed, or " + old.String() + " comes back", Err: err,
			Hint: "nutshell appliance network confirm, or revert"}
	}
	if f.Network.Equal(n) {
		return &api.Error{Code: api.CodeInvalid, Op: "set network", Message: "the machine has these addresses already", Hint: "nutshell appliance network show"}
	}
	if err := m.free(*f.Network, n); err != nil {
		return err
	}
	b, err := json.MarshalIndent(f.Network, "", "  ")
	if err != nil {
		return err
	}
	// What leads back comes first, then the change.
	if err := m.write(oldNetwork, b, 0o600); err != nil {
		return err
	}
	if err := m.run(ctx, "systemctl", "start", revertTimer); err != nil {
		return errors.Join(err, os.Remove(m.path(oldNetwork)))
	}
	// Said before: whoever came by the old address hears nothing from here on.
	m.say("changing to %s", n)
	m.say("Reach this machine at https://%s, and say there within %.0f s: sudo nutshell appliance network confirm", n.Address.Addr(), ConfirmTime.Seconds())
	m.say("Otherwise the old addresses come back. A connection to an old one ends now.")
	if err := m.apply(ctx, f.Profile, n, true); err != nil {
		return errors.Join(err, m.Revert(context.WithoutCancel(ctx), true))
	}
	return nil
}

// mostAsked bounds the addresses of a range that are asked for.
const mostAsked = 1024

// free refuses new addresses that another machine has, as far as it answers.
// Those that this machine has already are its own and its instances'.
func (m *Machine) free(old, n appliance.Network) error {
	if m.Clash == nil {
		return nil
	}
	var ask []netip.Addr
	if n.Address.Addr() != old.Address.Addr() {
		ask = append(ask, n.Address.Addr())
	}
	for a := n.First; !n.Last.Less(a) && len(ask) < mostAsked; a = a.Next() {
		if (a.Less(old.First) || old.Last.Less(a)) && a != old.Address.Addr() {
			ask = append(ask, a)
		}
	}
	taken, err := m.Clash(n.Interface, ask)
	if err != nil {
		return fmt.Errorf("ask who has addresses on %s: %w", n.Interface, err)
	}
	for _, a := range ask {
		if by, ok := taken[a]; ok {
			return &api.Error{Code: api.CodeConflict, Op: "use addresses", Object: n.String(), Message: fmt.Sprintf("%s belongs to another machine (%s); %d addresses do", a, by, len(taken)),
				Hint: "leave what is taken out of the range, or switch that machine off"}
		}
	}
	return nil
}

// Confirm makes a change of addresses last.
func (m *Machine) Confirm(ctx context.Context) error {
	switch _, pending, err := m.Pending(); {
	case err != nil:
		return err
	case !pending:
		return &api.Error{Code: api.CodeNotFound, Op: "confirm network", Message: "no change waits to be confirmed; if there was one, it has been taken back", Hint: "nutshell appliance network show"}
	}
	if err := m.forgetFile(oldNetwork); err != nil {
		return err
	}
	return m.run(ctx, "systemctl", "stop", revertTimer)
}

// Revert brings the addresses back that were before the change. Without
// running, only files are changed: nothing has read them yet.
func (m *Machine) Revert(ctx context.Context, running bool) error {
	old, pending, err := m.Pending()
	if err != nil {
		return err
	}
	if !pending {
		return &api.Error{Code: api.CodeNotFound, Op: "revert network", Message: "no change waits to be confirmed", Hint: "nutshell appliance network show"}
	}
	f, err := m.Facts()
	if err != nil {
		return err
	}
	m.say("going back to %s", old)
	if err := m.apply(ctx, f.Profile, old, running); err != nil {
		return err
	}
	if err := os.Remove(m.path(oldNetwork)); err != nil {
		return err
	}
	if !running {
		return nil
	}
	return m.run(ctx, "systemctl", "stop", revertTimer)
}

// apply writes the files and has them read.
func (m *Machine) apply(ctx context.Context, p appliance.Profile, n appliance.Network, running bool) error {
	for _, f := range n.Files(p) {
		if err := m.write(f.Path, f.Content, 0o644); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(appliance.Facts{Profile: p, Network: &n}, "", "  ")
	if err != nil {
		return err
	}
	if err := m.write(appliance.FactsPath, append(b, '\n'), 0o644); err != nil {
		return err
	}
	if !running {
		return nil
	}
	for _, step := range [][]string{
		{"ip", "-4", "address", "flush", "dev", n.Interface},
		{"networkctl", "reload"},
		{"networkctl", "reconfigure", n.Interface},
		// Its instances get addresses of the new range. It takes its time, and is not waited for.
		{"systemctl", "--no-block", "restart", "nutshell.service"},
	} {
		if err := m.run(ctx, step[0], step[1:]...); err != nil {
			return fmt.Errorf("change addresses: %w", err)
		}
	}
	return nil
}
