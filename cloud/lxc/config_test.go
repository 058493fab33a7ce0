package lxc

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/cloud"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name, key, value string
		ok               bool
	}{
		{"none", "", "", true},
		{"subnet", "subnet", "10.77.0.0/16", true},
		{"subnet-small", "subnet", "10.77.0.0/24", false},
		{"subnet-public", "subnet", "8.8.0.0/16", false},
		{"subnet-ipv6", "subnet", "fd00::/48", false},
		{"subnet-nonsense", "subnet", "x", false},
		{"privileged", "privileged", "never", true},
		{"privileged-nonsense", "privileged", "perhaps", false},
		{"unknown", "bridge", "br0", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := cloud.Config{Installation: "test0001", Dir: t.TempDir(), Binary: "/bin/true", Log: slog.New(slog.DiscardHandler)}
			if c.key != "" {
				cfg.Options = map[string]string{c.key: c.value}
			}
			if _, err := New(cfg); (err == nil) != c.ok {
				t.Errorf("New = %v, want ok %v", err, c.ok)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	all := cloud.Limits{MemoryBytes: 64 << 20, CPUPercent: 150, Processes: 100}
	for _, c := range []struct {
		name string
		l    cloud.Limits
		v2   bool
		want string
	}{
		{"none", cloud.Limits{}, false, ""},
		{"none-v2", cloud.Limits{}, true, ""},
		{"v1", all, false, "lxc.cgroup.memory.limit_in_bytes=83886080 lxc.cgroup.cpu.cfs_period_us=100000 lxc.cgroup.cpu.cfs_quota_us=150000 lxc.cgroup.pids.max=132"},
		{"v2", all, true, "lxc.cgroup2.memory.max=83886080 lxc.cgroup2.memory.swap.max=0 lxc.cgroup2.cpu.max=150000 100000 lxc.cgroup2.pids.max=132"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			limits(func(key, format string, args ...any) { got = append(got, key+"="+fmt.Sprintf(format, args...)) }, c.l, c.v2)
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestResolvers(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	real := file("real", "# by hand\nsearch example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n")
	stub := file("stub", "nameserver 127.0.0.53\noptions edns0\n")
	for _, c := range []struct {
		name  string
		files []string
		want  string
	}{
		{"loopback-left-out", []string{real}, "search example.org\nnameserver 192.0.2.53\n"},
		{"second-file", []string{stub, real}, "search example.org\nnameserver 192.0.2.53\n"},
		{"none", []string{stub, filepath.Join(dir, "missing")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(resolvers(c.files...)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestNamesFit(t *testing.T) {
	d := &driver{c: cloud.Config{Installation: "abcdefgh"}}
	if err := d.net.init(d, ""); err != nil {
		t.Fatal(err)
	}
	d.net.plan.Subnet = netip.MustParsePrefix("10.192.0.0/12")
	for _, name := range []string{d.net.bridge(maxSlots - 1), d.net.veth(strings.Repeat("x", 32))} {
		if len(name) > 15 {
			t.Errorf("interface name %s has %d characters", name, len(name))
		}
	}
	if got, want := d.net.at(300, 7), netip.MustParseAddr("10.193.44.7"); got != want {
		t.Errorf("address = %v, want %v", got, want)
	}
	d.users.init("abcdefgh")
	if top := d.users.base(maxSlots) + idRange; top > 1<<31-1 {
		t.Errorf("ids go up to %d", top)
	}
}
