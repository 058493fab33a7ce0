package main_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cardVariable names the card, packed with zstd or not, that TestCard starts.
const cardVariable = "NUTSHELL_CARD"

// cardLayers names a store with the layers of PHP for arm64 (the folder images
// of a data directory): with it the card hosts a page, too.
const cardLayers = "NUTSHELL_CARD_LAYERS"

// writeTime is how long a card collects what is written to it, and some more:
// what is younger is lost when the power goes.
const writeTime = 70 * time.Second

// hall is a network of its own with a director, where a card can be plugged in.
type hall struct {
	space, binary, dir string
	env                []string
}

// TestCard starts a card's file in an emulated machine that has a larger card
// and, at first, no idea of the time. Nothing is set on it: it grows, takes an
// address, finds the director on the cable, is approved, and is ready. It does
// the same after the power was cut, without being approved again.
// NUTSHELL_BINARY is the director's program.
func TestCard(t *testing.T) {
	file := cardFile(t)
	h := openHall(t)
	img := unpackCard(t, file)
	first := h.plug(t, img)
	first.sees(t, `of them are used now`, "the growing")
	id := first.sees(t, `nutshell node approve (\S+) --fingerprint ([0-9a-f]{16})`, "the wish to join")
	h.run(t, "node", "approve", id[1], "--fingerprint", id[2])
	h.ready(t, id[1])
	if shown := h.run(t, "node", "show", id[1]); !regexp.MustCompile(`172\.16\.0\.(1[1-9]|2\d|3[01])\b`).MatchString(shown) {
		t.Errorf("the node has no address of the plan:\n%s", shown)
	}
	if layers := os.Getenv(cardLayers); layers != "" {
		h.hosts(t)
	}
	time.Sleep(writeTime)
	first.stop()

	second := h.plug(t, img)
	second.sees(t, `: has joined`, "the node's return")
	if again := second.text(); strings.Contains(again, "wants to join") || strings.Contains(again, "are used now") {
		t.Error("the second start grew the card or asked to join again")
	}
	h.ready(t, id[1])
}

// cardFile is the card that is to be tried, where that can be done.
func cardFile(t *testing.T) string {
	t.Helper()
	file := os.Getenv(cardVariable)
	if file == "" {
		t.Skip("set " + cardVariable + " to a card's file; make appliance-test CARD=file does")
	}
	if os.Geteuid() != 0 {
		t.Skip("a network of its own needs root")
	}
	for _, program := range []string{"qemu-system-aarch64", "mcopy", "zstd", "ip", "e2fsck"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing: .ci/deps machines installs it", program)
		}
	}
	return file
}

// hosts puts a PHP site on the card and looks at its page.
func (h *hall) hosts(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(h.dir+"/index.php", []byte(`<?php echo 'by ', php_uname('m');`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "czf", h.dir+"/one.tar.gz", "-C", h.dir, "index.php").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v: %s", err, out)
	}
	for _, line := range []string{"application create shop", "application start shop", "service add php shop", "php upload-code shop php " + h.dir + "/one.tar.gz --activate", "php start shop php"} {
		t.Log(line, h.run(t, strings.Fields(line)...))
	}
	found := regexp.MustCompile(`"urls": \[\s*"([^"]+)"`).FindStringSubmatch(h.run(t, "service", "list", "--application", "shop", "-o", "json"))
	if found == nil {
		t.Fatal("the service has no address")
	}
	t.Log(found[1])
	until(t, bootTime, "the page", func() bool {
		page, _ := h.in("curl", "-sSk", "-m", "20", "--noproxy", "*", found[1]).Output()
		return strings.Contains(string(page), "by aarch64")
	})
}

