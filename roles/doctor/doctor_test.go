package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// healthy is a machine with nothing wrong.
func healthy(t *testing.T) *Patient {
	t.Helper()
	root := t.TempDir()
	data := filepath.Join(root, "data")
	if err := os.MkdirAll(data, 0o711); err != nil {
		t.Fatal(err)
	}
	// The test's own directories may not be passed by others, a machine's may.
	for dir := data; dir != "/" && dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	p := &Patient{Root: root, Euid: os.Geteuid(), Now: func() time.Time { return noon }, Built: noon.Add(-time.Hour), DataDir: data, Containers: true,
		Ports:  []Port{{Key: "listen", Address: "127.0.0.1:5700"}},
		Clouds: map[string]func(context.Context) error{"default": func(context.Context) error { return nil }}, Fallback: map[string]string{},
		Helper:   func() error { return nil },
		Database: func(context.Context, string) error { return nil },
		Layers:   func() ([]string, string, error) { return nil, "trixie", nil },
		Identity: func() (string, time.Time, error) { return "an agent", noon.Add(20 * time.Hour), nil },
		Ask: func(context.Context) (Answer, error) {
			return Answer{URL: "https://127.0.0.1:5700", Version: "v1", Own: "v1", Time: noon, SignedIn: true}, nil
		},
		Unit:     func(context.Context, string) string { return "active" },
		Statfs:   func(string) (unix.Statfs_t, error) { return unix.Statfs_t{Bsize: 4096, Bavail: 10 << 20}, nil },
		Listen:   func(context.Context, string) error { return nil },
		Lookup:   func(context.Context, string) error { return nil },
		Kept:     func() (bool, error) { return true, nil },
		Firewall: func() error { return nil },
		Program:  func(string) bool { return true }}
	put(t, p, map[string]string{
		"/proc/filesystems":                  "nodev\tsysfs\nnodev\toverlay\n\text4\n",
		"/proc/sys/kernel/osrelease":         "6.12.0\n",
		"/lib/modules/6.12.0/modules.dep":    "kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko.xz\nkernel/drivers/net/veth.ko:\nkernel/drivers/block/loop.ko:\n",
		"/proc/self/mountinfo":               "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"/sys/fs/cgroup/cgroup.controllers":  "cpuset cpu io memory pids\n",
		"/proc/sys/user/max_user_namespaces": "1000\n",
		"/proc/meminfo":                      "MemTotal: 4000000 kB\nMemAvailable: 3000000 kB\n",
		"/proc/self/limits":                  "Max open files            1024                 1048576              files     \n",
		"/proc/net/route":                    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
		"/etc/apt/sources.list":              "# deb http://wrong.example/debian x main\ndeb [signed-by=/k] http://mirror.example:8080/debian trixie main\n",
		"/run/systemd/system/x":              "",
		"/data/ca/root.pem":                  certificate(t, noon.Add(-time.Hour), noon.AddDate(20, 0, 0)),
		"/data/ca/intermediate.pem":          certificate(t, noon.Add(-time.Hour), noon.AddDate(5, 0, 0)),
	})
	return p
}

func put(t *testing.T, p *Patient, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := p.path(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func certificate(t *testing.T, from, to time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}))
}

func TestHealthyMachine(t *testing.T) {
	for _, of := range Subjects() {
		for _, f := range Examine(t.Context(), healthy(t), of) {
			if f.Level != OK && f.Check != "certificate" {
				t.Errorf("%s: %+v", of, f)
			}
		}
	}
}

