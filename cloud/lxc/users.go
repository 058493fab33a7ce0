package lxc

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"sync"
	"syscall"
)

// idRange is how many user and group ids a container has.
const idRange = 1 << 16

// users gives each group of instances its own range of user ids, so that a
// process which escapes from a container is nobody's neighbour.
type users struct {
	first int
	mu    sync.Mutex
	held  map[int]*os.File // user namespaces by slot
}

func (u *users) init(tag string) {
	// Above what adduser, subuid (from 100000) and systemd-nspawn's first
	// choice use, below 2^31, which some programs take for the end.
	u.first = 1_300_000_000 + int(hash(tag)%32)*256*idRange
	u.first -= u.first % idRange
	u.held = map[int]*os.File{}
}

func hash(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return h.Sum32()
}

func (u *users) base(slot int) int { return u.first + slot*idRange }

// namespace is a user namespace with the ids of r's group, for mounting
// layers with their owners mapped. A program is needed to make one; the open
// file keeps it when the program has ended.
func (u *users) namespace(ctx context.Context, h *helper, r record) (*os.File, error) {
	if r.Privileged {
		return os.Open(os.DevNull)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if f, ok := u.held[r.Slot]; ok {
		return f, nil
	}
	cmd, err := h.command(ctx, "hold")
	if err != nil {
		return nil, err
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: r.Owner, Size: idRange}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids}
	end, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	_ = end.Close()
	_ = cmd.Wait()
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	u.held[r.Slot] = f
	return f, nil
}

func (u *users) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for slot, f := range u.held {
		_ = f.Close()
		delete(u.held, slot)
	}
}