// openHall starts a director in a network of its own.
func openHall(t *testing.T) *hall {
	t.Helper()
	binary := os.Getenv("NUTSHELL_BINARY")
	if binary == "" {
		binary = "./nutshell"
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{space: fmt.Sprintf("nuthall%d", os.Getpid()), binary: binary, dir: t.TempDir()}
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	ip("netns", "add", h.space)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", h.space).Run() })
	ip("-n", h.space, "link", "set", "lo", "up")
	ip("-n", h.space, "tuntap", "add", "cable", "mode", "tap")
	ip("-n", h.space, "address", "add", "172.16.0.1/24", "dev", "cable")
	ip("-n", h.space, "link", "set", "cable", "up")
	// Other accounts pass through what t.TempDir made for us alone: the director wants that of its directory.
	if err := os.Chmod(filepath.Dir(h.dir), 0o711); err != nil { // nothing can be listed
		t.Fatal(err)
	}
	if layers := os.Getenv(cardLayers); layers != "" {
		if out, err := exec.Command("sh", "-c", `mkdir -p "$2" && cp -a "$1" "$2/images"`, "sh", layers, h.dir+"/director").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	settings := "data_dir: " + h.dir + "/director\nlisten: 0.0.0.0:443\ngit: {listen: none}\ndefault_cloud: cluster\nclouds:\n  - {name: cluster, driver: nodes}\n"
	if err := os.WriteFile(h.dir+"/nutshell.yaml", []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(h.dir + "/director.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := h.in(binary, "up", "--config", h.dir+"/nutshell.yaml", "--password-file", h.dir+"/password")
	cmd.Env = append(os.Environ(), "HOME="+h.dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
		}
	})
	caLine := regexp.MustCompile(`CA +sha256:([0-9a-f]{64})`)
	t.Cleanup(func() {
		if said, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the director:\n%s", said)
		}
	})
	until(t, bootTime, "the director", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the director ended: %v", err)
		default:
		}
		said, _ := os.ReadFile(log.Name())
		password, err := os.ReadFile(h.dir + "/password")
		ca := caLine.FindSubmatch(said)
		if err != nil || ca == nil {
			return false
		}
		h.env = append(os.Environ(), "HOME="+h.dir, "NUTSHELL_DIRECTOR=https://172.16.0.1:443", "NUTSHELL_USER=admin",
			"NUTSHELL_PASSWORD="+strings.TrimSpace(string(password)), "NUTSHELL_CA_SHA256="+string(ca[1]))
		return true
	})
	return h
}

// in is a program in the hall's network.
func (h *hall) in(args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.space}, args...)...)
}

// run is the command line.
func (h *hall) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.space, h.binary}, args...)...)
	cmd.Env = h.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nutshell %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (h *hall) ready(t *testing.T, id string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^.*\b` + regexp.QuoteMeta(id) + `\s+ready\b`)
	until(t, bootTime, "the node", func() bool { return line.MatchString(h.run(t, "node", "list")) })
}

// unpackCard makes a card of twice the size out of the file, and takes from it
// what a Pi's firmware would start.
func unpackCard(t *testing.T, file string) string {
	t.Helper()
	dir := t.TempDir()
	img := filepath.Join(dir, "card.img")
	run := func(program string, args ...string) {
		t.Helper()
		if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", program, err, out)
		}
	}
	if strings.HasSuffix(file, ".zst") {
		run("zstd", "-q", "-d", "--sparse", "-o", img, file)
	} else {
		run("cp", "--sparse=always", file, img)
	}
	info, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 2*info.Size()); err != nil {
		t.Fatal(err)
	}
	run("mcopy", "-n", "-i", img+"@@4M", "::/vmlinuz", "::/initrd.img", dir)
	return img
}

// plugged is a machine with a card in it.
type plugged struct {
	virtual
	end func(syscall.Signal)
}

// stop is as if the power went.
func (m *plugged) stop() { m.end(syscall.SIGKILL) }

// plug starts a machine whose clock says 1970. Slot is how it reaches its card;
// none: directly.
func (h *hall) plug(t *testing.T, img string, slot ...string) *plugged {
	t.Helper()
	if slot == nil {
		slot = []string{"-drive", "file=" + img + ",if=none,id=d0,format=raw"}
	}
	dir := filepath.Dir(img)
	args := []string{"qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024", "-accel", "tcg,thread=multi", "-nodefaults", "-display", "none", "-no-reboot",
		"-rtc", "base=1970-01-02T00:00:00", "-kernel", dir + "/vmlinuz", "-initrd", dir + "/initrd.img",
		"-append", "root=LABEL=nutshell ro console=ttyAMA0 net.ifnames=0 cgroup_enable=memory panic=10 quiet systemd.show_status=false", "-serial", "stdio",
		"-netdev", "tap,id=n0,ifname=cable,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n0", "-device", "i6300esb", "-device", "virtio-blk-pci,drive=d0"}
	cmd := h.in(append(args, slot...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m := &plugged{}
	read, waited := make(chan struct{}), false
	go func() {
		defer close(read)
		_, _ = io.Copy(m, out)
	}()
	m.end = func(s syscall.Signal) {
		if waited {
			return
		}
		waited = true
		_ = cmd.Process.Signal(s)
		<-read
		_ = cmd.Wait()
	}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			t.Logf("the screen:\n%s", m.text()[max(0, len(m.text())-4000):])
		}
	})
	return m
}

// Write takes what the serial line says.
func (m *plugged) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.screen.Write(b)
}

// sees waits for words on the screen.
func (m *plugged) sees(t *testing.T, words, what string) []string {
	t.Helper()
	pattern, began := regexp.MustCompile(words), time.Now()
	var found []string
	until(t, bootTime, what, func() bool {
		found = pattern.FindStringSubmatch(m.text())
		return found != nil
	})
	t.Logf("%s: seen after %v", what, time.Since(began).Round(time.Second))
	return found
}