func TestWhatIsWrongIsFound(t *testing.T) {
	listen := func(err error) func(*testing.T, *Patient) {
		return func(_ *testing.T, p *Patient) {
			p.Listen = func(context.Context, string) error { return fmt.Errorf("listen: %w", err) }
		}
	}
	file := func(name, text string) func(*testing.T, *Patient) {
		return func(t *testing.T, p *Patient) { put(t, p, map[string]string{name: text}) }
	}
	full := func(s unix.Statfs_t) func(*testing.T, *Patient) {
		return func(_ *testing.T, p *Patient) {
			p.Statfs = func(string) (unix.Statfs_t, error) { s.Bsize = 1 << 20; return s, nil }
		}
	}
	answer := func(change func(*Answer)) func(*testing.T, *Patient) {
		return func(_ *testing.T, p *Patient) {
			p.Ask = func(context.Context) (Answer, error) {
				a := Answer{URL: "https://d:5555", Version: "v1", Own: "v1", Time: noon, SignedIn: true}
				change(&a)
				return a, nil
			}
		}
	}
	for _, c := range []struct {
		name   string
		of     Subject
		ruin   func(*testing.T, *Patient)
		check  string
		level  Level
		found  string // parts of the finding and of what to do
		advice string
	}{
		{"unknown-key", Director, func(_ *testing.T, p *Patient) {
			p.Settings = errors.New("/etc/nutshell/nutshell.yaml:3: lisen: there is no such key")
		}, "configuration", Fail, ":3", "mend"},
		{"clock-in-1970", Director, func(_ *testing.T, p *Patient) { p.Now = func() time.Time { return time.Unix(60, 0) } }, "clock", Fail, "1970", "set-ntp"},
		{"clock-before-the-data", Director, func(t *testing.T, p *Patient) {
			put(t, p, map[string]string{"/data/nutshell.db": "x"})
			if err := os.Chtimes(p.path("/data/nutshell.db"), noon, noon.AddDate(0, 1, 0)); err != nil {
				t.Fatal(err)
			}
		}, "clock", Fail, "nutshell.db was written", "set-ntp"},
		{"clock-not-kept", Node, func(_ *testing.T, p *Patient) { p.Kept = func() (bool, error) { return false, nil } }, "clock", Warn, "no time service", "timesyncd"},
		{"little-memory", Director, file("/proc/meminfo", "MemAvailable: 300000 kB\n"), "memory", Warn, "292 MB", "memory"},
		{"no-memory", Director, file("/proc/meminfo", "MemAvailable: 50000 kB\n"), "memory", Fail, "48 MB", "memory"},
		{"few-files", Director, file("/proc/self/limits", "Max open files            1024                 1024              files     \n"), "open-files", Warn, "1024", "LimitNOFILE"},
		{"disk-full", Director, full(unix.Statfs_t{Bavail: 100}), "space", Fail, "100 MB", "image layers clean"},
		{"disk-low", Director, full(unix.Statfs_t{Bavail: 1000}), "space", Warn, "1000 MB", "image layers clean"},
		{"no-inodes", Director, full(unix.Statfs_t{Bavail: 9000, Files: 1000000, Ffree: 10}), "space", Warn, "10 more files", ""},
		{"in-memory", Director, full(unix.Statfs_t{Bavail: 9000, Type: unix.TMPFS_MAGIC}), "space", Warn, "in memory", "data_dir"},
		{"data-on-nfs", Director, full(unix.Statfs_t{Bavail: 9000, Type: unix.NFS_SUPER_MAGIC}), "space", Fail, "overlay or network", "data_dir"},
		{"data-is-a-file", Director, func(t *testing.T, p *Patient) { put(t, p, map[string]string{"/file": ""}); p.DataDir = p.path("/file") }, "data", Fail, "no directory", "data_dir"},
		{"database-open-to-all", Director, func(t *testing.T, p *Patient) {
			put(t, p, map[string]string{"/data/nutshell.db": "x"})
			if err := os.Chmod(p.path("/data/nutshell.db"), 0o644); err != nil { // that is the point
				t.Fatal(err)
			}
		}, "data", Fail, "other accounts", "chmod go="},
		{"database-damaged", Director, func(_ *testing.T, p *Patient) {
			p.Database = func(context.Context, string) error { return errors.New("row 7 missing") }
		}, "database", Fail, "row 7", "older copy"},
		{"authority-ended", Director, file("/data/ca/intermediate.pem", certificate(t, noon.AddDate(-2, 0, 0), noon.Add(-time.Hour))), "authority", Fail, "ended", "root.key"},
		{"authority-to-come", Director, file("/data/ca/root.pem", certificate(t, noon.AddDate(0, 0, 1), noon.AddDate(9, 0, 0))), "authority", Fail, "to come", "clock"},
		{"authority-without-its-key", Director, file("/data/ca/intermediate.pem", certificate(t, noon.AddDate(-2, 0, 0), noon.AddDate(0, 2, 0))), "authority", Warn, "not here", "root.key"},
		{"authority-broken", Director, file("/data/ca/root.pem", "nothing"), "authority", Fail, "no certificate", "copy"},
		{"edge-certificate-ends", Director, func(t *testing.T, p *Patient) {
			put(t, p, map[string]string{"/chain.pem": certificate(t, noon.AddDate(0, -3, 0), noon.AddDate(0, 0, 3))})
			p.EdgeChain, p.EdgeKey = p.path("/chain.pem"), p.path("/chain.pem")
		}, "certificate", Warn, "2026-06-04", "renew"},
		{"edge-key-of-another", Director, func(t *testing.T, p *Patient) {
			put(t, p, map[string]string{"/chain.pem": certificate(t, noon, noon.AddDate(1, 0, 0)), "/key.pem": certificate(t, noon, noon.AddDate(1, 0, 0))})
			p.EdgeChain, p.EdgeKey = p.path("/chain.pem"), p.path("/key.pem")
		}, "certificate", Fail, "private key", "own key"},
		{"identity-ended", Instance, func(_ *testing.T, p *Patient) {
			p.Identity = func() (string, time.Time, error) { return "agent 7", noon.Add(-time.Minute), nil }
		}, "identity", Fail, "agent 7", "renew"},
		{"identity-not-renewed", Node, func(_ *testing.T, p *Patient) {
			p.Identity = func() (string, time.Time, error) { return "node 7", noon.Add(time.Hour), nil }
		}, "identity", Warn, "should have been renewed", ""},
		{"not-joined", Node, func(_ *testing.T, p *Patient) {
			p.Identity = func() (string, time.Time, error) { return "", time.Time{}, fs.ErrNotExist }
		}, "identity", Warn, "not joined", ""},
		{"no-helper", Director, func(_ *testing.T, p *Patient) {
			p.Helper = func() error { return errors.New("built without the lxc helper") }
		}, "helper", Warn, "without", "make build"},
		{"no-overlay", Director, file("/proc/filesystems", "\text4\n"), "overlay", Fail, "no overlay", "modprobe overlay"},
		{"no-nftables", Director, func(_ *testing.T, p *Patient) {
			p.Euid, p.Firewall = 0, func() error { return syscall.EPROTONOSUPPORT }
		}, "nf_tables", Fail, "nf_tables", "modprobe nf_tables"},
		{"no-veth", Director, file("/lib/modules/6.12.0/modules.dep", "kernel/net/bridge/bridge.ko:\nkernel/drivers/block/loop.ko:\n"), "modules", Fail, "veth", "modprobe veth"},
		{"no-loop", Director, file("/lib/modules/6.12.0/modules.dep", "kernel/net/bridge/bridge.ko:\nx/veth.ko:\n"), "modules", Warn, "loop", "modprobe loop"},
		{"no-groups", Director, file("/proc/self/mountinfo", "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n"), "control-groups", Fail, "no control groups", "mount"},
		{"pi-without-memory-limits", Director, func(t *testing.T, p *Patient) {
			put(t, p, map[string]string{"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n", "/boot/firmware/cmdline.txt": "root=/dev/mmcblk0p2"})
		}, "control-groups", Warn, "memory", "/boot/firmware/cmdline.txt"},
		{"no-user-namespaces", Director, file("/proc/sys/user/max_user_namespaces", "0\n"), "user-namespaces", Warn, "root of this machine", "sysctl"},
		{"container-without-limits", Director, func(t *testing.T, p *Patient) {
			put(t, p, map[string]string{"/sys/fs/cgroup/cgroup.controllers": "", "/run/systemd/container": "lxc"})
		}, "control-groups", Warn, "memory", "its own machine"},
		{"container-that-cannot-nest", Director, func(t *testing.T, p *Patient) {
			put(t, p, map[string]string{"/run/systemd/container": "lxc"})
			p.Euid, p.Nested = 0, func(context.Context) error { return errors.New("unshare: mount /proc failed") }
		}, "user-namespaces", Fail, "mount /proc failed", "nesting"},
		{"no-mkfs", Director, func(_ *testing.T, p *Patient) { p.Program = func(n string) bool { return n != "mkfs.ext4" } }, "programs", Warn, "mkfs.ext4", "e2fsprogs"},
		{"daemons-of-a-kind", Director, func(t *testing.T, p *Patient) {
			p.Containers, p.Processes, p.Kinds = false, true, map[string][]string{"php": {"nginx-light", "php-fpm"}}
			put(t, p, map[string]string{"/var/lib/dpkg/status": "Package: nginx-light\nStatus: install ok installed\nVersion: 1\n\nPackage: php-fpm\nStatus: deinstall ok config-files\n"})
		}, "programs", Warn, "php", "install --no-install-recommends php-fpm"},
		{"layers-and-no-tool", Director, func(_ *testing.T, p *Patient) {
			p.Layers = func() ([]string, string, error) { return []string{"java"}, "", nil }
			p.Program = func(n string) bool { return n != "mmdebstrap" }
		}, "layers", Warn, "java", "install --no-install-recommends mmdebstrap"},
		{"layers-not-built", Director, func(_ *testing.T, p *Patient) {
			p.Layers = func() ([]string, string, error) { return []string{"java"}, "", nil }
		}, "layers", Warn, "java", "image layers build"},
		{"cloud-does-not-work", Director, func(_ *testing.T, p *Patient) {
			p.Clouds["default"] = func(context.Context) error { return errors.New("liblxc is missing: apt-get install lxc") }
		}, "cloud-default", Fail, "liblxc", ""},
		{"cloud-has-another", Director, func(_ *testing.T, p *Patient) {
			p.Clouds["default"] = func(context.Context) error { return errors.New("liblxc is missing") }
			p.Fallback["default"] = "plain processes"
		}, "cloud-default", Warn, "plain processes", ""},
		{"port-taken", Director, listen(syscall.EADDRINUSE), "port 127.0.0.1:5700", Fail, "has it", "listen in the configuration"},
		{"port-of-an-address-elsewhere", Director, listen(syscall.EADDRNOTAVAIL), "port 127.0.0.1:5700", Fail, "no interface", "ip address"},
		{"port-of-root", Director, listen(syscall.EACCES), "port 127.0.0.1:5700", Fail, "below 1024", "setcap"},
		{"network-of-somebody", Director, func(_ *testing.T, p *Patient) {
			p.Subnets = []Subnet{{"default", "192.168.0.0/16"}}
		}, "networks", Fail, "192.168.2.0/24 of eth0", "subnet"},
		{"networks-overlap", Director, func(_ *testing.T, p *Patient) {
			p.Subnets = []Subnet{{"a", "10.5.0.0/16"}, {"b", "10.0.0.0/8"}}
		}, "networks", Fail, "cloud a", "subnet"},
		{"docker", Director, file("/sys/class/net/docker0/operstate", "up"), "forwarding", Warn, "Docker", "DOCKER-USER"},
		{"no-names", Director, func(_ *testing.T, p *Patient) {
			p.Lookup = func(_ context.Context, host string) error { return errors.New(host) }
		}, "names", Warn, "mirror.example,", "resolv.conf"},
		{"unit-failed", Director, func(_ *testing.T, p *Patient) { p.Unit = func(context.Context, string) string { return "failed" } }, "unit", Fail, "nutshell.service", "journalctl"},
		{"director-away", Client, func(_ *testing.T, p *Patient) {
			p.Ask = func(context.Context) (Answer, error) {
				return Answer{URL: "https://d:5555", From: "the environment"}, errors.New("does not answer")
			}
		}, "director", Fail, "does not answer", "the environment"},
		{"clocks-apart", Client, answer(func(a *Answer) { a.Time = noon.Add(-time.Hour) }), "time", Fail, "1h0m0s apart", "set-ntp"},
		{"other-version", Client, answer(func(a *Answer) { a.Version = "v2" }), "version", Warn, "v2", "director's"},
		{"director-says-cloud", Client, answer(func(a *Answer) { a.Problems = map[string]string{"ec2": "no credentials"} }), "cloud ec2", Fail, "no credentials", ""},
		{"secrets-shown", Director, func(t *testing.T, p *Patient) {
			put(t, p, map[string]string{"/n.yaml": ""})
			if err := os.Chmod(p.path("/n.yaml"), 0o644); err != nil { // that is the point
				t.Fatal(err)
			}
			p.SecretFiles = []string{p.path("/n.yaml")}
		}, "secrets", Warn, "n.yaml", "chmod go="},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := healthy(t)
			c.ruin(t, p)
			for _, f := range Examine(t.Context(), p, c.of) {
				if f.Check == c.check && f.Level == c.level && strings.Contains(f.Found, c.found) && strings.Contains(f.Do, c.advice) {
					if f.Do == "" && !strings.HasPrefix(c.check, "cloud") { // a driver's own words say what to do
						t.Errorf("nothing to do about it: %+v", f)
					}
					return
				}
			}
			t.Errorf("not found: %s %s %q %q in %+v", c.level, c.check, c.found, c.advice, Examine(t.Context(), p, c.of))
		})
	}
}

