package mysql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"nutshell/services"
)

// arbiter runs or ends the voter that makes an even number of nodes odd. It
// holds no data; without it, half of the nodes could not go on alone.
func (h *haproxy) arbiter(ctx context.Context, c config) error {
	if !c.Balancer.Arbiter {
		return h.m.Supervisor().Stop(ctx, arbiterDaemon)
	}
	program, err := h.m.Program("garbd", "galera-arbitrator-4")
	if err != nil {
		return err
	}
	a, err := newAuthority(c.Secrets[secretCA], c.Service)
	if err != nil {
		return err
	}
	path := func(name string) string { return filepath.Join(h.run, name) }
	if now, err := os.ReadFile(path("cert.pem")); err != nil || !a.issued(now, []string{h.m.Address()}) {
		key, cert, err := a.issue(h.m.Address(), []string{h.m.Address()})
		if err != nil {
			return err
		}
		if err := errors.Join(h.give("key.pem", key), h.give("cert.pem", cert), h.give("ca.pem", a.pem)); err != nil {
			return err
		}
	}
	options := options(fmt.Sprintf("gmcast.listen_addr=ssl://%s:%d", h.m.Address(), groupPort), "socket.ssl=YES", "socket.ssl_key="+path("key.pem"), "socket.ssl_cert="+path("cert.pem"), "socket.ssl_ca="+path("ca.pem"),
		groupTimes, "pc.recovery=FALSE")
	text := fmt.Sprintf("name = %s\ngroup = %s\naddress = gcomm://%s\noptions = %s\n", h.m.Address(), c.Service, groupAddress(c.Members), options)
	if err := h.give("garbd.cfg", []byte(text)); err != nil {
		return err
	}
	return h.m.Supervisor().Ensure(ctx, services.Process{Name: arbiterDaemon, Argv: []string{program, "--cfg", path("garbd.cfg")}, Dir: h.run, User: true, Log: "garbd.log", Describe: "messages of the arbitrator"})
}

// give writes a file that the daemon's account reads, and nobody else.
func (h *haproxy) give(name string, b []byte) error {
	path := filepath.Join(h.run, name)
	if err := writeFile(path+".new", b, 0o400); err != nil {
		return err
	}
	if _, uid, gid, drops := h.m.User(); drops {
		if err := os.Lchown(path+".new", uid, gid); err != nil {
			return err
		}
	}
	return os.Rename(path+".new", path)
}
