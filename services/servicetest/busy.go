package servicetest

import (
	"runtime"
	"syscall"
	"time"
)

// Busy tells how many times longer work takes now than on a machine that has
// nothing else to do; 1 at the least. What a test promises of seconds holds for
// such a machine, and is to be multiplied by it.
func Busy() float64 {
	const work = 20 * time.Millisecond
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent := func() time.Duration {
		var u syscall.Rusage
		if syscall.Getrusage(syscall.RUSAGE_THREAD, &u) != nil {
			return 0
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began, before := time.Now(), spent()
	for spent()-before < work && time.Since(began) < time.Minute {
	}
	return max(1, float64(time.Since(began))/float64(work))
}
