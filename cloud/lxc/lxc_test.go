package lxc_test

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/cloud/lxc"
)

// bed is what the tests of one driver need: an installation of its own, so
// that nothing of the machine is touched, and a layer with nothing in it but
// directories, since the test's program is static.
type bed struct {
	Installation, Binary, Layer string
	Options                     map[string]string
}

// bedEnv hands a bed to a process of the same test.
const bedEnv = "NUTSHELL_TEST_BED"

func newBed(t *testing.T, options map[string]string) bed {
	t.Helper()
	if os.Geteuid() != 0 {
		cloudtest.Need(t, "containers need root")
	}
	var b bed
	if err := json.Unmarshal([]byte(os.Getenv(bedEnv)), &b); err == nil {
		return b
	}
	var id [4]byte
	_, _ = rand.Read(id[:])
	b = bed{Installation: hex.EncodeToString(id[:]), Binary: cloudtest.Program(t), Layer: t.TempDir(), Options: options}
	for _, dir := range []string{"etc", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(b.Layer, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(b.Layer, "etc/motd"), []byte("from the layer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.open(t, t.TempDir()).Check(t.Context()); err != nil {
		cloudtest.Need(t, err.Error())
	}
	return b
}

func (b bed) open(t *testing.T, dir string) cloud.Driver {
	t.Helper()
	d, err := lxc.New(cloud.Config{
		Name: "default", Installation: b.Installation, Dir: dir, Binary: b.Binary, Ports: []int{5555, 2222}, Options: b.Options, Log: cloudtest.Log(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// leftovers looks for whatever could bear our tag on this machine.
func (b bed) leftovers(t *testing.T, dir string) []string {
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "network.json" { // the plan of addresses stays
			left = append(left, filepath.Join(dir, e.Name()))
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/nutshell-" + b.Installation + "*")
	more, _ := filepath.Glob("/sys/fs/cgroup/nutshell-" + b.Installation + "*")
	stage, _ := filepath.Glob("/run/nutshell/" + b.Installation + "*")
	left = append(append(append(left, groups...), more...), stage...)
	interfaces := func() (names []string) {
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if strings.HasPrefix(l.Attrs().Name, "nsh"+b.Installation) || strings.HasPrefix(l.Attrs().Name, "nv") && l.Attrs().MasterIndex == 0 {
				names = append(names, "interface "+l.Attrs().Name)
			}
		}
		return names
	}
	found := interfaces()
	// Cables do not tell whose they are, and those of other tests hang on no bridge when they come and go.
	for end := time.Now().Add(time.Minute); len(found) > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now := interfaces()
		found = slices.DeleteFunc(found, func(name string) bool { return !slices.Contains(now, name) })
	}
	left = append(left, found...)
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, l := range loops {
		if file, err := os.ReadFile(l); err == nil && strings.Contains(string(file), dir) {
			left = append(left, l+": "+string(file))
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) || strings.Contains(line, b.Installation) {
			left = append(left, "mount "+line)
		}
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, c := range commands {
		if cmd, err := os.ReadFile(c); err == nil && strings.Contains(string(cmd), b.Installation) {
			left = append(left, c+": "+string(cmd))
		}
	}
	return left
}

func TestMain(m *testing.M) { os.Exit(cloudtest.TestMain(m)) }

func TestDriver(t *testing.T) {
	b := newBed(t, map[string]string{"privileged": "never"})
	cloudtest.Run(t, b.open, b.suite(t))
}

// TestPrivilegedDriver is the fallback of kernels without mapped layers.
func TestPrivilegedDriver(t *testing.T) {
	if testing.Short() {
		t.Skip("the suite ran with user namespaces")
	}
	b := newBed(t, map[string]string{"privileged": "always"})
	cloudtest.Run(t, b.open, b.suite(t))
}

func (b bed) suite(t *testing.T) cloudtest.Options {
	t.Helper()
	return cloudtest.Options{
		Layers: []string{b.Layer}, Isolated: true, Limited: true, Sized: true, Leftovers: b.leftovers,
		Tags: b.tags(), GrowsAtRest: !capable(t, unix.CAP_SYS_RESOURCE),
		Kill: func(t *testing.T, i cloud.Instance) {
			if err := syscall.Kill(initOf(t, b.Installation, i.Name), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// capable reports whether we have one of root's capabilities.
func capable(t *testing.T, bit int) bool {
	t.Helper()
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&h, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[bit/32].Effective&(1<<(bit%32)) != 0
}

func (b bed) tags() map[string]string {
	if b.Options["privileged"] == "always" {
		return map[string]string{"isolation": "privileged"}
	}
	return nil
}

// initOf finds an instance's first process by its control group.
func initOf(t *testing.T, installation, name string) int {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/pids/nutshell-%/payload", "/sys/fs/cgroup/nutshell-%/payload"} {
		dir := strings.Replace(pattern, "%", installation+"/"+name, 1)
		pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for pid := range strings.FieldsSeq(string(pids)) {
			status, _ := os.ReadFile("/proc/" + pid + "/status")
			for line := range strings.Lines(string(status)) {
				if f := strings.Fields(line); len(f) > 1 && f[0] == "NSpid:" && f[len(f)-1] == "1" {
					p, err := cloud.FindProcess(atoi(t, pid))
					if err == nil {
						return p.PID
					}
				}
			}
		}
	}
	t.Fatalf("no first process of %s", name)
	return 0
}

func TestDirectorIsKilled(t *testing.T) {
	b := newBed(t, nil)
	env, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	cloudtest.Killed(t, 12, []string{bedEnv + "=" + string(env)}, b.open, b.suite(t))
}

func TestDirectorIsKilledWithVolumes(t *testing.T) {
	b := newBed(t, nil)
	env, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	cloudtest.KilledVolumes(t, 8, []string{bedEnv + "=" + string(env)}, b.open, b.suite(t))
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n := 0
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

// answers waits for the instance.
func answers(t *testing.T, i cloud.Instance, path string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		got, err := cloudtest.Ask(t.Context(), i, path, nil)
		if err == nil {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%s%s: %v", i.Name, path, err)
		}
	}
}

// address is the last host address of a bridge's /24.
func (b bed) address(t *testing.T, bridge string) string {
	t.Helper()
	l, err := netlink.LinkByName(bridge)
	if err != nil {
		t.Fatal(err)
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil || len(list) == 0 {
		t.Fatalf("addresses of %s: %v, %v", bridge, list, err)
	}
	ip := list[0].IP.To4()
	ip[3] = 254
	return ip.String()
}
