package director

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)

// findQuestion is what a node asks its network. It is longer than the answer,
// so that nobody can make us send more than they did.
type findQuestion struct {
	Nutshell string `json:"nutshell"` // "node"
	Nonce    string `json:"nonce"`
	Pad      string `json:"pad"`
}

const mostQuestion = 1500

// answerNodes tells nodes that ask their network where we are, until ctx ends.
// It answers machines of networks that we listen in, and nobody else.
func (d *Director) answerNodes(ctx context.Context, conn net.PacketConn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	limit := auth.NewLimiter(auth.LimiterConfig{Burst: 10, Every: time.Second, Now: d.c.Now})
	buffer := make([]byte, mostQuestion+1)
	for ctx.Err() == nil {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			if ctx.Err() == nil {
				d.c.Log.Warn("nodes that look for a director are not answered any more", "error", err)
			}
			return
		}
		asker, err := netip.ParseAddrPort(from.String())
		if err != nil {
			continue
		}
		if ok, _ := limit.Allow("find " + asker.Addr().String()); !ok {
			continue
		}
		if answer := d.findAnswer(buffer[:n], asker.Addr().Unmap()); answer != nil {
			_, _ = conn.WriteTo(answer, from) // it asks again
		}
	}
}

// findAnswer is what a question deserves; nil for nothing.
func (d *Director) findAnswer(question []byte, asker netip.Addr) []byte {
	var q findQuestion
	if len(question) > mostQuestion || json.Unmarshal(question, &q) != nil || q.Nutshell != "node" || len(q.Nonce) > 64 {
		return nil
	}
	port := d.portFor(asker)
	if port == 0 {
		return nil
	}
	answer, err := json.Marshal(api.DirectorAnswer{Nutshell: "director", Port: port, CASHA256: d.ca.RootSHA256(), Installation: d.installation, Nonce: q.Nonce})
	if err != nil || len(answer) > len(question) {
		return nil
	}
	return answer
}

// portFor is the port on which a machine of one of our networks reaches us; 0
// where it does not, because we do not listen there.
func (d *Director) portFor(asker netip.Addr) int {
	var own []netip.Prefix
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return 0
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Contains(asker) {
			own = append(own, p)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, text := range d.address {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			continue
		}
		for _, p := range own {
			if at.Addr().IsUnspecified() || at.Addr().Unmap() == p.Addr() {
				return int(at.Port())
			}
		}
	}
	return 0
}

// listenFind takes the port on which nodes ask. Another director on this
// machine may have it, which is no reason not to start.
func (d *Director) listenFind(ctx context.Context) net.PacketConn {
	if d.c.Nodes.Find == "" {
		return nil
	}
	// Directors that share a machine share the port: each gets every broadcast.
	share := func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); e != nil {
			return e
		}
		return err
	}
	conn, err := (&net.ListenConfig{Control: share}).ListenPacket(ctx, "udp4", d.c.Nodes.Find)
	if err != nil {
		d.c.Log.Warn("nodes do not find this director by asking their network", "address", d.c.Nodes.Find, "error", err)
		return nil
	}
	return conn
}
