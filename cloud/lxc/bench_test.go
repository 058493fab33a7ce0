package lxc_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"nutshell/cloud"
)

// TestSpeed prints, side by side in one run, the time from the order to the
// first HTTP answer of one and of ten instances, and of a bare lxc-start of
// the same root file system. It runs when NUTSHELL_BENCH is set.
func TestSpeed(t *testing.T) {
	if os.Getenv("NUTSHELL_BENCH") == "" {
		t.Skip("set NUTSHELL_BENCH to measure")
	}
	b := newBed(t, nil)
	d, _ := b.driver(t)
	// The first instance makes the group's bridge; it stays during the run.
	launch := func(names ...string) (time.Duration, []string) {
		var specs []cloud.Spec
		for _, n := range names {
			specs = append(specs, cloud.Spec{Name: n, Group: "shop", Layers: []string{b.Layer}, Context: []byte("{}")})
		}
		began := time.Now()
		list, err := d.Launch(t.Context(), specs)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, i := range list {
			wg.Go(func() { answers(t, i, "/pid") })
		}
		wg.Wait()
		return time.Since(began), names
	}
	end := func(names []string) time.Duration {
		began := time.Now()
		if err := d.Terminate(t.Context(), names); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	launch("first")
	var ten []string
	for n := range 10 {
		ten = append(ten, fmt.Sprintf("ten-%d", n))
	}
	for round := range 5 {
		one, names := launch(fmt.Sprintf("one-%d", round))
		oneEnd := end(names)
		all, names := launch(ten...)
		allEnd := end(names)
		bare, bareEnd := b.bare(t)
		t.Logf("one %v (end %v), ten %v (end %v), bare lxc-start %v (lxc-stop %v)",
			one.Round(time.Millisecond), oneEnd.Round(time.Millisecond), all.Round(time.Millisecond), allEnd.Round(time.Millisecond),
			bare.Round(time.Millisecond), bareEnd.Round(time.Millisecond))
	}
}

// bare starts the same program in a privileged container on the same bridge.
func (b bed) bare(t *testing.T) (start, stop time.Duration) {
	t.Helper()
	dir := t.TempDir()
	began := time.Now()
	for _, p := range []string{"bare/upper", "bare/rootfs"} {
		if err := os.MkdirAll(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := "nsh" + b.Installation + "1"
	address := b.address(t, link)
	config := fmt.Sprintf(`lxc.include = /usr/share/lxc/config/common.conf
lxc.rootfs.path = overlay:%s:%s
lxc.uts.name = bare
lxc.init.cmd = /usr/bin/nutshell --role init --context /etc/motd --dir /var
lxc.environment = NUTSHELL_ADDRESS=%s
lxc.net.0.type = veth
lxc.net.0.link = %s
lxc.net.0.flags = up
lxc.net.0.hwaddr = 02:6e:00:00:00:01
lxc.net.0.ipv4.address = %s/24
lxc.mount.entry = %s usr/bin/nutshell none bind,ro,create=file 0 0
`, b.Layer, filepath.Join(dir, "bare/upper"), address, link, address, b.Binary)
	if err := os.WriteFile(filepath.Join(dir, "bare/config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) {
		args = append([]string{"-P", dir, "-n", "bare", "-l", "DEBUG", "-o", filepath.Join(dir, "log")}, args...)
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("%s: %v\n%s\n%s", name, err, out, log)
		}
	}
	run("lxc-start")
	answers(t, cloud.Instance{Name: "bare", Address: address}, "/pid")
	start = time.Since(began)
	began = time.Now()
	run("lxc-stop", "-k")
	return start, time.Since(began)
}
