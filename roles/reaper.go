package roles

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	reaperFirstDelay   = 50 * time.Millisecond
	reaperLongestDelay = 5 * time.Second
	reaperSteady       = 10 * time.Second
	reaperGrace        = 8 * time.Second // clouds kill an instance after 10 s; the child's own orderly stop is shorter
)

// reap is the first process of an instance: PID 1 of a container, or the
// leader of a process group. It runs argv as its only own child, starts it
// again when it is killed, adopts and reaps orphans, and at an orderly stop
// lets the child end first and then ends all that is left. The daemons of an
// instance so outlive the death of its agent.
func reap(argv []string, log *slog.Logger) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	stop := make(chan os.Signal, 8)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPWR)
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, syscall.SIGCHLD)
	ctx := context.Background()

	delay := reaperFirstDelay
	for {
		pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
		if err != nil {
			return fmt.Errorf("init: %s: %w", argv[0], err)
		}
		began := time.Now()
		stopped, final := waitChild(pid, dead, stop)
		if stopped {
			endAll(dead)
			return nil
		}
		if final {
			return fmt.Errorf("init: %s gave up", argv[0])
		}
		if time.Since(began) > reaperSteady {
			delay = reaperFirstDelay
		}
		log.LogAttrs(ctx, slog.LevelWarn, "agent process ended; starting it again", slog.Duration("after", delay))
		timer := time.NewTimer(delay)
		for waiting := true; waiting; {
			select {
			case <-stop:
				endAll(dead)
				return nil
			case <-dead:
				reapAll(0)
			case <-timer.C:
				waiting = false
			}
		}
		delay = min(2*delay, reaperLongestDelay)
	}
}

// exitFinal is the status with which a child says that starting it again is
// of no use, e.g. because its secret was used already.
const exitFinal = 78 // EX_CONFIG of sysexits.h

// waitChild reaps until the child is gone. It passes a stop on to the child.
func waitChild(pid int, dead, stop <-chan os.Signal) (stopped, final bool) {
	var deadline <-chan time.Time
	for {
		select {
		case <-dead:
			if ended, status := reapAll(pid); ended {
				return stopped, status.Exited() && status.ExitStatus() == exitFinal
			}
		case <-stop:
			stopped = true
			_ = syscall.Kill(pid, syscall.SIGTERM)
			deadline = time.After(reaperGrace)
		case <-deadline:
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// reapAll reaps every dead child and tells whether pid was among them.
func reapAll(pid int) (ended bool, status syscall.WaitStatus) {
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || got <= 0 {
			return ended, status
		}
		if got == pid {
			ended, status = true, ws
		}
	}
}

// endAll ends what is left: all our children, and what becomes our child when
// they end.
func endAll(dead <-chan os.Signal) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
			reapAll(0)
			children := childrenOf(os.Getpid())
			if len(children) == 0 {
				return
			}
			for _, c := range children {
				_ = syscall.Kill(c, sig)
			}
			select {
			case <-dead:
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func childrenOf(parent int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		i := bytes.LastIndexByte(stat, ')') // the name may hold blanks and brackets
		f := bytes.Fields(stat[i+1:])
		if len(f) > 1 && string(f[1]) == strconv.Itoa(parent) && string(f[0]) != "Z" {
			list = append(list, pid)
		}
	}
	return list
}
