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
	found := 0
	// The moments are spread over the first launch and the first end.
	killed(t, rounds, 13*time.Millisecond, &found, env, open, o, (*suite).direct, func(s *suite) {
		list, err := s.d.List(s.t.Context())
		if err != nil {
			s.t.Errorf("List after the kill: %v", err)
		}
		found += len(list)
		s.must(s.specs()...)
	})
	if found == 0 && os.Getenv(directorEnv) == "" {
		t.Error("no round found an instance: the process was never killed in the middle")
	}
}

// killed runs play in a process that it kills at another moment in each
// round, and then after with a driver of its own.
func killed(t *testing.T, rounds int, step time.Duration, found *int, env []string, open Open, o Options, play, after func(*suite)) {
	if dir := os.Getenv(directorEnv); dir != "" {
		play(&suite{t: t, o: o, open: open, dir: dir, d: open(t, dir)})
		return
	}
	// A slow machine gets more rounds until one of them hits a launch.
	for round := 0; round < rounds || *found == 0 && round < 5*rounds; round++ {
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
			time.Sleep(time.Duration(round) * step)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()

			s.d = open(t, s.dir)
			t.Cleanup(s.clean)
			after(s)
		})
	}
}

func (s *suite) specs() []cloud.Spec {
	return []cloud.Spec{s.spec("web-1"), s.spec("web-2"), s.spec("web-3")}
}

// direct plays the director until it is killed.
func (s *suite) direct() {
	fmt.Println("ready")
	for s.t.Context().Err() == nil {
		list, err := s.d.Launch(s.t.Context(), s.specs())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, i := range list {
			if err := s.d.Terminate(s.t.Context(), []string{i.ID}); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// KilledVolumes is Killed for orders on volumes. What was stored before must
// be there, whatever was going on.
func KilledVolumes(t *testing.T, rounds int, env []string, open Open, o Options) {
	found := 0
	if os.Getenv("NUTSHELL_CHAOS") != "" {
		rounds *= 8
	}
	// The moments are spread over all of a round of orders, whatever it takes.
	killed(t, rounds, 1500*time.Millisecond/time.Duration(rounds), &found, env, open, o, (*suite).directVolumes, func(s *suite) {
		list, err := s.volumes().ListVolumes(s.t.Context())
		if err != nil {
			s.t.Errorf("ListVolumes after the kill: %v", err)
		}
		found += len(list)
		if v := s.findVolume("vol-1"); v == nil {
			s.t.Fatal("a volume is gone")
		}
		s.volumeAt("vol-2", 16*mib)
		// It may run, with whatever it had, be about to end, or be gone.
		i := s.must(s.with("web-1", "vol-1", "data", "vol-2", "more"))[0]
		s.ok("Attach", s.volumes().Attach(s.t.Context(), "vol-1", "web-1", "data"))
		s.ok("Attach", s.volumes().Attach(s.t.Context(), "vol-2", "web-1", "more"))
		s.list(i, "data more")
		s.reads(i, "@data/kept", "whatever happens")
		s.ask(i, "/write", "path", "@more/file", "text", "can be written")
	})
	if found == 0 && os.Getenv(directorEnv) == "" {
		t.Error("no round found a volume")
	}
}

// directVolumes does all that can be done with volumes until it is killed.
func (s *suite) directVolumes() {
	ctx := s.t.Context()
	s.volumeAt("vol-1", 32*mib)
	i := s.must(s.with("web-1", "vol-1", "data"))[0]
	s.ask(i, "/write", "path", "@data/kept", "text", "whatever happens")
	s.ok("Terminate", s.d.Terminate(ctx, []string{"web-1"}))
	fmt.Println("ready")
	d := s.volumes()
	snap, _ := s.d.(cloud.Snapshots)
	for size := int64(33); ctx.Err() == nil; size++ {
		s.volumeAt("vol-2", 16*mib)
		s.must(s.with("web-1", "vol-1", "data"))
		s.ok("Attach", d.Attach(ctx, "vol-2", "web-1", "more"))
		s.ok("Detach", d.Detach(ctx, "vol-2"))
		if snap != nil {
			_, err := snap.Snapshot(ctx, "vol-2", "at")
			s.ok("Snapshot", err)
			s.ok("RestoreSnapshot", snap.RestoreSnapshot(ctx, "vol-2", "at"))
			s.ok("DeleteSnapshot", snap.DeleteSnapshot(ctx, "vol-2", "at"))
		}
		s.ok("DeleteVolume", d.DeleteVolume(ctx, "vol-2"))
		s.ok("Terminate", s.d.Terminate(ctx, []string{"web-1"}))
		s.ok("GrowVolume", d.GrowVolume(ctx, "vol-1", min(size, 64)*mib))
		if snap != nil {
			_, err := snap.Snapshot(ctx, "vol-1", "at")
			s.ok("Snapshot", err)
			s.ok("RestoreSnapshot", snap.RestoreSnapshot(ctx, "vol-1", "at"))
		}
	}
}

func (s *suite) volumeAt(name string, bytes int64) {
	s.t.Helper()
	_, err := s.volumes().CreateVolume(s.t.Context(), cloud.VolumeSpec{Name: name, Group: "shop", Bytes: bytes})
	s.ok("CreateVolume", err)
}
