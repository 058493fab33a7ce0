// Package nft is the matches that rules of the kernel's firewall are made of.
// What they are combined to is said where the rules are.
package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Redirected is the bit of a connection's status that is set when its
// destination was translated: IPS_DST_NAT of
// linux/netfilter/nf_conntrack_common.h.
const Redirected = 0x20

// Interface matches interfaces whose name begins so; with a zero byte behind it, one of exactly this name.
func Interface(key expr.MetaKey, begin string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(begin)},
	}
}

// Not turns the last comparison round.
func Not(match []expr.Any) []expr.Any {
	turned := slices.Clone(match)
	last := *turned[len(turned)-1].(*expr.Cmp)
	last.Op = expr.CmpOpNeq
	turned[len(turned)-1] = &last
	return turned
}

// Protocol matches the protocol above IP.
func Protocol(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}},
	}
}

// TCPTo matches TCP to a port.
func TCPTo(p uint16) []expr.Any {
	return append(Protocol(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, p)})
}

// Source matches where IPv4 packets come from.
func Source(p netip.Prefix) []expr.Any { return ipv4(12, p) }

// Destination matches where IPv4 packets go.
func Destination(p netip.Prefix) []expr.Any { return ipv4(16, p) }

// ipv4 matches the address at an offset of the IPv4 header.
func ipv4(offset uint32, p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// Conntrack matches connections of which any of the bits is set.
func Conntrack(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// Verdict ends a rule.
func Verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
