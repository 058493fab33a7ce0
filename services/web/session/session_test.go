package session

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/redcon"
)

// node is one store of a test, with a socket for PHP.
type node struct {
	*cluster
	peer   *http.Server
	socket string
	stop   context.CancelFunc
	calls  atomic.Int64 // of other stores, but those that they make by themselves
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
}

func peerOf(n int) Peer {
	return Peer{Instance: fmt.Sprintf("i%d", n), Address: fmt.Sprintf("127.%d.%d.%d", 128+os.Getpid()/250%64, 1+os.Getpid()%250, 1+n), Port: 9001}
}

func startNode(t testing.TB, conf *tls.Config, dir string, self Peer, members []Peer) *node {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	d, err := openDisk(filepath.Join(dir, self.Instance+".db"), log)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{cluster: newCluster(d, conf, log, time.Now), socket: filepath.Join(dir, self.Instance+".sock")}
	l, err := net.Listen("tcp", net.JoinHostPort(self.Address, strconv.Itoa(self.Port)))
	if err != nil {
		t.Fatal(err)
	}
	answer := n.peerHandler()
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/hello" && r.URL.Path != "/want" {
			n.calls.Add(1)
		}
		answer.ServeHTTP(w, r)
	})
	n.peer = &http.Server{Handler: counted, TLSConfig: conf.Clone(), ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() { _ = n.peer.ServeTLS(l, "", "") }()
	_ = os.Remove(n.socket)
	php, err := net.Listen("unix", n.socket)
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(n.cluster)
	redis := redcon.NewServer("", f.ServeRESP, nil, f.closed)
	go func() { _ = redis.Serve(php) }()
	var ctx context.Context
	ctx, n.stop = context.WithCancel(t.Context())
	n.setMembers(self, members)
	go n.run(ctx)
	t.Cleanup(func() {
		n.crash()
		_ = redis.Close()
	})
	return n
}

// crash ends a store without a word.
func (n *node) crash() {
	n.stop()
	_ = n.peer.Close()
	_ = n.disk.close()
}

