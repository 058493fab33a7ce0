package agent

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/process"

	"nutshell/roles/api"
)

const (
	measureEvery = 3 * time.Second
	diskEvery    = time.Minute // walking the files is not free
)

// figures measures what the instance uses: all processes below its init.
type figures struct {
	dir string

	mu   sync.Mutex
	last api.Figures
	cpu  float64 // seconds used since we began to look
}

func newFigures(dir string) *figures { return &figures{dir: dir} }

func (f *figures) latest() api.Figures {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// samples are the latest figures as history keeps them.
func (f *figures) samples() []api.Sample {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.At.IsZero() {
		return nil
	}
	list := []api.Sample{{Name: "nutshell_cpu_seconds_total", Value: f.cpu}, {Name: "nutshell_memory_bytes", Value: float64(f.last.MemoryBytes)},
		{Name: "nutshell_disk_bytes", Value: float64(f.last.DiskBytes)}, {Name: "nutshell_processes", Value: float64(f.last.Processes)}}
	if f.last.MemoryLimit > 0 {
		list = append(list, api.Sample{Name: "nutshell_memory_limit_bytes", Value: float64(f.last.MemoryLimit)})
	}
	return list
}

func (f *figures) watch(ctx context.Context) {
	limit, _ := strconv.ParseInt(os.Getenv("NUTSHELL_MEMORY"), 10, 64) // absent: no limit
	var disk int64
	var diskAt time.Time
	var cpuBefore float64
	var before time.Time
	tick := time.NewTicker(measureEvery)
	defer tick.Stop()
	for {
		now := time.Now()
		if now.Sub(diskAt) > diskEvery {
			disk, diskAt = usedBelow(f.dir), now
		}
		cpu, memory, n := measure(ctx)
		m := api.Figures{At: now, MemoryBytes: memory, MemoryLimit: limit, DiskBytes: disk, Processes: n}
		used := max(cpu-cpuBefore, 0) // processes that ended take their share along
		if !before.IsZero() {
			m.CPUPercent = 100 * used / now.Sub(before).Seconds()
		}
		f.mu.Lock()
		f.last = m
		if !before.IsZero() {
			f.cpu += used
		}
		f.mu.Unlock()
		cpuBefore, before = cpu, now
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// measure sums CPU seconds and resident memory over our init and all below it.
// What processes share is counted once, as much as the one that shares most:
// workers of PHP-FPM would else count its cache again and again.
func measure(ctx context.Context) (cpu float64, memory int64, n int) {
	all, err := process.ProcessesWithContext(ctx)
	if err != nil {
		return 0, 0, 0
	}
	parent := map[int32]int32{}
	for _, p := range all {
		if pp, err := p.PpidWithContext(ctx); err == nil {
			parent[p.Pid] = pp
		}
	}
	top := int32(os.Getppid()) //nolint:gosec // pids are below 2^22
	var shared int64
	for _, p := range all {
		if !below(parent, p.Pid, top) {
			continue
		}
		n++
		if t, err := p.TimesWithContext(ctx); err == nil {
			cpu += t.User + t.System
		}
		if m, err := p.MemoryInfoExWithContext(ctx); err == nil {
			memory += int64(m.RSS) - int64(m.Shared) //nolint:gosec // memories are smaller
			shared = max(shared, int64(m.Shared))    //nolint:gosec // memories are smaller
		}
	}
	return cpu, memory + shared, n
}

func below(parent map[int32]int32, pid, top int32) bool {
	for range 64 { // deeper trees are loops made by pids reused while we looked
		if pid == top {
			return true
		}
		next, ok := parent[pid]
		if !ok || next == 0 {
			return false
		}
		pid = next
	}
	return false
}

func usedBelow(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // files come and go while we count
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
