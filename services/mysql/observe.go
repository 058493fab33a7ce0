package mysql

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"nutshell/roles/api"
)

// statusTime bounds one look at a server: balancers and the manager wait.
const statusTime = 2 * time.Second

// meter makes rates of counters between two looks.
type meter struct {
	mu      sync.Mutex
	at      time.Time
	queries int64
	paused  int64 // nanoseconds
	rate    float64
	share   float64
}

// observe tells how the server is.
func (s *server) observe(ctx context.Context) *nodeState {
	n := &nodeState{Volume: s.volume.ID, Fresh: s.fresh(), Membership: s.remembered(), At: position{Number: -1}}
	if _, err := os.Stat(s.mark("solo")); err == nil {
		n.Solo = true
	}
	n.Figures.DataBytes, n.Figures.DiskBytes = s.space()
	p, runs := s.process()
	n.Process, n.Restarts = p.State, p.Restarts
	if runs && p.State != "running" {
		n.Problem = "the server has ended: " + p.Message
	}
	s.mu.Lock()
	full := s.full
	s.mu.Unlock()
	if full {
		n.Problem = s.fullText(n.Figures)
	}
	if !runs || p.State != "running" {
		return n
	}
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	all, err := status(ctx, s.open(), "Variable_name LIKE 'wsrep\\_%' OR Variable_name LIKE 'Com\\_%' OR Variable_name LIKE 'Threads\\_%' OR Variable_name LIKE 'Innodb\\_buffer\\_pool\\_read%' OR Variable_name = 'Queries'")
	if err != nil {
		if serverError(err) == errAccessDenied {
			n.Problem = "Nutshell's own account root@localhost has another password: restore a backup, or set it back"
		}
		n.State, n.Copied = "starting", s.copied()
		return n
	}
	n.read(all)
	n.Figures.Queries, n.Figures.Paused = s.meter.rates(number(all["queries"]), number(all["wsrep_flow_control_paused_ns"]))
	return n
}

// read takes over what the server says.
func (n *nodeState) read(all map[string]string) {
	n.Answers = true
	n.Connected = all["wsrep_connected"] == "ON"
	n.Primary = n.Connected && all["wsrep_cluster_status"] == "Primary"
	n.Synced = n.Primary && all["wsrep_local_state"] == "4" && all["wsrep_ready"] == "ON"
	n.Donor = n.Primary && all["wsrep_local_state"] == "2" && all["wsrep_ready"] == "ON"
	n.State = all["wsrep_local_state_comment"]
	n.Size = int(number(all["wsrep_cluster_size"]))
	n.At = position{all["wsrep_cluster_state_uuid"], number(all["wsrep_last_committed"])}
	if local := all["wsrep_local_state_uuid"]; local != "" && local != noHistory {
		n.At.History = local
	}
	f := &n.Figures
	f.Selects, f.Inserts = number(all["com_select"]), number(all["com_insert"])+number(all["com_insert_select"])+number(all["com_replace"])
	f.Updates, f.Deletes = number(all["com_update"])+number(all["com_update_multi"]), number(all["com_delete"])+number(all["com_delete_multi"])
	f.Connections, f.Running = int(number(all["threads_connected"])), int(number(all["threads_running"]))
	f.Queue, _ = strconv.ParseFloat(all["wsrep_local_recv_queue_avg"], 64)
	f.Queued = number(all["wsrep_local_recv_queue"])
	if asked := number(all["innodb_buffer_pool_read_requests"]); asked > 0 {
		f.HitRatio = 1 - float64(number(all["innodb_buffer_pool_reads"]))/float64(asked)
	}
}

func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// rates makes queries per second and the share of time paused of counters. It
// tells the last ones again when it is asked at once.
func (m *meter) rates(queries, paused int64) (rate, share float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	took := now.Sub(m.at)
	if took < 500*time.Millisecond {
		return m.rate, m.share
	}
	if m.at.IsZero() || queries < m.queries || paused < m.paused { // the first look at this server
		m.rate, m.share = 0, 0
	} else {
		m.rate, m.share = float64(queries-m.queries)/took.Seconds(), min(float64(paused-m.paused)/float64(took), 1)
	}
	m.at, m.queries, m.paused = now, queries, paused
	return m.rate, m.share
}

// space is what the data takes, and what the volume has.
func (s *server) space() (used, size int64) {
	var st syscall.Statfs_t
	if s.volume.Path == "" || syscall.Statfs(s.volume.Path, &st) != nil {
		return 0, 0
	}
	block := int64(st.Bsize)                           //nolint:unconvert // of 32 bits on small machines
	size = int64(st.Blocks) * block                    //nolint:gosec // file systems are smaller
	used = size - int64(st.Bavail)*block               //nolint:gosec // file systems are smaller
	if s.volume.Bytes > 0 && size > 2*s.volume.Bytes { // a directory of a larger disk, whose use is not ours
		return 0, s.volume.Bytes
	}
	return used, size
}