func startNodes(t testing.TB, n int) []*node {
	t.Helper()
	conf, dir := testTLS(t), t.TempDir()
	var members []Peer
	for i := range n {
		members = append(members, peerOf(i+1))
	}
	var nodes []*node
	for _, p := range members {
		nodes = append(nodes, startNode(t, conf, dir, p, members))
	}
	for _, n := range nodes {
		eventually(t, "all answer", func() bool { return n.answering() == len(members)-1 })
	}
	return nodes
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// php talks to a store as PHP does.
type phpClient struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

func dialPHP(t testing.TB, n *node) *phpClient {
	t.Helper()
	c, err := net.Dial("unix", n.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &phpClient{t, c, bufio.NewReader(c)}
}

// do returns the answer; "(nil)" is none, and an error begins with a dash.
func (p *phpClient) do(args ...string) string {
	p.t.Helper()
	fmt.Fprintf(p.c, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(p.c, "$%d\r\n%s\r\n", len(a), a)
	}
	line, err := p.r.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line[0] != '$' {
		return strings.TrimLeft(line, "+:")
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < 0 {
		return "(nil)"
	}
	b := make([]byte, n+2)
	if _, err := io.ReadFull(p.r, b); err != nil {
		p.t.Fatal(err)
	}
	return string(b[:n])
}

func TestProtocol(t *testing.T) {
	nodes := startNodes(t, 2)
	a, b := dialPHP(t, nodes[0]), dialPHP(t, nodes[1])
	big := strings.Repeat("x", maxValue)
	for _, tt := range []struct {
		name string
		at   *phpClient
		args []string
		want string
	}{
		{"ping", a, []string{"PING"}, "PONG"},
		{"none-yet", a, []string{"GET", "s"}, "(nil)"},
		{"save", a, []string{"SETEX", "s", "1440", "data\r\n\x00\xff"}, "OK"},
		{"found-elsewhere", b, []string{"GET", "s"}, "data\r\n\x00\xff"},
		{"exists", b, []string{"EXISTS", "s"}, "1"},
		{"fresh-one-is-refused", b, []string{"SET", "s", "", "NX", "EX", "10"}, "(nil)"},
		{"fresh-one", b, []string{"SET", "fresh", "v", "NX", "EX", "10"}, "OK"},
		{"longer", b, []string{"EXPIRE", "s", "3000"}, "1"},
		{"get-and-longer", a, []string{"GETEX", "s", "EX", "4000"}, "data\r\n\x00\xff"},
		{"largest", a, []string{"SETEX", "big", "60", big}, "OK"},
		{"largest-elsewhere", b, []string{"GET", "big"}, big},
		{"too-large", a, []string{"SETEX", "big", "60", big + "x"}, "-ERR a session of 1048577 bytes is larger than 1048576"},
		{"lock", a, []string{"SET", "s_LOCK", "t1", "NX", "PX", "30000"}, "OK"},
		{"locked-elsewhere", b, []string{"SET", "s_LOCK", "t2", "NX", "PX", "30000"}, "(nil)"},
		{"lock-is-mine", a, []string{"GET", "s_LOCK"}, "t1"},
		{"lock-is-not-mine", b, []string{"GET", "s_LOCK"}, "(nil)"},
		{"other-script", a, []string{"EVAL", "return 1", "1", "s_LOCK", "t1"}, "-NOSCRIPT no such script"},
		{"unlock", a, []string{"EVALSHA", newFront(nil).release, "1", "s_LOCK", "t1"}, "1"},
		{"lock-free", b, []string{"SET", "s_LOCK", "t2", "NX", "PX", "30000"}, "OK"},
		{"unlock-by-script", b, []string{"EVAL", releaseScript, "1", "s_LOCK", "t2"}, "1"},
		{"remove", b, []string{"DEL", "s"}, "1"},
		{"gone-elsewhere", a, []string{"GET", "s"}, "(nil)"},
		{"remove-again", a, []string{"DEL", "s"}, "0"},
		{"no-name", a, []string{"GET", ""}, "-ERR the name of a session has 1 to 1024 bytes"},
		{"no-time", a, []string{"SETEX", "s", "0", "x"}, `-ERR "0" is no time to live`},
		{"too-few", a, []string{"SETEX", "s"}, "-ERR wrong number of arguments for SETEX"},
		{"no-database", a, []string{"KEYS", "*"}, `-ERR this store keeps PHP sessions and does not know "KEYS"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.at.do(tt.args...); got != tt.want {
				t.Errorf("got %.80q, want %.80q", got, tt.want)
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	nodes := startNodes(t, 3)
	a := dialPHP(t, nodes[0])
	a.do("PSETEX", "s", "50", "x")
	eventually(t, "expired for readers", func() bool { return a.do("GET", "s") == "(nil)" })
	eventually(t, "removed from the disks", func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return n.disk.count() > 0 })
	})
	if used := nodes[0].disk.used.Load(); used != 0 {
		t.Errorf("%d bytes are counted of nothing", used)
	}
}

func TestEviction(t *testing.T) {
	n := startNodes(t, 1)[0]
	n.disk.limit.Store(10 << 10)
	c := dialPHP(t, n)
	for i := range 30 {
		c.do("SETEX", fmt.Sprint("s", i), strconv.Itoa(1000+i), strings.Repeat("x", 1000))
	}
	if got := c.do("GET", "s0"); got != "(nil)" {
		t.Error("the session unused for longest is still there")
	}
	if got := c.do("GET", "s29"); len(got) != 1000 {
		t.Errorf("the newest session has %d bytes", len(got))
	}
	if used := n.disk.used.Load(); used > 10<<10 {
		t.Errorf("%d bytes are kept, more than the limit", used)
	}
}

// Three stores of five keep each session, so two of them may go at once.
func TestLossOfTwo(t *testing.T) {
	nodes := startNodes(t, 5)
	const n = 200
	for i := range n {
		dialPHP(t, nodes[i%5]).do("SETEX", fmt.Sprint("s", i), "600", fmt.Sprint("v", i))
	}
	copiesOf := func(key string) (n int) {
		for _, node := range nodes {
			if e, err := node.disk.get(key); err == nil && e.Version > 0 {
				n++
			}
		}
		return n
	}
	all := 0
	for i := range n {
		got := copiesOf(fmt.Sprint("s", i))
		if all += got; got < copies {
			t.Fatalf("session %d is kept %d times", i, got)
		}
	}
	if all > n*copies*5/4 { // another keeps one where a busy machine let an owner answer late
		t.Errorf("%d copies of %d sessions", all, n)
	}
	nodes[1].crash()
	nodes[3].crash()
	for _, at := range []int{0, 2, 4} {
		c := dialPHP(t, nodes[at])
		for i := range n {
			if got := c.do("GET", fmt.Sprint("s", i)); got != fmt.Sprint("v", i) {
				t.Fatalf("store %d: session %d is %q", at, i, got)
			}
		}
	}
	nodes = []*node{nodes[0], nodes[2], nodes[4]}
	eventually(t, "what was lost is kept three times again", func() bool {
		for i := range n {
			if copiesOf(fmt.Sprint("s", i)) < copies {
				return false
			}
		}
		return true
	})
}

// A store that was away gets what it missed, and brings nothing back that was
// removed meanwhile.
func TestReturn(t *testing.T) {
	conf, dir := testTLS(t), t.TempDir()
	members := []Peer{peerOf(1), peerOf(2)}
	a := startNode(t, conf, dir, members[0], members)
	b := startNode(t, conf, dir, members[1], members)
	eventually(t, "both answer", func() bool { return a.answering() == 1 && b.answering() == 1 })
	c := dialPHP(t, a)
	c.do("SETEX", "kept", "600", "old")
	c.do("SETEX", "removed", "600", "old")
	b.crash()
	c.do("SETEX", "kept", "600", "new")
	c.do("SETEX", "fresh", "600", "new")
	c.do("DEL", "removed")
	b = startNode(t, conf, dir, members[1], members)
	for key, want := range map[string]string{"kept": "new", "fresh": "new"} {
		eventually(t, key+" is there again", func() bool {
			e, err := b.disk.get(key)
			return err == nil && string(e.Value) == want
		})
	}
	eventually(t, "the removed one is gone there, too", func() bool {
		e, err := b.disk.get("removed")
		return err == nil && e.Deleted
	})
	if got := c.do("GET", "removed"); got != "(nil)" {
		t.Errorf("a removed session is back: %q", got)
	}
}

func TestHandOver(t *testing.T) {
	nodes := startNodes(t, 4)
	for i := range 100 {
		dialPHP(t, nodes[3]).do("SETEX", fmt.Sprint("s", i), "600", fmt.Sprint("v", i))
	}
	left := []Peer{peerOf(1)}
	nodes[0].setMembers(peerOf(1), left)
	for _, n := range nodes[1:] {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := n.handOver(ctx, left); err != nil {
			t.Fatal(err)
		}
		cancel()
		n.crash()
	}
	for i := range 100 {
		if e, err := nodes[0].disk.get(fmt.Sprint("s", i)); err != nil || string(e.Value) != fmt.Sprint("v", i) {
			t.Fatalf("session %d: %q, %v", i, e.Value, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := nodes[0].handOver(ctx, []Peer{peerOf(9)}); err == nil {
		t.Error("sessions were handed over to nobody")
	}
}

// The locks of requests end with the store that asked for them, when it comes
// back as another process.
func TestLocksEndWithTheirStore(t *testing.T) {
	conf, dir := testTLS(t), t.TempDir()
	members := []Peer{peerOf(1), peerOf(2)}
	a := startNode(t, conf, dir, members[0], members)
	b := startNode(t, conf, dir, members[1], members)
	eventually(t, "both answer", func() bool { return a.answering() == 1 && b.answering() == 1 })
	if got := dialPHP(t, b).do("SET", "s_LOCK", "t", "NX", "PX", "60000"); got != "OK" {
		t.Fatal(got)
	}
	c := dialPHP(t, a)
	if got := c.do("SET", "s_LOCK", "u", "NX", "PX", "60000"); got != "(nil)" {
		t.Fatal(got)
	}
	b.crash()
	startNode(t, conf, dir, members[1], members)
	eventually(t, "the lock is free", func() bool { return c.do("SET", "s_LOCK", "u", "NX", "PX", "60000") == "OK" })
}

func TestDamagedDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	log := slog.New(slog.DiscardHandler)
	if err := os.WriteFile(path+".000000000001", []byte(strings.Repeat("this is no log ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openDisk(path, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.put(entry{Key: "s", Version: 1, Expires: time.Now().Add(time.Hour).UnixMilli()}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + ".000000000001.damaged"); err != nil {
		t.Error("the damaged file was not put aside")
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
}

func TestRing(t *testing.T) {
	var four []Peer
	for i := range 4 {
		four = append(four, peerOf(i+1))
	}
	share, moved := map[string]int{}, 0
	for i := range 4000 {
		key := fmt.Sprint("PHPREDIS_SESSION:", i)
		before := ring(four, key)
		share[before[0].Instance]++
		if after := ring(four[:3], key); before[0].Instance != "i4" && after[0] != before[0] {
			moved++
		}
	}
	for id, n := range share {
		if n < 800 || n > 1200 {
			t.Errorf("%s has %d of 4000", id, n)
		}
	}
	if moved > 0 {
		t.Errorf("%d keys moved between stores that stayed", moved)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(entry{Key: "k", Value: []byte("v"), Version: 1, Expires: 2}, entry{Key: "", Deleted: true}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decode(b)
		if err == nil {
			again, err := decode(encode(list...))
			if err != nil || len(again) != len(list) {
				t.Errorf("%d entries became %d: %v", len(list), len(again), err)
			}
		} else if !errors.Is(err, errBroken) && len(list) > 0 {
			t.Errorf("entries with an error: %v", err)
		}
	})
}

// TestFound measures how long PHP waits for a session, where its store has it
// and where others have it, and prints it.
func TestFound(t *testing.T) {
	nodes := startNodes(t, 5)
	const n = 500
	value := strings.Repeat("x", 2000)
	for i := range n {
		dialPHP(t, nodes[0]).do("SETEX", fmt.Sprint("s", i), "600", value)
	}
	times := map[string][]time.Duration{}
	for _, node := range nodes {
		c := dialPHP(t, node)
		for i := range n {
			key := fmt.Sprint("s", i)
			kind := "remote"
			if node.of(key).own {
				kind = "local"
			}
			began := time.Now()
			if got := c.do("GET", key); len(got) != len(value) {
				t.Fatalf("session %d: %d bytes", i, len(got))
			}
			times[kind] = append(times[kind], time.Since(began))
		}
	}
	single := startNodesAt(t, 20)
	c := dialPHP(t, single)
	c.do("SETEX", "s", "600", value)
	for range 1000 {
		began := time.Now()
		c.do("GET", "s")
		times["alone"] = append(times["alone"], time.Since(began))
	}
	for kind, list := range times {
		slices.Sort(list)
		p50, p99 := list[len(list)/2], list[len(list)*99/100]
		t.Logf("session found, %s: p50 %v, p99 %v of %d", kind, p50, p99, len(list))
		if p50 > 2*time.Millisecond && os.Getenv("NUTSHELL_BENCH") != "" { // elsewhere the machine has other work
			t.Errorf("%s: half of all sessions take longer than 2 ms", kind)
		}
	}
}

func startNodesAt(t *testing.T, n int) *node {
	return startNode(t, testTLS(t), t.TempDir(), peerOf(n), []Peer{peerOf(n)})
}
