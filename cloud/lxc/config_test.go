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
		{"volumes", "volumes", "directory", true},
		{"volumes-nonsense", "volumes", "big", false},
		{"unknown", "bridge", "br0", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := cloud.Config{Name: "default", Installation: "test0001", Dir: t.TempDir(), Binary: "/bin/true", Log: slog.New(slog.DiscardHandler)}
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
	every := map[string]bool{"memory": true, "cpu": true, "pids": true}
	for _, c := range []struct {
		name    string
		l       cloud.Limits
		has     controllers
		want    string
		missing string
	}{
		{"none", cloud.Limits{}, controllers{has: every}, "", ""},
		{"none-v2", cloud.Limits{}, controllers{v2: true}, "", ""},
		{"v1", all, controllers{has: every}, "lxc.cgroup.memory.limit_in_bytes=83886080 lxc.cgroup.cpu.cfs_period_us=100000 lxc.cgroup.cpu.cfs_quota_us=150000 lxc.cgroup.pids.max=132", ""},
		{"v2", all, controllers{v2: true, has: every}, "lxc.cgroup2.memory.max=83886080 lxc.cgroup2.cpu.max=150000 100000 lxc.cgroup2.pids.max=132", ""},
		{"v1-swap", cloud.Limits{MemoryBytes: 1}, controllers{swap: true, has: every}, "lxc.cgroup.memory.limit_in_bytes=16777217 lxc.cgroup.memory.memsw.limit_in_bytes=16777217", ""},
		{"v2-swap", cloud.Limits{MemoryBytes: 1}, controllers{v2: true, swap: true, has: every}, "lxc.cgroup2.memory.max=16777217 lxc.cgroup2.memory.swap.max=0", ""},
		{"no-memory-controller", all, controllers{v2: true, has: map[string]bool{"cpu": true, "pids": true}}, "lxc.cgroup2.cpu.max=150000 100000 lxc.cgroup2.pids.max=132", "memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			missing := limits(func(key, format string, args ...any) { got = append(got, key+"="+fmt.Sprintf(format, args...)) }, c.l, c.has)
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
			if m := strings.Join(missing, " "); m != c.missing {
				t.Errorf("missing %q, want %q", m, c.missing)
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
	d := &driver{tag: "abcdefgh"}
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

func TestAppArmor(t *testing.T) {
	for _, c := range []struct{ name, enabled, profiles, want string }{
		{"off", "N\n", "", ""},
		{"on-with-profiles", "Y\n", "/usr/bin/man (enforce)\nlxc-container-default-cgns (enforce)\n", ""},
		{"on-without-profiles", "Y\n", "/usr/bin/man (enforce)\n", "unconfined"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"enabled": c.enabled, "profiles": c.profiles} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := appArmor(filepath.Join(dir, "enabled"), filepath.Join(dir, "profiles")); got != c.want {
				t.Errorf("profile = %q, want %q", got, c.want)
			}
		})
	}
	if got := appArmor("/nonexistent", "/nonexistent"); got != "" {
		t.Errorf("profile without AppArmor = %q", got)
	}
}
