package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/cloud"
)

// containerImageVariable names the -rootfs.tar.zst of an image of the recipe
// lxc, with php inside; what describes it lies beside.
const containerImageVariable = "NUTSHELL_CONTAINER_IMAGE"

// Of the bridge that the containers are on.
const (
	plainBridge = "nutest0"
	plainHost   = "10.57.3.1"
)

// plainCloud is a driver: its instances are containers of the image, started
// by LXC's own programs as the manual says, and told what they are by a file.
type plainCloud struct {
	root, meta, dir string

	mu   sync.Mutex
	list []cloud.Instance
	next int // of the addresses
}

func (c *plainCloud) Check(context.Context) error { return nil }

func (c *plainCloud) StartTime() time.Duration { return bootLimit }

func (c *plainCloud) List(context.Context) ([]cloud.Instance, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list), nil
}

func (c *plainCloud) Launch(_ context.Context, specs []cloud.Spec) (list []cloud.Instance, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range specs {
		i := slices.IndexFunc(c.list, func(i cloud.Instance) bool { return i.Name == s.Name })
		if i < 0 {
			address := fmt.Sprintf("10.57.3.%d", 10+c.next)
			if err := c.start(s, c.next); err != nil {
				return list, &cloud.LaunchError{Name: s.Name, Err: err}
			}
			i, c.next = len(c.list), c.next+1
			c.list = append(c.list, cloud.Instance{ID: s.Name, Name: s.Name, Group: s.Group, Tags: s.Tags, Running: true, Created: time.Now(), Address: address})
		}
		list = append(list, c.list[i])
	}
	return list, nil
}

// start does what docs/operate/images.md says for plain LXC.
func (c *plainCloud) start(s cloud.Spec, n int) error {
	dir := filepath.Join(c.dir, s.Name)
	root := filepath.Join(dir, "rootfs")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, args := range [][]string{{"--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", c.root, "-C", root}, {"-xf", c.meta, "-C", dir, "config"}} {
		if out, err := exec.Command("tar", append([]string{"--zstd"}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("tar: %w: %s", err, out)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, "config"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "lxc.uts.name = %s\nlxc.rootfs.path = dir:%s\nlxc.net.0.type = veth\nlxc.net.0.link = %s\nlxc.net.0.flags = up\nlxc.net.0.hwaddr = 02:00:0a:39:03:%02x\n", s.Name, root, plainBridge, 10+n)
	err = errors.Join(err, f.Close(), os.MkdirAll(filepath.Join(root, "etc/nutshell"), 0o755), os.WriteFile(filepath.Join(root, "etc/nutshell/context.json"), s.Context, 0o600))
	if err != nil {
		return err
	}
	if out, err := exec.Command("lxc-start", "-P", c.dir, "-n", s.Name, "-o", filepath.Join(dir, "log")).CombinedOutput(); err != nil {
		return fmt.Errorf("lxc-start: %w: %s", err, out)
	}
	return nil
}

func (c *plainCloud) Terminate(_ context.Context, ids []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = slices.DeleteFunc(c.list, func(i cloud.Instance) bool {
		if slices.Contains(ids, i.ID) {
			_ = exec.Command("lxc-stop", "-P", c.dir, "-n", i.ID, "-k").Run() // ended by itself already
			return true
		}
		return false
	})
	return nil
}

// network makes the bridge and gives each container its address.
func (c *plainCloud) network(t *testing.T) {
	t.Helper()
	do := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	do("ip", "link", "add", plainBridge, "type", "bridge")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", plainBridge).Run() })
	do("ip", "addr", "add", plainHost+"/24", "dev", plainBridge)
	do("ip", "link", "set", plainBridge, "up")
	args := []string{"--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--bind-interfaces", "--interface=" + plainBridge, "--dhcp-leasefile=" + filepath.Join(c.dir, "leases"), "--pid-file=", "--user=root",
		"--dhcp-range=10.57.3.10,10.57.3.99,255.255.255.0,1h", "--log-facility=" + filepath.Join(c.dir, "dhcp.log")}
	for n := range 90 {
		args = append(args, fmt.Sprintf("--dhcp-host=02:00:0a:39:03:%02x,10.57.3.%d", 10+n, 10+n))
	}
	dhcp := exec.Command("dnsmasq", args...)
	dhcp.Stderr = os.Stderr
	if err := dhcp.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dhcp.Process.Kill()
		_ = dhcp.Wait() // killed
	})
}

