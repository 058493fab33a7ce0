package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// applianceVariable names the OVA, or the disk, that TestAppliance starts.
const applianceVariable = "NUTSHELL_APPLIANCE"

// bootTime bounds a boot by software emulation on a busy machine.
const bootTime = 20 * time.Minute

// TestAppliance starts the disk of an OVA as VirtualBox would, by BIOS and by
// EFI, without the Internet: the pages answer, the screen shows a password that
// no other start of the same file shows, and a PHP site is hosted. NUTSHELL_BINARY
// is the command line that is used.
func TestAppliance(t *testing.T) {
	file := os.Getenv(applianceVariable)
	if file == "" {
		t.Skip("set " + applianceVariable + " to an OVA, or a disk of the recipe server; make appliance-test does")
	}
	binary := os.Getenv("NUTSHELL_BINARY")
	if binary == "" {
		binary = "./nutshell"
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	disk := unpackDisk(t, file)
	seen := map[string]string{}
	for _, firmware := range []string{"bios", "efi"} {
		t.Run(firmware, func(t *testing.T) {
			var extra []string
			if firmware == "efi" {
				const code = "/usr/share/ovmf/OVMF.fd"
				if _, err := os.Stat(code); err != nil {
					t.Skip("install the Debian package ovmf")
				}
				extra = []string{"-bios", code}
			}
			m := startAppliance(t, disk, extra...)
			for _, fact := range []string{m.password, m.ca} {
				if before, twice := seen[fact]; twice {
					t.Errorf("%s: the start by %s had the same", fact, before)
				}
				seen[fact] = firmware
			}
			if firmware == "bios" {
				m.hostsSite(t, binary)
			}
		})
	}
}

// unpackDisk takes the disk out of an OVA. Others, as of the recipe server, are
// disks themselves.
func unpackDisk(t *testing.T, file string) string {
	t.Helper()
	if !strings.HasSuffix(file, ".ova") {
		return file
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("no disk in %s: %v", file, err)
		}
		if !strings.HasSuffix(h.Name, ".vmdk") {
			continue
		}
		out, err := os.Create(filepath.Join(t.TempDir(), "disk.vmdk"))
		if err == nil {
			_, err = io.Copy(out, r) // our own file
		}
		if err = errors.Join(err, out.Close()); err != nil {
			t.Fatal(err)
		}
		return out.Name()
	}
}

// virtual is a running appliance.
type virtual struct {
	url, password, ca string
	serial            net.Conn
	mu                sync.Mutex
	screen            bytes.Buffer // all that the serial line has said
}

var (
	passwordOnScreen = regexp.MustCompile(`password +([a-z0-9-]{20,})`)
	caOnScreen       = regexp.MustCompile(`CA sha256 +([0-9a-f]{64})`)
)

func startAppliance(t *testing.T, disk string, extra ...string) *virtual {
	t.Helper()
	const qemu = "qemu-system-x86_64"
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skip("install the Debian package qemu-system-x86")
	}
	dir, port := t.TempDir(), freeTCP(t)
	args := append([]string{"-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048", "-smp", "2", "-nodefaults", "-display", "none", "-no-reboot", "-snapshot",
		"-chardev", "socket,id=s,path=" + dir + "/serial,server=on,wait=off,logfile=" + dir + "/log", "-serial", "chardev:s",
		"-netdev", fmt.Sprintf("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:%d-:443", port), "-device", "e1000,netdev=n0",
		"-netdev", "user,id=n1,net=192.168.56.0/24,host=192.168.56.1,restrict=on", "-device", "e1000,netdev=n1",
		"-device", "ahci,id=ahci", "-drive", "file=" + disk + ",if=none,id=d0", "-device", "ide-hd,drive=d0,bus=ahci.0"}, extra...)
	cmd := exec.Command(qemu, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	m := &virtual{url: fmt.Sprintf("https://127.0.0.1:%d", port)}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		if t.Failed() {
			m.mu.Lock()
			defer m.mu.Unlock()
			t.Logf("the screen:\n%s", m.screen.String()[max(0, m.screen.Len()-4000):])
		}
	})
	until(t, time.Minute, "the serial line", func() bool {
		var err error
		m.serial, err = net.Dial("unix", dir+"/serial")
		return err == nil
	})
	go m.listen()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // its fingerprint is on the screen, and is used below
	until(t, bootTime, "the pages", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("%s ended: %v: %s", qemu, err, &said)
		default:
		}
		resp, err := client.Get(m.url + "/")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	t.Logf("the pages answer %v after power-on", time.Since(began).Round(100*time.Millisecond))
	until(t, bootTime, "the menu with a password", func() bool {
		password, ca := passwordOnScreen.FindStringSubmatch(m.text()), caOnScreen.FindStringSubmatch(m.text())
		if password == nil || ca == nil {
			return false
		}
		m.password, m.ca = password[1], ca[1]
		return true
	})
	return m
}

