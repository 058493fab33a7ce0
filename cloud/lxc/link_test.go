package lxc

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
)

func TestCheckLink(t *testing.T) {
	prefix, address := netip.MustParsePrefix, netip.MustParseAddr
	peer := func(a, s string) cloud.Peer { return cloud.Peer{Address: address(a), Subnet: prefix(s)} }
	for _, c := range []struct {
		name  string
		own   netip.Prefix
		peers []cloud.Peer
		good  bool
	}{
		{"no-cluster", netip.Prefix{}, nil, true},
		{"alone", prefix("10.201.0.0/16"), nil, true},
		{"director-and-one", prefix("10.201.0.0/16"), []cloud.Peer{{Address: address("172.16.0.1")}, peer("172.16.0.3", "10.202.0.0/16")}, true},
		{"peers-without-own", netip.Prefix{}, []cloud.Peer{peer("172.16.0.3", "10.202.0.0/16")}, false},
		{"own-too-small", prefix("10.201.0.0/24"), nil, false},
		{"own-is-public", prefix("8.8.0.0/16"), nil, false},
		{"peer-overlaps-own", prefix("10.201.0.0/16"), []cloud.Peer{peer("172.16.0.3", "10.201.128.0/20")}, false},
		{"peers-overlap", prefix("10.201.0.0/16"), []cloud.Peer{peer("172.16.0.3", "10.202.0.0/16"), peer("172.16.0.4", "10.202.0.0/16")}, false},
		{"peer-takes-everything", prefix("10.201.0.0/16"), []cloud.Peer{peer("172.16.0.3", "0.0.0.0/0")}, false},
		{"ipv6", prefix("10.201.0.0/16"), []cloud.Peer{{Address: address("fd00::1")}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := checkLink(c.own, c.peers); (err == nil) != c.good || err != nil && !errors.Is(err, cloud.ErrInvalid) {
				t.Errorf("checkLink = %v, want good: %v", err, c.good)
			}
		})
	}
}

func TestSlots(t *testing.T) {
	d := &driver{c: cloud.Config{Dir: t.TempDir()}, log: cloudtest.Log(t), tag: "test0001"}
	d.net.d = d
	d.net.plan = plan{Subnet: netip.MustParsePrefix("10.201.0.0/20"), Groups: map[string]int{"shop": 1, "blog": 3}}
	for _, c := range []struct {
		name, group  string
		wanted, want int
		err          error
	}{
		{"it-has-one", "shop", 0, 1, nil},
		{"it-has-the-wanted", "blog", 3, 3, nil},
		{"it-has-another", "blog", 4, 0, cloud.ErrInUse},
		{"of-another-group", "wiki", 1, 0, cloud.ErrInUse},
		{"lowest-free", "wiki", 0, 2, nil},
		{"first-free", "mail", 0, 4, nil},
		{"wanted", "docs", 15, 15, nil},
		{"beyond-the-subnet", "more", 16, 0, cloud.ErrQuota},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := d.net.slot(c.group, c.wanted)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("slot = %d, %v; want %d, %v", got, err, c.want, c.err)
			}
		})
	}
	var kept plan
	if err := cloud.LoadState(filepath.Join(d.c.Dir, "network.json"), &kept); err != nil || kept.Groups["docs"] != 15 {
		t.Errorf("kept plan = %+v, %v", kept, err)
	}
}

func TestSlotIn(t *testing.T) {
	small := netip.MustParsePrefix("10.201.16.0/20")
	if got, want := slotIn(small, 15), netip.MustParsePrefix("10.201.31.0/24"); got != want {
		t.Errorf("slot 15 of %s = %s, want %s", small, got, want)
	}
	if got := slotIn(small, 16); got.IsValid() {
		t.Errorf("slot 16 of %s = %s, want none: it is somebody else's", small, got)
	}
}
