package node

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
)

// findTime is how long answers are waited for.
const findTime = 1500 * time.Millisecond

// mostFound bounds what a network full of directors, or of one that answers as
// many, makes us try.
const mostFound = 8

// found is a director that answered.
type found struct {
	address string // host:port
	ca      string // as it says; who gave a fingerprint believes only that
}

// find asks the networks of this machine for directors. Where an answer comes
// from is where its director is. It returns none where there are none.
func find(ctx context.Context, where string) ([]found, error) {
	if where == "none" {
		return nil, nil
	}
	targets, err := targetsOf(where)
	if err != nil || len(targets) == 0 {
		return nil, err
	}
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp4", ":0") // Go lets UDP sockets broadcast
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	nonce := api.NewID(16)
	question, err := json.Marshal(map[string]string{"nutshell": "node", "nonce": nonce, "pad": strings.Repeat(".", 400)})
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range targets {
		if _, err := conn.WriteTo(question, net.UDPAddrFromAddrPort(t)); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(targets) {
		return nil, errors.Join(errs...)
	}
	end := time.Now().Add(findTime)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetReadDeadline(end); err != nil {
		return nil, err
	}
	var list []found
	buffer := make([]byte, 1500)
	for len(list) < mostFound {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			break // time is up
		}
		f, ok := answerOf(buffer[:n], nonce, from.String())
		if ok && !slices.ContainsFunc(list, func(o found) bool { return o.address == f.address }) {
			list = append(list, f)
		}
	}
	return list, ctx.Err()
}

// answerOf reads an answer, which may come from anybody.
func answerOf(data []byte, nonce, from string) (found, bool) {
	var a api.DirectorAnswer
	if json.Unmarshal(data, &a) != nil || a.Nutshell != "director" || a.Nonce != nonce || a.Port < 1 || a.Port > 65535 || len(a.CASHA256) != 64 {
		return found{}, false
	}
	at, err := netip.ParseAddrPort(from)
	if err != nil {
		return found{}, false
	}
	return found{net.JoinHostPort(at.Addr().Unmap().String(), strconv.Itoa(a.Port)), a.CASHA256}, true
}

// targetsOf are where a question goes: a given address, or the broadcast
// address of each network that this machine is in.
func targetsOf(where string) ([]netip.AddrPort, error) {
	if where != "" {
		t, err := netip.ParseAddrPort(where)
		return []netip.AddrPort{t}, err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var targets []netip.AddrPort
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagBroadcast == 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || !p.Addr().Is4() || p.Bits() > 30 {
				continue
			}
			t := netip.AddrPortFrom(broadcast(p), api.FindPort)
			if !slices.Contains(targets, t) {
				targets = append(targets, t)
			}
		}
	}
	return targets, nil
}

// broadcast is the last address of a network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}
