package nodes_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/lxc"
	"nutshell/cloud/wire"
)

// A machine of the tests is a process of this test's program in a network and
// a mount namespace of its own, with the lxc cloud in it. Its orders come over
// a unix socket, so that they do not need the network that is tested.

const machineEnv = "NUTSHELL_TEST_MACHINE"

type machineConfig struct {
	Dir, Socket, Installation, Binary, Layers, Address string
}

// beMachine is the machine's program.
func beMachine() (code int, ok bool) {
	var c machineConfig
	if err := json.Unmarshal([]byte(os.Getenv(machineEnv)), &c); err != nil {
		return 0, false
	}
	if err := c.run(); err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		return 1, true
	}
	return 0, true
}

// namespaces finishes what the parent began: liblxc looks for bridges in /sys,
// which still shows the network of the machine that we run on.
func (c machineConfig) namespaces() error {
	groups := filepath.Join(c.Dir, "cgroups")
	if err := os.MkdirAll(groups, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("/sys/fs/cgroup", groups, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("control groups: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("sysfs: %w", err)
	}
	if err := unix.Mount(groups, "/sys/fs/cgroup", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("control groups: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// ready waits for the parent, which puts the cable in, and gives it its address.
func (c machineConfig) ready() error {
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return fmt.Errorf("no word from the test: %w", err)
	}
	cable, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	address, err := netlink.ParseAddr(c.Address)
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(cable, address); err != nil {
		return err
	}
	return netlink.LinkSetUp(cable)
}

func (c machineConfig) open() (cloud.Driver, error) {
	return lxc.New(cloud.Config{
		Name: "default", Installation: c.Installation, Dir: filepath.Join(c.Dir, "cloud"), Binary: c.Binary,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
}

func (c machineConfig) run() error {
	if err := c.namespaces(); err != nil {
		return err
	}
	if err := c.ready(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "cloud"), 0o755); err != nil {
		return err
	}
	var driver atomic.Pointer[http.Handler]
	var now atomic.Pointer[cloud.Driver]
	open := func() error {
		d, err := c.open()
		if err != nil {
			return err
		}
		h := wire.Handler(d, func(_ context.Context, digest string) (string, error) { return filepath.Join(c.Layers, digest), nil })
		driver.Store(&h)
		now.Store(&d)
		return nil
	}
	if err := open(); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc(wire.Prefix, func(w http.ResponseWriter, r *http.Request) { (*driver.Load()).ServeHTTP(w, r) })
	do := func(path string, f func(r *http.Request) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if err := f(r); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, "{}")
		})
	}
	do("/link", func(r *http.Request) error {
		var l linkOrder
		if err := json.NewDecoder(r.Body).Decode(&l); err != nil {
			return err
		}
		return (*now.Load()).(cloud.Linked).Link(r.Context(), l.Own, l.Peers)
	})
	do("/reopen", func(*http.Request) error { return open() }) // as a node that was restarted
	do("/cut", func(*http.Request) error { return cable(netlink.LinkSetDown) })
	do("/mend", func(*http.Request) error { return cable(netlink.LinkSetUp) })
	do("/close", func(r *http.Request) error {
		if err := (*now.Load()).(cloud.Closer).Close(r.Context()); err != nil {
			return err
		}
		return c.leftovers()
	})
	l, err := net.Listen("unix", c.Socket) // the process ends with its test
	if err != nil {
		return err
	}
	// What instances must not reach on a machine.
	other, err := net.Listen("tcp", "0.0.0.0:7000")
	if err != nil {
		return err
	}
	go func() {
		for {
			if got, err := other.Accept(); err == nil {
				_ = got.Close()
			}
		}
	}()
	go func() { // the parent's end of the pipe goes with the parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	fmt.Println("ready")
	return http.Serve(l, mux) // the test alone has the socket
}

type linkOrder struct {
	Own   netip.Prefix
	Peers []cloud.Peer
}

func cable(do func(netlink.Link) error) error {
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return do(l)
}

// leftovers are what a closed cloud must not leave in the machine's network.
func (c machineConfig) leftovers() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "nsh") || strings.HasPrefix(l.Attrs().Name, "nv") {
			return fmt.Errorf("interface %s is left", l.Attrs().Name)
		}
	}
	list, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.Protocol == 78 {
			return fmt.Errorf("route to %s is left", r.Dst)
		}
	}
	return nil
}
