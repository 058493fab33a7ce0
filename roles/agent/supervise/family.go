package supervise

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// killFamily kills the process group of pid and every process that carries
// the mark in its environment, because daemons leave their group.
func killFamily(pid int, mark string) {
	if pid > 0 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	if mark == "" {
		return
	}
	want := []byte(markVariable + "=" + mark + "\x00")
	for range 3 { // a family may fork while it is killed
		killed := false
		for _, p := range marked(want) {
			killed = syscall.Kill(p, syscall.SIGKILL) == nil || killed
		}
		if !killed {
			return
		}
	}
}

func marked(want []byte) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(env, want) {
			found = append(found, pid)
		}
	}
	return found
}
