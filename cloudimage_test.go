package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/roles"
	"nutshell/services/php"
)

// cloudImageVariable names the disk that TestCloudImage starts, raw or qcow2,
// and cloudForms the forms of context that it tries; empty: all.
const (
	cloudImageVariable = "NUTSHELL_CLOUD_IMAGE"
	cloudForms         = "NUTSHELL_CLOUD_FORMS"
)

// bootLimit bounds a boot by software emulation on a busy machine.
const bootLimit = 20 * time.Minute

// vmCloud is a driver: its instances are virtual machines of the image. It is
// as much of a cloud as a manager needs.
type vmCloud struct {
	image, dir, key string

	mu       sync.Mutex
	next     []form // of the machines to come
	machines []*vm
	services []*httptest.Server
}

type vm struct {
	cloud.Instance
	form form
	cmd  *exec.Cmd
	dir  string
}

func (c *vmCloud) Check(context.Context) error { return nil }

func (c *vmCloud) StartTime() time.Duration { return bootLimit }

func (c *vmCloud) List(context.Context) (list []cloud.Instance, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.machines {
		list = append(list, m.Instance)
	}
	return list, nil
}

func (c *vmCloud) Terminate(_ context.Context, ids []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.machines = slices.DeleteFunc(c.machines, func(m *vm) bool {
		if !slices.Contains(ids, m.ID) {
			return false
		}
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait() // killed: that is the point
		return true
	})
	return nil
}

func (c *vmCloud) Launch(_ context.Context, specs []cloud.Spec) (list []cloud.Instance, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range specs {
		i := slices.IndexFunc(c.machines, func(m *vm) bool { return m.Name == s.Name })
		if i < 0 {
			m, err := c.start(s)
			if err != nil {
				return list, &cloud.LaunchError{Name: s.Name, Err: err}
			}
			c.machines, i = append(c.machines, m), len(c.machines)
		}
		list = append(list, c.machines[i].Instance)
	}
	return list, nil
}

// start starts a machine whose disk is larger than its image.
func (c *vmCloud) start(s cloud.Spec) (*vm, error) {
	if len(c.next) == 0 {
		return nil, fmt.Errorf("%w: no form is left", cloud.ErrQuota)
	}
	f := c.next[0]
	c.next = c.next[1:]
	m := &vm{form: f, dir: filepath.Join(c.dir, s.Name), Instance: cloud.Instance{ID: s.Name, Name: s.Name, Group: s.Group, Tags: s.Tags, Running: true, Created: time.Now(),
		Address: fmt.Sprintf("127.53.0.%d", len(forms)-len(c.next)+1)}}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, err
	}
	disk, kind := filepath.Join(m.dir, "disk"), "raw"
	if strings.HasSuffix(c.image, ".qcow2") {
		kind = "qcow2"
	}
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-b", c.image, "-F", kind, disk, "12G").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	key, err := os.ReadFile(c.key + ".pub")
	if err != nil {
		return nil, err
	}
	more, err := f.make(c, m.dir, strings.TrimSpace(string(key)), s.Context)
	if err != nil {
		return nil, err
	}
	net := "user,id=n0"
	if f.subnet != nil {
		net += "," + f.subnet[0] + ",host=" + f.subnet[1]
	}
	for _, port := range []string{"22", "5557"} {
		net += ",hostfwd=tcp:" + m.Address + ":" + port + "-" + f.address + ":" + port
	}
	disks := map[string][]string{"ahci": {"-device", "ahci,id=ahci", "-device", "ide-hd,drive=d0,bus=ahci.0"}, "virtio-scsi": {"-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=d0"}}[f.disk]
	if disks == nil {
		disks = []string{"-device", f.disk + ",drive=d0"}
	}
	args := slices.Concat([]string{"-accel", "tcg,thread=multi", "-cpu", "max", "-m", "768", "-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:" + filepath.Join(m.dir, "serial"),
		"-drive", "if=none,id=d0,format=qcow2,cache=unsafe,file=" + disk}, disks, more[1:], []string{"-netdev", net + more[0], "-device", f.network + ",netdev=n0"})
	m.cmd = exec.Command("qemu-system-x86_64", args...)
	if wait := os.Getenv("NUTSHELL_VM_WRAPPER"); wait != "" { // of a machine that many share
		m.cmd = exec.Command(wait, append([]string{"qemu-system-x86_64"}, args...)...)
	}
	m.cmd.Stderr = os.Stderr
	return m, m.cmd.Start()
}