// leastFree is what must be free for the server to go on. A server that finds
// no room waits for it, and with it all other nodes.
func (s *server) leastFree() int64 { return within(s.volume.Bytes/50, 24<<20, 256<<20) }

func (s *server) fullText(f figures) string {
	return fmt.Sprintf("volume %s is full (%d of %d MB): make volume_size larger, or delete something", s.volume.ID, f.DataBytes>>20, f.DiskBytes>>20)
}

// guard stops a node whose volume is nearly full while others go on, and
// starts it again when there is room.
func (s *server) guard(ctx context.Context, n *nodeState) {
	f := n.Figures
	s.rejoin(ctx, n)
	free := f.DiskBytes - f.DataBytes
	if f.DiskBytes == 0 || f.DataBytes == 0 {
		return
	}
	s.mu.Lock()
	full := s.full
	s.mu.Unlock()
	switch {
	case !full && free < s.leastFree() && n.Synced && n.Size > 1:
		s.log.Warn("volume is nearly full; the node leaves the others", "free", free)
		s.setFull(true)
		if err := s.stop(ctx); err != nil {
			s.log.Error("not stopped", "error", err)
		}
		n.Synced, n.Primary, n.Answers, n.Problem = false, false, false, s.fullText(f)
	case !full && free < s.leastFree():
		n.Problem = s.fullText(f)
	case full && free > 2*s.leastFree():
		s.setFull(false)
		if _, revision, err := s.configure(ctx); err != nil {
			s.log.Error("not started again", "error", err)
		} else if err := s.start(ctx, revision); err != nil {
			s.log.Error("not started again", "error", err)
		}
	}
}

// strayFor is how long a server may run without any connection to its group.
const strayFor = 5 * time.Second

// rejoin starts a server again that has given up its group, which it does when
// changes that it missed did not arrive whole: it never tries again by itself.
func (s *server) rejoin(ctx context.Context, n *nodeState) {
	if !n.Answers || n.Connected {
		s.stray = time.Time{}
		return
	}
	if s.stray.IsZero() {
		s.stray = time.Now()
	}
	if time.Since(s.stray) < strayFor {
		return
	}
	s.stray = time.Time{}
	s.log.Warn("the server has left its group; it is started again", "state", n.State)
	if err := s.m.Supervisor().Signal(daemon, "KILL"); err != nil { // it would wait for a group; what is committed is on the disk
		s.log.Error("not started again", "error", err)
	}
}

func (s *server) setFull(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = full
}

// copied is how much of the data a joining node has got.
func (s *server) copied() int64 {
	var sum int64
	for _, dir := range []string{s.data(), filepath.Join(s.data(), ".sst")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				inner, err := os.ReadDir(filepath.Join(dir, e.Name()))
				if err != nil {
					continue
				}
				for _, f := range inner {
					sum += sizeOf(f)
				}
				continue
			}
			sum += sizeOf(e)
		}
	}
	return sum
}

func sizeOf(e os.DirEntry) int64 {
	i, err := e.Info()
	if err != nil || !i.Mode().IsRegular() || e.Name() == "galera.cache" {
		return 0
	}
	return i.Size()
}

// Measure implements services.Measurer.
func (a *agent) Measure(ctx context.Context) ([]api.Sample, error) {
	c := a.told()
	if c.Node == nil {
		return a.balancer.measure(ctx)
	}
	n := a.server.observe(ctx)
	f := n.Figures
	list := []api.Sample{{Name: "nutshell_mysql_data_bytes", Value: float64(f.DataBytes)}}
	if !n.Answers {
		return list, nil
	}
	ready := 0.0
	if n.Synced {
		ready = 1
	}
	query := func(kind string, v int64) api.Sample {
		return api.Sample{Name: "nutshell_mysql_queries_total", Labels: map[string]string{"type": kind}, Value: float64(v)}
	}
	return append(list, query("select", f.Selects), query("insert", f.Inserts), query("update", f.Updates), query("delete", f.Deletes),
		api.Sample{Name: "nutshell_mysql_queries_per_second", Value: f.Queries},
		api.Sample{Name: "nutshell_mysql_connections", Value: float64(f.Connections)},
		api.Sample{Name: "nutshell_mysql_threads_running", Value: float64(f.Running)},
		api.Sample{Name: "nutshell_mysql_misalignment", Value: f.Queue},
		api.Sample{Name: "nutshell_mysql_flow_control_paused", Value: f.Paused},
		api.Sample{Name: "nutshell_mysql_cluster_size", Value: float64(n.Size)},
		api.Sample{Name: "nutshell_mysql_buffer_pool_hit_ratio", Value: f.HitRatio},
		api.Sample{Name: "nutshell_mysql_synced", Value: ready}), nil
}