// TestContainerImage has a director start an application in containers of the
// image, up to a page of PHP.
func TestContainerImage(t *testing.T) {
	root := os.Getenv(containerImageVariable)
	if root == "" {
		t.Skip("set " + containerImageVariable + " to a -rootfs.tar.zst of the recipe lxc; make cloud-test CONTAINER=FILE does")
	}
	for program, pkg := range map[string]string{"lxc-start": "lxc", "dnsmasq": "dnsmasq-base", "zstd": "zstd", "ip": "iproute2"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("install the Debian package %s", pkg)
		}
	}
	c := &plainCloud{root: root, meta: strings.TrimSuffix(root, "-rootfs.tar.zst") + "-meta.tar.zst", dir: t.TempDir()}
	if err := errors.Join(os.Chmod(c.dir, 0o711), os.Chmod(filepath.Dir(c.dir), 0o711)); err != nil { // as for cloud images
		t.Fatal(err)
	}
	c.network(t)
	t.Cleanup(func() {
		left, _ := c.List(context.Background())
		for _, i := range left {
			if t.Failed() {
				log, _ := exec.Command("lxc-attach", "-P", c.dir, "-n", i.ID, "--", "sh", "-c", "ip -4 -o addr; systemctl --failed --no-legend; journalctl -n 40 --no-pager").CombinedOutput()
				t.Logf("%s:\n%s", i.Name, log)
			}
			_ = c.Terminate(context.Background(), []string{i.ID})
		}
	})
	nutshell := directorOf(t, c, c.dir, plainHost, plainHost)
	began := time.Now()
	nutshell(t, "application", "create", "shop")
	nutshell(t, "application", "start", "shop")
	t.Logf("its manager answers after %v", time.Since(began).Round(100*time.Millisecond))
	nutshell(t, "service", "add", "php", "shop")
	nutshell(t, "php", "upload-code", "shop", "php", phpSite(t))
	nutshell(t, "service", "start", "shop", "php")
	version := regexp.MustCompile(`code-[a-z0-9]+`).FindString(strings.ReplaceAll(nutshell(t, "php", "list-codes", "shop", "php"), "code-default", ""))
	nutshell(t, "php", "enable-code", "shop", "php", version)
	url := regexp.MustCompile(`url: (http://[0-9.:]+)`).FindStringSubmatch(nutshell(t, "service", "get-state", "shop", "php"))
	if url == nil {
		t.Fatal("the service has no address")
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Get(url[1] + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Contains(b, []byte("the answer is 42")) {
		t.Errorf("got %q, %v", b, err)
	}
	t.Logf("%s serves after %v", url[1], time.Since(began).Round(100*time.Millisecond))
	for _, command := range strings.Split(os.Getenv("NUTSHELL_CONTAINER_LOOK"), "\n") { // commands that a customised image has to pass
		if command == "" {
			continue
		}
		out, err := exec.Command("lxc-attach", "-P", c.dir, "-n", c.list[0].ID, "--", "sh", "-c", command).CombinedOutput()
		t.Logf("%s: %s", command, out)
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	nutshell(t, "application", "stop", "shop")
}

// phpSite is an archive of a page that only PHP can make.
func phpSite(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	name := filepath.Join(dir, "site.tar.gz")
	if err := os.WriteFile(filepath.Join(dir, "index.php"), []byte("<?php echo 'the answer is ', 6 * 7, \"\\n\";\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-czf", name, "-C", dir, "index.php").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return name
}