func TestReadOnlyDirectory(t *testing.T) {
	p := healthy(t)
	if os.Geteuid() == 0 {
		p.DataDir = "/proc/sys/kernel" // nobody makes files there
	} else if err := os.Chmod(p.DataDir, 0o511); err != nil { // that is the point
		t.Fatal(err)
	}
	if f := checkData(t.Context(), p); f.Level != Fail || !strings.Contains(f.Found, "cannot write") {
		t.Errorf("got %+v", f)
	}
}

func TestOwnPortIsFine(t *testing.T) {
	p := healthy(t)
	p.Running = 4711
	p.Listen = func(context.Context, string) error { return syscall.EADDRINUSE }
	put(t, p, map[string]string{
		"/proc/net/tcp":   "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1644 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1\n",
		"/proc/4711/comm": "nutshell\n", "/proc/4712/comm": "nginx\n"})
	link := func(pid string) {
		if err := os.MkdirAll(p.path("/proc/"+pid+"/fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(p.path("/proc/4711/fd/9"))
		if err := os.Symlink("socket:[777]", p.path("/proc/"+pid+"/fd/9")); err != nil {
			t.Fatal(err)
		}
	}
	link("4711")
	if f := p.port(t.Context(), p.Ports[0]); f.Level != OK {
		t.Errorf("its own: %+v", f)
	}
	link("4712")
	if f := p.port(t.Context(), p.Ports[0]); f.Level != Fail || !strings.Contains(f.Found, "nginx (process 4712)") {
		t.Errorf("another's: %+v", f)
	}
}

// TestHangingCheckIsTold: the others' findings come all the same.
func TestHangingCheckIsTold(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	all := examine(t.Context(), healthy(t), Director, []check{
		{"hangs", Subjects(), single(func(context.Context, *Patient) Finding { <-hang; return ok("") })},
		{"fine", Subjects(), single(func(context.Context, *Patient) Finding { return ok("fine") })},
		{"of-others", []Subject{Client}, single(func(context.Context, *Patient) Finding { return fail("", "no") })},
	}, 3*time.Second)
	if len(all) != 2 || all[0].Level != Warn || !strings.Contains(all[0].Found, "no answer") || all[1].Level != OK || Worst(all) != Warn {
		t.Errorf("got %+v", all)
	}
}
