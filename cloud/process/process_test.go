package process_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/cloud/process"
)

const asNobody = "NUTSHELL_TEST_AS_NOBODY" // holds a directory that nobody may write in

func config(t *testing.T, binary, dir string) cloud.Config {
	return cloud.Config{Name: "default", Installation: "test0001", Dir: dir, Binary: binary, Log: cloudtest.Log(t)}
}

func open(t *testing.T, binary, dir string) cloud.Driver {
	t.Helper()
	d, err := process.New(config(t, binary, dir))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestMain(m *testing.M) { os.Exit(cloudtest.TestMain(m)) }

func TestDriver(t *testing.T) {
	binary := cloudtest.Program(t)
	cloudtest.Run(t, func(t *testing.T, dir string) cloud.Driver { return open(t, binary, dir) }, cloudtest.Options{
		Kill: func(t *testing.T, i cloud.Instance) {
			pid, err := strconv.Atoi(ask(t, i, "/pid"))
			if err == nil {
				err = syscall.Kill(pid, syscall.SIGKILL)
			}
			if err != nil {
				t.Fatal(err)
			}
		},
		Leftovers: leftovers(binary),
		Dir: func(t *testing.T) string {
			if base := os.Getenv(asNobody); base != "" {
				dir, err := os.MkdirTemp(base, "cloud-")
				if err != nil {
					t.Fatal(err)
				}
				return dir
			}
			return t.TempDir()
		},
	})
}

// leftovers are files of the cloud, and living processes of the program.
func leftovers(binary string) func(*testing.T, string) []string {
	return func(t *testing.T, dir string) []string {
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		hidden, _ := filepath.Glob(filepath.Join(dir, ".*-*"))
		left = append(left, hidden...)
		links, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, l := range links {
			if to, err := os.Readlink(l); err == nil && to == binary {
				cmd, _ := os.ReadFile(filepath.Join(filepath.Dir(l), "cmdline"))
				left = append(left, l+": "+strings.ReplaceAll(string(cmd), "\x00", " "))
			}
		}
		return left
	}
}

// TestAsNobody runs the suite as an ordinary user.
func TestAsNobody(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("TestDriver ran as an ordinary user already")
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "nutshell-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	test, guest := filepath.Join(dir, "test"), filepath.Join(dir, "guest")
	work := filepath.Join(dir, "work")
	for from, to := range map[string]string{"/proc/self/exe": test, cloudtest.Program(t): guest} {
		clone(t, from, to)
	}
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, id := range map[string]int{dir: 0, work: nobody} {
		if err := os.Chown(path, id, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), test, "-test.run=^TestDriver$", "-test.v")
	cmd.Env = append(os.Environ(), asNobody+"="+work, "NUTSHELL_TEST_INSTANCE="+guest, "TMPDIR="+work, "HOME="+work)
	cmd.Dir = work
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestDriver/terminate-ends-all-processes") {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}

func clone(t *testing.T, from, to string) {
	t.Helper()
	r, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err == nil {
		_, err = io.Copy(w, r)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDirectorDiesWhileItStarts plays the moment between the start of the
// process and the writing of its pid.
func TestDirectorDiesWhileItStarts(t *testing.T) {
	binary, dir := cloudtest.Program(t), t.TempDir()
	d := open(t, binary, dir)
	list, err := d.Launch(t.Context(), []cloud.Spec{{Name: "web-1", Group: "shop"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Terminate(context.WithoutCancel(t.Context()), []string{"web-1"}) })
	pid := ask(t, list[0], "/pid")
	if err := os.Remove(filepath.Join(dir, "web-1", "process.json")); err != nil {
		t.Fatal(err)
	}
	for _, leftover := range []string{".new-web-2", ".gone-web-3"} {
		if err := os.MkdirAll(filepath.Join(dir, leftover, "var"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d = open(t, binary, dir)
	got, err := d.Launch(t.Context(), []cloud.Spec{{Name: "web-1", Group: "shop"}})
	if err != nil || len(got) != 1 || ask(t, got[0], "/pid") != pid {
		t.Errorf("Launch = %v, %v; want the process that runs", got, err)
	}
	if err := d.Terminate(t.Context(), []string{"web-1"}); err != nil {
		t.Error(err)
	}
	if left := leftovers(binary)(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestForeignPid has a state file whose pid belongs to another process now.
func TestForeignPid(t *testing.T) {
	binary, dir := cloudtest.Program(t), t.TempDir()
	d := open(t, binary, dir)
	if _, err := d.Launch(t.Context(), []cloud.Spec{{Name: "web-1"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.(cloud.Stopper).Stop(t.Context(), []string{"web-1"}); err != nil {
		t.Fatal(err)
	}
	bystander := exec.CommandContext(t.Context(), binary, "idle")
	bystander.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := cloud.FindProcess(bystander.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p.Start-- // the pid is right, the process is another
	if err := cloud.SaveState(filepath.Join(dir, "web-1", "process.json"), p); err != nil {
		t.Fatal(err)
	}
	if list, err := d.List(t.Context()); err != nil || len(list) != 1 || list[0].Running {
		t.Errorf("List = %+v, %v; want one that does not run", list, err)
	}
	if err := d.Terminate(t.Context(), []string{"web-1"}); err != nil {
		t.Error(err)
	}
	p.Start++
	if !p.Alive() {
		t.Error("Terminate killed another's process")
	}
	_ = bystander.Process.Kill()
	_ = bystander.Wait()
}

func TestAddressesStayApart(t *testing.T) {
	binary, dir := cloudtest.Program(t), t.TempDir()
	one, two := config(t, binary, dir), config(t, binary, filepath.Join(dir, "b"))
	if err := os.Mkdir(two.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, c := range []cloud.Config{one, two} { // same installation, same names
		d, err := process.New(c)
		if err != nil {
			t.Fatal(err)
		}
		var specs []cloud.Spec
		var names []string
		for n := range 3 {
			names = append(names, fmt.Sprintf("web-%d", n))
			specs = append(specs, cloud.Spec{Name: names[n]})
		}
		list, err := d.Launch(t.Context(), specs)
		t.Cleanup(func() { _ = d.Terminate(context.WithoutCancel(t.Context()), names) })
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list {
			ask(t, i, "/pid") // it listens now
			if other, ok := seen[i.Address]; ok {
				t.Errorf("%s and %s/%s have address %s", other, c.Dir, i.Name, i.Address)
			}
			seen[i.Address] = c.Dir + "/" + i.Name
		}
		if err := d.(cloud.Stopper).Stop(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := config(t, "/bin/true", t.TempDir())
	for _, c := range []struct {
		name string
		turn func(*cloud.Config)
		ok   bool
	}{
		{"good", func(*cloud.Config) {}, true},
		{"no-installation", func(c *cloud.Config) { c.Installation = "" }, false},
		{"long-installation", func(c *cloud.Config) { c.Installation = "abcdefghi" }, false},
		{"relative-directory", func(c *cloud.Config) { c.Dir = "x" }, false},
		{"relative-binary", func(c *cloud.Config) { c.Binary = "nutshell" }, false},
		{"unknown-option", func(c *cloud.Config) { c.Options = map[string]string{"subnet": "x"} }, false},
		{"no-logger", func(c *cloud.Config) { c.Log = nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := good
			c.turn(&cfg)
			if _, err := process.New(cfg); (err == nil) != c.ok {
				t.Errorf("New = %v, want ok %v", err, c.ok)
			}
		})
	}
}

// ask waits until the instance answers.
func ask(t *testing.T, i cloud.Instance, path string) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		got, err := cloudtest.Ask(t.Context(), i, path, nil)
		if err == nil {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not answer: %v", i.Name, err)
		}
	}
}

func TestDirectorIsKilled(t *testing.T) {
	binary := cloudtest.Program(t)
	cloudtest.Killed(t, 8, nil,
		func(t *testing.T, dir string) cloud.Driver { return open(t, binary, dir) },
		cloudtest.Options{Leftovers: leftovers(binary)})
}

func TestDirectorIsKilledWithVolumes(t *testing.T) {
	binary := cloudtest.Program(t)
	cloudtest.KilledVolumes(t, 5, nil,
		func(t *testing.T, dir string) cloud.Driver { return open(t, binary, dir) },
		cloudtest.Options{Leftovers: leftovers(binary)})
}
