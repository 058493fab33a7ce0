package cloudtest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"nutshell/cloud"
)

const directorEnv = "NUTSHELL_TEST_DIRECTOR" // directory of the driver that the killed process uses

// Killed kills a process with SIGKILL while it launches and terminates, at
// another moment in each round, and checks that a driver opened afterwards
// finds its way: every name can be launched, answers, and can be terminated
// with nothing left. The test that calls it must be a function of its own,
// as it is run again in the process to be killed; env must make open, there,
// the same driver as here.
func Killed(t *testing.T, rounds int, env []string, open Open, o Options) {
	if dir := os.Getenv(directorEnv); dir != "" {
		direct(t, open, dir, o)
		return
	}
	found := 0
	// A slow machine gets more rounds until one of them hits a launch.
	for round := 0; round < rounds || found == 0 && round < 5*rounds; round++ {
		t.Run(fmt.Sprintf("round-%d", round), func(t *testing.T) {
			s := &suite{t: t, o: o, open: open, dir: t.TempDir()}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+strings.Split(t.Name(), "/")[0]+"$")
			cmd.Env = append(append(os.Environ(), directorEnv+"="+s.dir), env...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ready := bufio.NewScanner(out)
			for ready.Scan() && ready.Text() != "ready" {
			}
			// The moments are spread over the first launch and the first end.
			time.Sleep(time.Duration(round*13) * time.Millisecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()

			s.d = open(t, s.dir)
			t.Cleanup(s.clean)
			list, err := s.d.List(t.Context())
			if err != nil {
				t.Errorf("List after the kill: %v", err)
			}
			found += len(list)
			s.must(s.specs()...)
		})
	}
	if found == 0 {
		t.Error("no round found an instance: the process was never killed in the middle")
	}
}

func (s *suite) specs() []cloud.Spec {
	return []cloud.Spec{s.spec("web-1"), s.spec("web-2"), s.spec("web-3")}
}

// direct plays the director until it is killed.
func direct(t *testing.T, open Open, dir string, o Options) {
	s := &suite{t: t, o: o, open: open, dir: dir}
	d := open(t, dir)
	fmt.Println("ready")
	for t.Context().Err() == nil {
		list, err := d.Launch(t.Context(), s.specs())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list {
			if err := d.Terminate(t.Context(), []string{i.ID}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