func (m *virtual) listen() {
	b := make([]byte, 4096)
	for {
		n, err := m.serial.Read(b)
		m.mu.Lock()
		m.screen.Write(b[:n])
		m.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (m *virtual) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.screen.String()
}

// hostsSite makes a PHP service by the command line and looks at its page from
// the machine's own shell, which the menu gives.
func (m *virtual) hostsSite(t *testing.T, binary string) {
	t.Helper()
	run := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), bootTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "NUTSHELL_DIRECTOR="+m.url, "NUTSHELL_USER=admin", "NUTSHELL_PASSWORD="+m.password, "NUTSHELL_CA_SHA256="+m.ca)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("nutshell %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	began := time.Now()
	run("application", "create", "shop")
	run("application", "start", "shop")
	run("service", "add", "php", "shop")
	run("php", "upload-code", "shop", "php", site(t))
	run("service", "start", "shop", "php")
	version := regexp.MustCompile(`code-[a-z0-9]+`).FindString(strings.ReplaceAll(run("php", "list-codes", "shop", "php"), "code-default", ""))
	run("php", "enable-code", "shop", "php", version)
	url := regexp.MustCompile(`url: http://([0-9.]+)`).FindStringSubmatch(run("service", "get-state", "shop", "php"))
	if url == nil {
		t.Fatal("the service has no address")
	}
	t.Logf("a PHP site serves %v after it was asked for, at %s", time.Since(began).Round(100*time.Millisecond), url[1])
	fmt.Fprint(m.serial, "5\n")
	until(t, bootTime, "a shell", func() bool { return strings.Contains(m.text(), "root@nutshell") })
	fmt.Fprintf(m.serial, "exec 3<>/dev/tcp/%s/80; printf 'GET / HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n' >&3; cat <&3; free -m; df -m /\n", url[1])
	until(t, bootTime, "the page", func() bool { return strings.Contains(m.text(), "the answer is 42") })
	until(t, bootTime, "the figures", func() bool { return strings.Contains(m.text(), "/dev/sda") })
	t.Log(m.text()[strings.LastIndex(m.text(), "the answer is 42"):])
	// As Debian's package of a kernel does, with the one that is there.
	fmt.Fprint(m.serial, "nutshell appliance kernel $(uname -r) && mount /boot/efi && grep -c menuentry /boot/efi/grub/grub.cfg && echo kernel-$((6*7))\n")
	until(t, bootTime, "a kernel that starts next time", func() bool { return strings.Contains(m.text(), "kernel-42") })
}

// site is an archive of a page that only PHP can make.
func site(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "site.tar.gz")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	page := []byte("<?php echo 'the answer is ', 6 * 7, \"\\n\";\n")
	_ = w.WriteHeader(&tar.Header{Name: "index.php", Mode: 0o644, Size: int64(len(page))})
	_, _ = w.Write(page)
	if err := errors.Join(w.Close(), z.Close(), os.WriteFile(name, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return name
}

func freeTCP(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// until waits for something to become true.
func until(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come within %v", what, limit)
		}
	}
}
