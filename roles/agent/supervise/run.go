package supervise

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// Run implements services.Supervisor. When the context ends, the command and
// all its descendants are asked to end with TERM and killed two seconds later.
func (s *Supervisor) Run(ctx context.Context, d services.Process) (int, error) {
	mark := d.Name + "-" + api.NewID(8)
	cmd, err := s.command(d, mark)
	if err != nil {
		return -1, err
	}
	err = cmd.Start()
	closeOutput(cmd)
	if err != nil {
		return -1, fmt.Errorf("run %s: %w", d.Name, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case err = <-done:
		case <-time.After(2 * time.Second):
		}
		killFamily(cmd.Process.Pid, mark)
		if err == nil {
			err = <-done
		}
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, fmt.Errorf("run %s: %w", d.Name, err)
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return -int(ws.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