// TestCloudImage has a director start its managers in machines of the image,
// one for each form of context: each joins, has the name, the key and the disk
// that its cloud says, and is the same when it starts again.
func TestCloudImage(t *testing.T) {
	c := &vmCloud{image: os.Getenv(cloudImageVariable), dir: t.TempDir()}
	if c.image == "" {
		t.Skip("set " + cloudImageVariable + " to a disk of the recipe cloud; make cloud-test CLOUD=FILE does")
	}
	for program, pkg := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "genisoimage": "genisoimage", "mcopy": "mtools", "mkfs.vfat": "dosfstools", "socat": "socat", "ssh": "openssh-client"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("install the Debian package %s", pkg)
		}
	}
	want := strings.Fields(os.Getenv(cloudForms))
	for _, f := range forms {
		if len(want) == 0 || slices.Contains(want, f.name) {
			c.next = append(c.next, f)
		}
	}
	all := slices.Clone(c.next)
	c.key = filepath.Join(c.dir, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", c.key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Accounts of daemons must get through, see the director's own check.
	if err := errors.Join(os.Chmod(c.dir, 0o711), os.Chmod(filepath.Dir(c.dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	nutshell := c.director(t)
	for i, f := range all {
		t.Run(f.name, func(t *testing.T) {
			began := time.Now()
			app := fmt.Sprintf("app%d", i)
			nutshell(t, "application", "create", app)
			nutshell(t, "application", "start", app)
			t.Logf("its manager answers %v after power-on", time.Since(began).Round(time.Second))
			c.mu.Lock()
			m := c.machines[len(c.machines)-1]
			c.mu.Unlock()
			t.Cleanup(func() {
				if t.Failed() {
					b, _ := os.ReadFile(filepath.Join(m.dir, "serial"))
					t.Logf("the serial line:\n%s", b[max(0, len(b)-6000):])
				}
			})
			m.is(t, c.key)
			nutshell(t, "application", "stop", app)
		})
	}
}

// is looks at the machine from inside.
func (m *vm) is(t *testing.T, key string) {
	t.Helper()
	var out []byte
	end := time.Now().Add(bootLimit)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		var err error
		out, err = exec.CommandContext(ctx, "ssh", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "admin@"+m.Address,
			"hostname; df --output=size -BM / | tail -n 1; ip -4 -o addr show scope global; sudo cat /var/lib/nutshell/log/join.log; systemctl is-system-running; systemctl --failed --no-legend; systemd-analyze").CombinedOutput()
		cancel()
		if bytes.Contains(out, []byte("joined")) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nobody can sign in: %v: %s", err, out)
		}
		time.Sleep(5 * time.Second)
	}
	t.Logf("%s", out)
	lines := strings.Split(string(out), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Warning:") })
	if lines[0] != m.form.host {
		t.Errorf("it is called %q, want %q", lines[0], m.form.host)
	}
	var size int
	if _, err := fmt.Sscanf(strings.TrimSpace(lines[1]), "%dM", &size); err != nil || size < 11000 {
		t.Errorf("its root file system has %s of 12 GB", lines[1])
	}
	if !strings.Contains(string(out), m.form.address+"/24") && m.form.address != "" {
		t.Error("it has not the address that the cloud says")
	}
}

// director runs one with this cloud, which ends with the test.
func (c *vmCloud) director(t *testing.T) func(t *testing.T, args ...string) string {
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, m := range c.machines {
			_ = m.cmd.Process.Kill()
			_ = m.cmd.Wait() // killed
		}
		for _, s := range c.services {
			s.Close()
		}
	})
	return directorOf(t, c, c.dir, "127.0.0.1", "10.0.2.2,169.254.0.2")
}

// directorOf runs a director with a cloud in this process, on an address of this
// machine, and returns its command line, which returns what it prints.
func directorOf(t *testing.T, driver cloud.Driver, dir, host, names string) func(t *testing.T, args ...string) string {
	data := filepath.Join(dir, "data")
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	listen := l.Addr().String()
	_ = l.Close()
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte("clouds:\n  - name: default\n    driver: vm\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	program := func(out *bytes.Buffer) *roles.Program {
		p := &roles.Program{Stdout: out, Stderr: out, Stdin: strings.NewReader("")}
		p.Clouds.Register("vm", func(cloud.Config) (cloud.Driver, error) { return driver, nil })
		p.Services.Register(php.Kind())
		return p
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan string, 1)
	go func() {
		var out bytes.Buffer
		code := program(&out).Main(ctx, []string{"nutshell", "up", "--config", config, "--data-dir", data, "--listen", listen, "--git-listen", "none", "--name", names})
		ended <- fmt.Sprintf("%d: %s", code, &out)
	}()
	t.Cleanup(func() {
		stop()
		said := <-ended
		if t.Failed() {
			t.Log(said)
		}
	})
	t.Setenv("NUTSHELL_DATA_DIR", data)
	t.Setenv("HOME", dir)
	for end := time.Now().Add(10 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(data, "client.yaml")); err == nil {
			break
		}
		if time.Now().After(end) || len(ended) > 0 {
			t.Fatal("the director does not come up")
		}
	}
	return func(t *testing.T, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
		defer cancel()
		if code := program(&out).Main(ctx, append([]string{"nutshell"}, args...)); code != 0 {
			t.Fatalf("nutshell %s: %s", strings.Join(args, " "), &out)
		}
		return out.String()
	}
}
