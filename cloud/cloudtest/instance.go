package cloudtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Port is where an instance of the suite answers HTTP.
const Port = "8080"

const programEnv = "NUTSHELL_TEST_INSTANCE"

// TestMain builds the program that the suite runs in instances, in place of
// the nutshell binary, and runs the tests. A process of the same tests finds
// it built.
func TestMain(m *testing.M) int {
	if os.Getenv(programEnv) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "nutshell-instance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "instance")
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "nutshell/cloud/cloudtest/instance")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the instance program: %v\n%s", err, out)
		return 1
	}
	if err := os.Setenv(programEnv, program); err != nil {
		return 1
	}
	return m.Run()
}

// Program is what TestMain built.
func Program(t *testing.T) string {
	t.Helper()
	p := os.Getenv(programEnv)
	if p == "" {
		t.Fatal("the package's TestMain must call cloudtest.TestMain")
	}
	return p
}

// Guest is what runs in an instance of the suite: it answers questions about
// what it was given, and misbehaves when asked to.
type Guest struct {
	Address string
	Context []byte
	Dir     string
	Volumes string // the directory in which its volumes appear
}

// Main is the program of Program. Its arguments are those that drivers give
// the nutshell binary, or one of the errands that it gives itself.
func Main(args []string) int {
	if len(args) == 2 && args[0] == "eat" {
		return eat(args[1])
	}
	if len(args) == 1 && args[0] == "idle" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGUSR2)
		defer stop()
		<-ctx.Done()
		return 0
	}
	if len(args) != 6 || args[0] != "--role" || args[1] != "init" || args[2] != "--context" || args[4] != "--dir" {
		fmt.Fprintf(os.Stderr, "unexpected arguments %q\n", args)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	told, err := os.ReadFile(args[3])
	if err == nil {
		fmt.Println("guest started")
		g := Guest{Address: os.Getenv("NUTSHELL_ADDRESS"), Context: told, Dir: args[5], Volumes: os.Getenv("NUTSHELL_VOLUMES")}
		err = g.Serve(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		return 1
	}
	// Daemons take a moment to end, in which a director may be killed and the
	// next one ask for the instance.
	time.Sleep(40 * time.Millisecond)
	// Proves that the stop was in order.
	if err := os.WriteFile(filepath.Join(args[5], "stopped"), []byte("in order"), 0o600); err != nil {
		return 1
	}
	return 0
}

func eat(megabytes string) int {
	n, err := strconv.Atoi(megabytes)
	if err != nil {
		return 2
	}
	b := make([]byte, n<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return int(b[0]) - 1
}

// Serve answers until ctx ends.
func (g Guest) Serve(ctx context.Context) error {
	if err := os.MkdirAll(g.Dir, 0o755); err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(g.Address, Port))
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: g.handler(), ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stopped()
	if err := srv.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

func (g Guest) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(path string, f func(r *http.Request) (string, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			s, err := f(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, s)
		})
	}
	answer("GET /context", func(*http.Request) (string, error) { return string(g.Context), nil })
	answer("GET /env", func(*http.Request) (string, error) { return strings.Join(os.Environ(), "\n"), nil })
	answer("GET /pid", func(*http.Request) (string, error) { return strconv.Itoa(os.Getpid()), nil })
	answer("GET /hostname", func(*http.Request) (string, error) { return os.Hostname() })
	answer("GET /read", func(r *http.Request) (string, error) {
		b, err := os.ReadFile(g.path(r.FormValue("path")))
		return string(b), err
	})
	answer("GET /write", func(r *http.Request) (string, error) {
		return "", os.WriteFile(g.path(r.FormValue("path")), []byte(r.FormValue("text")), 0o600)
	})
	answer("GET /uid", func(*http.Request) (string, error) {
		b, err := os.ReadFile("/proc/self/uid_map")
		return string(b), err
	})
	answer("GET /fetch", func(r *http.Request) (string, error) {
		c, err := net.DialTimeout("tcp", r.FormValue("address"), time.Second) //nolint:gosec,noctx // that is what the test asks of it
		if err != nil {
			return err.Error(), nil
		}
		return "reached", c.Close()
	})
	answer("GET /eat", func(r *http.Request) (string, error) {
		return fmt.Sprint(exec.CommandContext(r.Context(), "/proc/self/exe", "eat", r.FormValue("mb")).Run()), nil
	})
	answer("GET /spin", func(r *http.Request) (string, error) { return spin(r.FormValue("time")) })
	answer("GET /spawn", func(r *http.Request) (string, error) { return spawn(r.FormValue("count")) })
	g.volumeAnswers(answer)
	return mux
}

// path is below the guest's directory unless it is absolute, or begins with
// @ for the directory of its volumes.
func (g Guest) path(p string) string {
	if rest, ok := strings.CutPrefix(p, "@"); ok {
		return filepath.Join(g.Volumes, rest)
	}
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(g.Dir, p)
}

// spin computes for the given time and returns the processor time it got.
func spin(d string) (string, error) {
	span, err := time.ParseDuration(d)
	if err != nil {
		return "", err
	}
	used := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	x := 1
	for end := time.Now().Add(span); time.Now().Before(end); {
		for i := range 1000 {
			x = x*31 + i
		}
	}
	_ = x
	return (used() - before).String(), nil
}

// spawn starts children that go on when the guest dies, each as hard to find
// as the daemons that do so in earnest: one in the guest's session, one in a
// session of its own, one without its environment.
func spawn(count string) (string, error) {
	n, err := strconv.Atoi(count)
	if err != nil {
		return "", err
	}
	var pids []string
	for i := range n {
		c := exec.Command("/proc/self/exe", "idle") //nolint:noctx // meant to outlive the request
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: i%3 > 0}
		if i%3 == 2 {
			c.Env = []string{"NOTHING=1"}
		}
		if err := c.Start(); err != nil {
			return strings.Join(pids, " "), fmt.Errorf("child %d: %w", i, err)
		}
		pids = append(pids, strconv.Itoa(c.Process.Pid))
		go func() { _ = c.Wait() }()
	}
	return strings.Join(pids, " "), nil
}
