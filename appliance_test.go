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

// TestAppliance starts the disk of an OVA as VirtualBox would, without the
// Internet, and does with it what its owner does. Each story has a machine of
// its own, fresh from the file. NUTSHELL_BINARY is the command line that is
// used, and the Nutshell that machines are upgraded to.
func TestAppliance(t *testing.T) {
	file := os.Getenv(applianceVariable)
	if file == "" {
		t.Skip("set " + applianceVariable + " to an OVA, or a disk of the recipe server; make appliance-test does")
	}
	for _, tool := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("install the Debian packages qemu-system-x86 and qemu-utils")
		}
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
	format := map[string]string{".vmdk": "vmdk", ".qcow2": "qcow2", ".img": "raw"}[filepath.Ext(disk)]
	seen := map[string]string{}
	for _, story := range []struct {
		name  string
		tells func(*importedAppliance, *testing.T)
	}{
		{"hosts-a-site", (*importedAppliance).hostsSite},
		{"starts-by-efi", (*importedAppliance).startsByEFI},
		{"menu", (*importedAppliance).menu},
		{"addresses-go-back", (*importedAppliance).addressesGoBack},
		{"upgrades", (*importedAppliance).upgrades},
		{"clock-in-2040", func(a *importedAppliance, t *testing.T) { a.wrongClock(t, "2040-05-06") }},
		{"clock-in-1970", func(a *importedAppliance, t *testing.T) { a.wrongClock(t, "1970-01-02") }},
	} {
		t.Run(story.name, func(t *testing.T) {
			a := &importedAppliance{binary: binary, disk: filepath.Join(t.TempDir(), "disk.qcow2")}
			if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", disk, a.disk).CombinedOutput(); err != nil {
				t.Fatalf("qemu-img: %v: %s", err, out)
			}
			story.tells(a, t)
			for _, fact := range []string{a.password, a.ca} {
				if before, twice := seen[fact]; twice {
					t.Errorf("%q is what the machine of %s had", fact, before)
				}
				seen[fact] = story.name
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

// importedAppliance is a machine with the disk of an OVA, on or off.
type importedAppliance struct {
	binary, disk string
	password, ca string // as its first screen showed them
}

// virtual is a running appliance.
type virtual struct {
	*importedAppliance
	url    string
	serial net.Conn
	cmd    *exec.Cmd
	ended  chan struct{} // is closed then
	mu     sync.Mutex
	screen bytes.Buffer // all that the serial line has said
}

var (
	passwordOnScreen = regexp.MustCompile(`password +([a-z0-9-]{20,})`)
	caOnScreen       = regexp.MustCompile(`CA sha256 +([0-9a-f]{64})`)
)

// start switches the machine on, and waits for its pages and its menu.
func (a *importedAppliance) start(t *testing.T, extra ...string) *virtual {
	t.Helper()
	for range 3 {
		if m := a.tryStart(t, extra...); m != nil {
			return m
		}
	}
	t.Fatal("the emulator failed three times")
	return nil
}

// emulatorFails is what a kernel says whose code another processor met while
// it was changed. Real processors do not; the emulator with a thread for each
// does, now and then, within the first seconds.
const emulatorFails = "Oops: int3"

// tryStart gives nothing when the emulator failed.
func (a *importedAppliance) tryStart(t *testing.T, extra ...string) *virtual {
	t.Helper()
	dir, port := t.TempDir(), freeTCP(t)
	args := append([]string{"-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048", "-smp", "2", "-nodefaults", "-display", "none", "-no-reboot",
		"-chardev", "socket,id=s,path=" + dir + "/serial,server=on,wait=off,logfile=" + dir + "/log", "-serial", "chardev:s",
		"-netdev", fmt.Sprintf("user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:%d-:443", port), "-device", "e1000,netdev=n0",
		"-netdev", "user,id=n1,net=192.168.56.0/24,host=192.168.56.1,restrict=on", "-device", "e1000,netdev=n1",
		"-device", "ahci,id=ahci", "-drive", "file=" + a.disk + ",if=none,id=d0", "-device", "ide-hd,drive=d0,bus=ahci.0"}, extra...)
	m := &virtual{importedAppliance: a, url: fmt.Sprintf("https://127.0.0.1:%d", port), ended: make(chan struct{})}
	m.cmd = exec.Command("qemu-system-x86_64", args...)
	var said bytes.Buffer
	m.cmd.Stderr = &said
	began := time.Now()
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = m.cmd.Wait(); close(m.ended) }()
	t.Cleanup(func() {
		m.cutPower()
		if t.Failed() {
			text := m.text()
			t.Logf("the screen:\n%s", text[max(0, len(text)-4000):])
		}
	})
	until(t, time.Minute, "the serial line", func() bool {
		var err error
		m.serial, err = net.Dial("unix", dir+"/serial")
		return err == nil || m.isOff()
	})
	if m.serial == nil {
		t.Fatalf("the machine did not start: %s", &said)
	}
	go m.listen()
	m.answers(t, m.isOff)
	if m.isOff() {
		if strings.Contains(m.text(), emulatorFails) {
			return nil
		}
		t.Fatalf("the machine ended: %s", &said)
	}
	t.Logf("the pages answer %v after power-on", time.Since(began).Round(100*time.Millisecond))
	m.shows(t, "state +ready")
	m.shows(t, caOnScreen.String())
	if a.ca == "" {
		m.shows(t, passwordOnScreen.String())
		a.password, a.ca = passwordOnScreen.FindStringSubmatch(m.text())[1], caOnScreen.FindStringSubmatch(m.text())[1]
	}
	return m
}

// answers waits until the pages do, or nobody wants that any more.
func (m *virtual) answers(t *testing.T, enough func() bool) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // its fingerprint is on the screen, and run uses that
	until(t, bootTime, "the pages", func() bool {
		if enough() {
			return true
		}
		resp, err := client.Get(m.url + "/")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// cutPower ends the machine as a power cut does: nothing is written any more.
func (m *virtual) cutPower() {
	_ = m.cmd.Process.Kill()
	<-m.ended
}

func (m *virtual) isOff() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// shows waits until the screen shows what a regular expression describes.
func (m *virtual) shows(t *testing.T, what string) {
	t.Helper()
	e := regexp.MustCompile(what)
	until(t, bootTime, "`"+what+"` on the screen", func() bool { return e.MatchString(m.text()) })
}

// forgets what was on the screen.
func (m *virtual) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.screen.Reset()
}

// types types lines; each waits for its question.
func (m *virtual) types(t *testing.T, questionsAndLines ...string) {
	t.Helper()
	for i := 0; i+1 < len(questionsAndLines); i += 2 {
		m.shows(t, questionsAndLines[i])
		m.clear()
		fmt.Fprint(m.serial, questionsAndLines[i+1]+"\n")
	}
}

// openShell chooses the shell of the menu. sh uses it.
func (m *virtual) openShell(t *testing.T) {
	t.Helper()
	m.types(t, "> $", "5", "root@nutshell", "stty -echo cols 250; bind 'set enable-bracketed-paste off'; PS1=; echo shell-$((6*7))")
	m.shows(t, "shell-42")
}

// sh runs a line in the shell of the machine, and returns what it printed.
func (m *virtual) sh(t *testing.T, line string) string {
	t.Helper()
	m.clear()
	fmt.Fprint(m.serial, line+"; echo end-$((6*7))\n")
	m.shows(t, "end-42")
	out, _, _ := strings.Cut(m.text(), "end-42")
	return strings.TrimSpace(strings.ReplaceAll(out, "\r", ""))
}

// run runs the command line on this side, as admin.
func (m *virtual) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.tryRun(t, args...)
	if err != nil {
		t.Fatalf("nutshell %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (m *virtual) tryRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.binary, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "NUTSHELL_DIRECTOR="+m.url, "NUTSHELL_USER=admin", "NUTSHELL_PASSWORD="+m.password, "NUTSHELL_CA_SHA256="+m.ca)
	out, err := cmd.CombinedOutput()
	return string(out), err
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

// hostsSite makes a PHP service by the command line, looks at its page from
// the machine's own shell, and gives the machine another kernel.
func (a *importedAppliance) hostsSite(t *testing.T) {
	m := a.start(t)
	began := time.Now()
	m.run(t, "application", "create", "shop")
	m.run(t, "application", "start", "shop")
	m.run(t, "service", "add", "php", "shop")
	m.run(t, "php", "upload-code", "shop", "php", site(t))
	m.run(t, "service", "start", "shop", "php")
	version := regexp.MustCompile(`code-[a-z0-9]+`).FindString(strings.ReplaceAll(m.run(t, "php", "list-codes", "shop", "php"), "code-default", ""))
	m.run(t, "php", "enable-code", "shop", "php", version)
	url := regexp.MustCompile(`url: http://([0-9.]+)`).FindStringSubmatch(m.run(t, "service", "get-state", "shop", "php"))
	if url == nil {
		t.Fatal("the service has no address")
	}
	t.Logf("a PHP site serves %v after it was asked for, at %s", time.Since(began).Round(100*time.Millisecond), url[1])
	m.openShell(t)
	if page := m.sh(t, fmt.Sprintf("exec 3<>/dev/tcp/%s/80; printf 'GET / HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n' >&3; cat <&3", url[1])); !strings.Contains(page, "the answer is 42") {
		t.Errorf("the site says %s", page)
	}
	t.Log(m.sh(t, "free -m; df -m /"))
	// As Debian's package of a kernel does, with the one that is there.
	if menu := m.sh(t, "nutshell appliance kernel $(uname -r) && mount /boot/efi && cat /boot/efi/grub/grub.cfg"); strings.Count(menu, "menuentry") != 2 {
		t.Errorf("the boot menu is %s", menu)
	}
}

// startsByEFI starts the machine by the other firmware.
func (a *importedAppliance) startsByEFI(t *testing.T) {
	const code = "/usr/share/ovmf/OVMF.fd"
	if _, err := os.Stat(code); err != nil {
		t.Skip("install the Debian package ovmf")
	}
	a.start(t, "-bios", code)
}

// menu gives the admin of the pages another password, and one to the account
// of the machine, by which the menu is closed from then on.
func (a *importedAppliance) menu(t *testing.T) {
	m := a.start(t)
	first := a.password
	m.types(t, "> $", "1", "yes or no", "yes")
	m.shows(t, "has the password +[a-z0-9-]{20,}")
	a.password = regexp.MustCompile(`has the password +([a-z0-9-]{20,})`).FindStringSubmatch(m.text())[1]
	if a.password == first {
		t.Error("the password is the old one")
	}
	m.run(t, "application", "list")
	a.password, first = first, a.password
	if out, err := m.tryRun(t, "application", "list"); err == nil {
		t.Errorf("the old password still opens: %s", out)
	}
	a.password = first
	m.types(t, "Enter goes back", "", "> $", "3", "closes the door", "p", "(?i)new password", "correct horse", "(?i)retype", "correct horse",
		"Enter goes back", "", "> $", "1", "yes or no", "no", "> $", "3", "closes the door", "")
	m.clear()
	time.Sleep(refreshOfScreen) // an idle screen asks again
	m.types(t, "", "1", "password of admin", "wrong horse")
	m.shows(t, "this is not the password")
	m.types(t, "Enter goes back", "", "> $", "1", "password of admin", "correct horse", "yes or no", "no")
}

// refreshOfScreen is longer than a screen waits for a key before it asks for
// the password anew.
const refreshOfScreen = 40 * time.Second

// addressesGoBack changes the addresses, and nobody confirms that.
func (a *importedAppliance) addressesGoBack(t *testing.T) {
	m := a.start(t)
	m.openShell(t)
	if out := m.sh(t, "nutshell appliance network set --address 192.168.60.2/24 --range 192.168.60.10-192.168.60.99"); strings.Contains(out, "ERROR") {
		t.Fatal(out)
	}
	if out := m.sh(t, "nutshell appliance network show; ip -color=never -4 -br address show eth1"); !strings.Contains(out, "not confirmed yet") || strings.Count(out, "192.168.60.2/24") != 2 {
		t.Errorf("after the change: %s", out)
	}
	m.answers(t, m.isOff)
	until(t, bootTime, "the old addresses", func() bool {
		return strings.Contains(m.sh(t, "ip -color=never -4 -br address show eth1"), "192.168.56.2/24")
	})
	until(t, bootTime, "the end of the way back", func() bool {
		return !strings.Contains(m.sh(t, "nutshell appliance network show"), "not confirmed")
	})
	if out := m.sh(t, "cat /etc/nutshell/nutshell.d/10-network.yaml"); !strings.Contains(out, "192.168.56.10-192.168.56.99") || strings.Contains(out, "192.168.60.") {
		t.Errorf("the director was left with %s", out)
	}
	m.answers(t, m.isOff)
	m.run(t, "application", "list")
}

// upgrades replaces the binary by one that does not answer, once to the end,
// once until its process is killed, and once until the power goes, and by one
// that works.
func (a *importedAppliance) upgrades(t *testing.T) {
	files := a.binaries(t)
	const get = "tar -xf /dev/sdb -C /root; sync; sha256sum </usr/bin/nutshell; sha256sum </root/newer"
	m := a.start(t, files...)
	m.run(t, "application", "create", "before")
	m.openShell(t)
	sums := strings.Fields(m.sh(t, get))
	if len(sums) < 3 {
		t.Fatalf("no sums: %q", sums)
	}
	old, newer := sums[0], sums[2]
	is := func(sum string) {
		t.Helper()
		if got := m.sh(t, "sha256sum </usr/bin/nutshell"); !strings.HasPrefix(got, sum) {
			t.Errorf("the binary is %s; %s is the old one, %s the newer", got, old, newer)
		}
		m.answers(t, m.isOff)
		if out := m.run(t, "application", "list"); !strings.Contains(out, "before") {
			t.Errorf("the database has %s", out)
		}
	}
	if out := m.sh(t, "nutshell appliance upgrade /root/broken"); !strings.Contains(out, "the old one is back") {
		t.Errorf("an upgrade to what does not answer: %s", out)
	}
	is(old)
	m.sh(t, "nutshell appliance upgrade /root/broken >/tmp/said 2>&1 & echo $! >/tmp/process")
	until(t, bootTime, "the new binary", func() bool { return strings.Contains(m.sh(t, "cat /tmp/said"), "starting ") })
	m.sh(t, "kill -9 $(cat /tmp/process)")
	until(t, bootTime, "the end of an upgrade whose process was killed", func() bool {
		return strings.Contains(m.sh(t, "systemctl is-active nutshell nutshell-upgrade; ls -d /var/lib/nutshell/appliance/before-upgrade"), "No such file")
	})
	is(old)
	m.clear()
	fmt.Fprint(m.serial, "nutshell appliance upgrade /root/broken\n")
	m.shows(t, "starting ")
	m.cutPower()
	m = a.start(t, files...)
	m.openShell(t)
	is(old)
	if out := m.sh(t, "nutshell appliance upgrade /root/newer"); !strings.Contains(out, "done") {
		t.Errorf("an upgrade: %s", out)
	}
	is(newer)
	if out := m.sh(t, "ls -a /usr/bin/.nutshell.* /var/lib/nutshell/appliance"); strings.Contains(out, ".new") || strings.Contains(out, "before-upgrade") {
		t.Errorf("left behind: %s", out)
	}
}

// binaries is a second disk of the machine: an archive of a Nutshell that is
// newer, and of one that says its version and never answers.
func (a *importedAppliance) binaries(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module nutshell\n\ngo 1.24\n",
		"main.go": "package main\n\nimport (\n\t\"os\"\n\t\"time\"\n)\n\nfunc main() {\n\tos.Stdout.WriteString(\"nutshell 99\\n\")\n\tif len(os.Args) > 1 && os.Args[1] == \"up\" {\n\t\ttime.Sleep(time.Hour)\n\t}\n}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-o", "broken", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	newer, err := os.ReadFile(a.binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "newer"), append(newer, 0), 0o755); err != nil { // a program may end with anything
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "binaries.tar")
	if out, err := exec.Command("tar", "-C", dir, "-cf", archive, "broken", "newer").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return []string{"-drive", "file=" + archive + ",if=none,id=d1,format=raw", "-device", "ide-hd,drive=d1,bus=ahci.1"}
}

// wrongClock starts the machine for the first time on a host whose clock is
// wrong, and again when that is mended.
func (a *importedAppliance) wrongClock(t *testing.T, day string) {
	m := a.start(t, "-rtc", "base="+day+"T03:04:05,clock=vm")
	m.shows(t, "CLOCK +it says ")
	m.openShell(t)
	if out := m.sh(t, "export HOME=/root; nutshell doctor; date -u; nutshell application create early"); strings.Contains(out, "ERROR") {
		t.Errorf("in %s: %s", day, out)
	}
	t.Log(m.sh(t, "date -u"))
	m.sh(t, "sync")
	m.cutPower()
	m = a.start(t)
	if out := m.run(t, "application", "list"); !strings.Contains(out, "early") {
		t.Errorf("with the right clock: %s", out)
	}
	m.run(t, "application", "start", "early")
	if strings.Contains(m.text(), "CLOCK") {
		t.Error("the screen still says that the clock is wrong")
	}
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
