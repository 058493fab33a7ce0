package shell

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// signal sends to every process of the session. Who has left it, as daemons
// and tmux do, is left alone.
func (s *Shell) signal(sig syscall.Signal) (reached int) {
	for _, pid := range session(s.cmd.Process.Pid) {
		if syscall.Kill(pid, sig) == nil {
			reached++
		}
	}
	return reached
}

// endSession ends what is left of the session, politely at first. Once that is
// done its number may become another's.
func (s *Shell) endSession() { s.ending.Do(s.endJobs) }

func (s *Shell) endJobs() {
	if s.signal(syscall.SIGHUP) == 0 {
		return
	}
	s.signal(syscall.SIGCONT)
	for end := time.Now().Add(hangupTime); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if len(session(s.cmd.Process.Pid)) == 0 {
			return
		}
	}
	for range 3 { // a family may fork while it is killed
		if s.signal(syscall.SIGKILL) == 0 {
			return
		}
	}
}

// session lists the processes of a session that have not ended.
func session(id int) []int {
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
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		i := strings.LastIndex(string(b), ") ") // the name may hold blanks and brackets
		if i < 0 {
			continue
		}
		f := strings.Fields(string(b)[i+2:]) // state, parent, group, session, …
		if len(f) > 3 && f[0] != "Z" && f[3] == strconv.Itoa(id) {
			list = append(list, pid)
		}
	}
	return list
}
