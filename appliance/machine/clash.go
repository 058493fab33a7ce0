package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// clashTime is how long other machines have to say that an address is theirs.
const clashTime = 500 * time.Millisecond

// An ARP message for IPv4 on Ethernet, see RFC 826.
const (
	arpBytes  = 28
	arpAsks   = 1
	arpSender = 8  // where the hardware address of the sender is
	arpFrom   = 14 // where its address is
	arpTarget = 24 // where the address is that is asked for
)

// Clash says which of these addresses other machines on an interface's network
// have, with their hardware addresses. It asks as RFC 5227 does: nobody's
// tables change. An interface that is down has no neighbours.
func Clash(device string, addresses []netip.Addr) (map[netip.Addr]string, error) {
	i, err := net.InterfaceByName(device)
	if err != nil || i.Flags&net.FlagUp == 0 || len(i.HardwareAddr) != 6 || len(addresses) == 0 {
		return nil, err
	}
	arp := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ARP)) // as the network has it
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(arp))
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	at := unix.SockaddrLinklayer{Protocol: arp, Ifindex: i.Index}
	if err := unix.Bind(fd, &at); err != nil {
		return nil, err
	}
	to := at
	to.Halen = 6
	copy(to.Addr[:], bytes.Repeat([]byte{0xff}, 6))
	asked := map[netip.Addr]bool{}
	for _, a := range addresses {
		asked[a] = true
		if err := unix.Sendto(fd, question(i.HardwareAddr, a), 0, &to); err != nil && !errors.Is(err, unix.ENETDOWN) {
			return nil, err
		}
	}
	found := map[netip.Addr]string{}
	b := make([]byte, 1500)
	for end := time.Now().Add(clashTime); ; {
		left := time.Until(end)
		if left <= 0 {
			return found, nil
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1) //nolint:gosec // a file descriptor fits
		if n <= 0 || err != nil {
			continue // until the time is over
		}
		n, _, err = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if err != nil {
			continue
		}
		if a, by, ok := owner(b[:n]); ok && asked[a] && !bytes.Equal(by, i.HardwareAddr) {
			found[a] = by.String()
		}
	}
}

// question asks who has an address, for nobody.
func question(from net.HardwareAddr, a netip.Addr) []byte {
	b := make([]byte, arpBytes)
	copy(b, []byte{0, 1, 8, 0, 6, 4, 0, arpAsks}) // Ethernet, IPv4, their lengths
	copy(b[arpSender:], from)
	four := a.As4()
	copy(b[arpTarget:], four[:])
	return b
}

// owner reads who has which address of any ARP message.
func owner(b []byte) (a netip.Addr, by net.HardwareAddr, ok bool) {
	if len(b) < arpBytes || !bytes.Equal(b[:6], []byte{0, 1, 8, 0, 6, 4}) {
		return a, nil, false
	}
	a = netip.AddrFrom4([4]byte(b[arpFrom : arpFrom+4]))
	return a, bytes.Clone(b[arpSender : arpSender+6]), !a.IsUnspecified()
}
