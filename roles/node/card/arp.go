package card

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The address plan of a cluster: the director is .1, nodes are .11 to .31.
const (
	planBits  = 24
	planFirst = 11
	planCount = 21
)

var (
	planNet     = netip.AddrFrom4([4]byte{172, 16, 0, 0})
	planGateway = netip.AddrFrom4([4]byte{172, 16, 0, 1})
)

// device is the network interface of a Pi with the kernel's plain names.
const device = "eth0"

// Times of asking for an address. One of the range that somebody has is asked
// for shortly, because people wait and there are others. For one that was set
// there is time as RFC 5227 has it: switches learn slowly after the link is up.
const (
	probes   = 3
	briefly  = 700 * time.Millisecond
	patient  = 5 * time.Second
	linkTime = 30 * time.Second
)

// candidates lists the range in an order that differs from machine to machine,
// the kept address first.
func candidates(kept netip.Addr) (mac net.HardwareAddr, list []netip.Addr) {
	if i, err := net.InterfaceByName(device); err == nil {
		mac = i.HardwareAddr
	}
	return mac, order(mac, kept)
}

// order is pure.
func order(mac net.HardwareAddr, kept netip.Addr) []netip.Addr {
	h := fnv.New64a()
	_, _ = h.Write(mac)
	sum := h.Sum64()
	steps := []uint64{1, 2, 4, 5, 8, 10, 11, 13, 16, 17, 19, 20} // each visits all of the 21
	at, step := sum%planCount, steps[sum/planCount%uint64(len(steps))]
	first := planNet.As4()
	var list []netip.Addr
	for range planCount {
		a := first
		a[3] = byte(planFirst + at)
		at = (at + step) % planCount
		if addr := netip.AddrFrom4(a); addr == kept {
			list = append([]netip.Addr{addr}, list...)
		} else {
			list = append(list, addr)
		}
	}
	return list
}

// probe returns the first address that nobody on the cable has, none if all
// are taken. It asks for each during the time each.
func probe(ctx context.Context, list []netip.Addr, each time.Duration) (netip.Addr, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return netip.Addr{}, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(swap(unix.ETH_P_ARP)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	to := &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: swap(unix.ETH_P_ARP)}
	if err := unix.Bind(fd, to); err != nil {
		return netip.Addr{}, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}); err != nil {
		return netip.Addr{}, err
	}
	for _, a := range list {
		taken, err := taken(ctx, fd, i.HardwareAddr, a, each)
		if err != nil || !taken {
			return a, err
		}
	}
	return netip.Addr{}, nil
}

// taken asks for one address.
func taken(ctx context.Context, fd int, mac net.HardwareAddr, a netip.Addr, during time.Duration) (bool, error) {
	began, sent := time.Now(), 0
	buf := make([]byte, 1600)
	for time.Since(began) < during {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if sent < probes && time.Since(began) >= time.Duration(sent)*during/(probes+1) {
			if _, err := unix.Write(fd, question(mac, a)); err != nil {
				return false, fmt.Errorf("ask who has %s: %w", a, err)
			}
			sent++
		}
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, err
		}
		if claims(buf[:n], mac, a) {
			return true, nil
		}
	}
	return false, nil
}

// question is an ARP probe: who has a, asked by nobody.
func question(mac net.HardwareAddr, a netip.Addr) []byte {
	b := bytes.Repeat([]byte{0xff}, 6)
	b = append(b, mac...)
	b = append(b, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	b = append(b, mac...)
	b = append(b, make([]byte, 4+6)...)
	return append(b, a.AsSlice()...)
}

// claims reports whether a frame says that another machine has an address, or
// is about to take it. It is pure.
func claims(frame []byte, mac net.HardwareAddr, a netip.Addr) bool {
	if len(frame) < 42 || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_ARP || !bytes.Equal(frame[14:20], []byte{0, 1, 8, 0, 6, 4}) {
		return false
	}
	if bytes.Equal(frame[22:28], mac) {
		return false
	}
	sender, target := netip.AddrFrom4([4]byte(frame[28:32])), netip.AddrFrom4([4]byte(frame[38:42]))
	return sender == a || sender.IsUnspecified() && target == a
}

// linkUp waits until the kernel has found the interface, switches it on and
// waits for a cable.
func linkUp(ctx context.Context) error {
	end := time.Now().Add(linkTime)
	for {
		_, err := net.InterfaceByName(device)
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("network interface %s: %w", device, err)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	request, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return err
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return err
	}
	for {
		b, err := os.ReadFile("/sys/class/net/" + device + "/carrier")
		if err == nil && strings.TrimSpace(string(b)) == "1" {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("no cable, or nobody at its other end")
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

func swap(v uint16) uint16 { return v<<8 | v>>8 }
