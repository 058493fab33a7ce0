package roles

import (
	"bufio"
	"context"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settled is when a role has done what it does only at its start.
const settled = time.Minute

// letGo gives back, once, the memory that only the start needed.
func letGo(ctx context.Context) error {
	t := time.NewTimer(settled)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-t.C:
	}
	return giveBack()
}

// giveBack frees the heap that is not in use and the pages of this program's
// own file. Every package that a program is linked with has something to
// prepare at its start, also those that this role never calls. What is needed
// again is mapped again from the kernel's cache, or read from the file.
func giveBack() error {
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	list, err := untouched(f, program)
	if err != nil {
		return err
	}
	for _, m := range list {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}

// mapping is a part of this process's address space.
type mapping struct{ start, end uintptr }

// untouched are the mappings of a file that cannot be written to and never
// were: what is in them is what is in the file. It reads the format of
// /proc/PID/smaps.
func untouched(r io.Reader, file string) ([]mapping, error) {
	var list []mapping
	candidate := false // the last of list is still being read
	s := bufio.NewScanner(r)
	for s.Scan() {
		words := strings.Fields(s.Text())
		if len(words) == 0 {
			continue
		}
		name, isField := strings.CutSuffix(words[0], ":")
		if isField {
			// Dirty alone says nothing: so are pages of a file that was copied here a moment ago.
			own := name == "Anonymous" || name == "Swap"
			if candidate && own && (len(words) < 2 || words[1] != "0") {
				list, candidate = list[:len(list)-1], false
			}
			continue
		}
		candidate = false
		from, to, ok := strings.Cut(words[0], "-")
		start, errStart := strconv.ParseUint(from, 16, 64)
		end, errEnd := strconv.ParseUint(to, 16, 64)
		if !ok || errStart != nil || errEnd != nil || len(words) < 6 || words[5] != file || !strings.HasPrefix(words[1], "r-") {
			continue
		}
		list, candidate = append(list, mapping{uintptr(start), uintptr(end)}), true
	}
	return list, s.Err()
}
