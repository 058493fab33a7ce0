package director

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/store"
)

// machine is one that wants to join.
type machine struct {
	h     *house
	key   *ecdsa.PrivateKey
	csr   string
	id    string
	facts api.NodeFacts
	creds *pki.Credentials
}

func newMachine(h *house, name string) *machine {
	h.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		h.t.Fatal(err)
	}
	csr, err := pki.CSR(key)
	if err != nil {
		h.t.Fatal(err)
	}
	return &machine{h: h, key: key, csr: string(csr), facts: api.NodeFacts{Name: name, Serial: "10000000abcdef12", Model: "Raspberry Pi 4 Model B Rev 1.4", Arch: "arm64", CPUs: 4, Memory: 4 << 30, MemoryFree: 3 << 30}}
}

func (m *machine) send(in api.NodeJoin) (out api.NodeJoined, err error) {
	c := rpc.NewClient(m.h.url, pki.PinnedTLS(m.h.d.CASHA256()))
	defer c.HTTP.CloseIdleConnections()
	err = c.Do(context.Background(), "POST", "/api/v1/node/join", in, &out)
	return out, err
}

// ask asks to join as an honest machine does.
func (m *machine) ask() api.NodeJoined {
	m.h.t.Helper()
	out, err := m.send(api.NodeJoin{CSR: m.csr, Facts: m.facts})
	if err != nil {
		m.h.t.Fatal(err)
	}
	if out.Waiting || out.Enrolled != nil {
		m.h.t.Fatalf("believed without a proof: %+v", out)
	}
	proof, err := pki.Prove(m.key, out.Challenge)
	if err != nil {
		m.h.t.Fatal(err)
	}
	out, err = m.send(api.NodeJoin{CSR: m.csr, Challenge: out.Challenge, Proof: proof, Facts: m.facts})
	if err != nil {
		m.h.t.Fatal(err)
	}
	m.id = out.ID
	if out.Enrolled != nil {
		if m.creds, err = pki.NewCredentials(m.key, []byte(out.Enrolled.Chain), m.h.d.CASHA256(), time.Now); err != nil {
			m.h.t.Fatal(err)
		}
	}
	return out
}

func (m *machine) beat() (orders api.NodeOrders, err error) {
	c := rpc.NewClient(m.h.url, pki.ClientTLS(m.creds, pki.Director))
	defer c.HTTP.CloseIdleConnections()
	return orders, c.Do(context.Background(), "POST", "/api/v1/node/heartbeat", m.facts, &orders)
}

// joined approves a machine and lets it tell of itself once.
func (m *machine) joined(name string) {
	m.h.t.Helper()
	m.ask()
	m.h.admin.must("POST", "/nodes/"+m.id+"/approve", api.ApproveNode{Name: name}, nil, 200)
	if m.ask(); m.creds == nil {
		m.h.t.Fatal("no certificate after it was approved")
	}
	if _, err := m.beat(); err != nil {
		m.h.t.Fatal(err)
	}
}

func TestNodeJoins(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	m := newMachine(h, "raspberrypi")
	if out := m.ask(); !out.Waiting || out.Enrolled != nil {
		t.Fatalf("before it was approved: %+v", out)
	}
	var list []api.Node
	h.admin.must("GET", "/nodes", nil, &list, 200)
	if len(list) != 1 || list[0].State != api.NodeWaiting || list[0].Name != "pi4-cdef12" || list[0].Subnet != "" {
		t.Fatalf("got %+v", list)
	}
	wrong := h.admin.refused("POST", "/nodes/"+m.id+"/approve", api.ApproveNode{Fingerprint: strings.Repeat("0", 64)}, api.CodeConflict)
	if !strings.Contains(wrong.Message, list[0].Fingerprint) {
		t.Errorf("the right fingerprint is not told: %v", wrong)
	}
	h.admin.refused("POST", "/nodes/"+m.id+"/approve", api.ApproveNode{Fingerprint: list[0].Fingerprint[:8]}, api.CodeConflict)
	var n api.Node
	h.admin.must("POST", "/nodes/"+m.id+"/approve", api.ApproveNode{Fingerprint: "SHA256:" + strings.ToUpper(list[0].Fingerprint[:20])}, &n, 200)
	if n.State != api.NodeReady || n.Subnet == "" {
		t.Fatalf("approved: %+v", n)
	}
	m.ask()
	if m.creds == nil || m.creds.Identity().String() != "nutshell://"+h.d.installation+"/node/"+m.id {
		t.Fatal("it got no certificate of its own")
	}
	orders, err := m.beat()
	if err != nil || orders.Subnet != n.Subnet || orders.Name != n.Name || len(orders.Peers) != 0 {
		t.Fatalf("orders: %+v, %v", orders, err)
	}
	second := newMachine(h, "shelf-2")
	second.joined("")
	if orders, err = m.beat(); err != nil || len(orders.Peers) != 1 || orders.Peers[0].Subnet == orders.Subnet {
		t.Errorf("with a second node: %+v, %v", orders, err)
	}
	h.admin.must("GET", "/nodes/shelf-2", nil, &n, 200)
	if n.MemoryFree != second.facts.MemoryFree || n.Address != "127.0.0.1" {
		t.Errorf("got %+v", n)
	}

	// What a node is survives the director.
	h.stopDirector()
	h.start()
	if _, err := m.beat(); err != nil {
		t.Errorf("after a restart of the director: %v", err)
	}
	h.admin.must("DELETE", "/nodes/"+m.id, nil, nil, 204)
	_, err = m.beat()
	if e := api.AsError(err); e == nil || e.Code != api.CodeNotFound || e.Object != "node "+m.id {
		t.Errorf("after it was removed: %v", err)
	}
	if err := rpc.NewClient(h.url, pki.ClientTLS(m.creds, pki.Director)).Do(t.Context(), "POST", "/api/v1/renew", api.Enrol{CSR: m.csr}, nil); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("a removed node renews: %v", err)
	}
	if out := m.ask(); !out.Waiting || out.Enrolled != nil {
		t.Errorf("a removed node came back by itself: %+v", out)
	}
}

func TestHostileJoiners(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	honest := newMachine(h, "honest")
	honest.ask()
	evil := newMachine(h, "honest")

	first, err := evil.send(api.NodeJoin{CSR: honest.csr, Facts: evil.facts})
	if err != nil || first.Waiting {
		t.Fatalf("%+v, %v", first, err)
	}
	proof, _ := pki.Prove(evil.key, first.Challenge)
	if _, err := evil.send(api.NodeJoin{CSR: honest.csr, Challenge: first.Challenge, Proof: proof}); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("the request of another with a proof of its own: %v", err)
	}
	proof, _ = pki.Prove(honest.key, strings.Repeat("0", 64))
	if out, err := evil.send(api.NodeJoin{CSR: honest.csr, Challenge: strings.Repeat("0", 64), Proof: proof}); err != nil || out.Waiting || out.Enrolled != nil {
		t.Errorf("a challenge that nobody gave: %+v, %v", out, err)
	}
	// A proof that was overheard is of no use for another key's request.
	good, _ := pki.Prove(honest.key, first.Challenge)
	if out, err := evil.send(api.NodeJoin{CSR: evil.csr, Challenge: first.Challenge, Proof: good}); err != nil || out.Waiting {
		t.Errorf("somebody else's challenge: %+v, %v", out, err)
	}
	if _, err := evil.send(api.NodeJoin{CSR: "rubbish"}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("no request: %v", err)
	}

	// What a machine says of itself is cut before anybody sees it.
	loud := newMachine(h, "\x1b[2J"+strings.Repeat("x", 5000)+"<script>")
	loud.facts.Model, loud.facts.Serial = "evil\x00\n\u202emodel", strings.Repeat("9", 300)
	loud.facts.Layers, loud.facts.Networks = []string{"../../etc"}, []string{"0.0.0.0/0", "nonsense"}
	loud.facts.Load, loud.facts.Memory = -3, -1
	loud.ask()
	var n api.Node
	h.admin.must("GET", "/nodes/"+loud.id, nil, &n, 200)
	if api.CheckName("node", n.Name) != nil || len(n.Model) > mostText || len(n.Serial) > mostText || strings.ContainsAny(n.Model, "\x00\n\u202e") || len(n.Layers) != 0 || n.Load != 0 || n.Memory != 0 {
		t.Errorf("shown: %+v", n)
	}
	h.admin.must("POST", "/nodes/"+loud.id+"/approve", api.ApproveNode{}, &n, 200)
	if n.Subnet == "" {
		t.Error("a machine took all networks away")
	}

	greedy := newMachine(h, "greedy")
	greedy.facts.Networks = []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}
	greedy.ask()

	// A certificate of one node is nobody else's.
	other := newMachine(h, "other")
	other.joined("other")
	if err := rpc.NewClient(h.url, pki.ClientTLS(other.creds, pki.Director)).Do(t.Context(), "POST", "/api/v1/renew", api.Enrol{CSR: evil.csr}, nil); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("another key was certified: %v", err)
	}
	if err := rpc.NewClient(h.url, pki.ClientTLS(other.creds, pki.Director)).Do(t.Context(), "GET", "/api/v1/manager/desired", nil, nil); api.CodeOf(err) != api.CodeForbidden {
		t.Errorf("a node asks as a manager: %v", err)
	}

	// Who makes a thousand keys is told to wait, and leaves little behind.
	refused, began := 0, time.Now()
	var wait sync.WaitGroup
	var mu sync.Mutex
	for range 20 {
		wait.Go(func() {
			for range 50 {
				m := evil
				if _, err := m.send(api.NodeJoin{CSR: m.csr}); api.CodeOf(err) == api.CodeTooMany {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			}
		})
	}
	wait.Wait()
	if allowed := 60 + int(time.Since(began).Seconds()); refused < 1000-allowed { // one more each second, however slow this machine is
		t.Errorf("%d of 1000 requests were refused", refused)
	}
	var list []api.Node
	h.admin.must("GET", "/nodes", nil, &list, 200)
	if len(list) > mostWaitingFrom+3 {
		t.Errorf("%d machines are shown", len(list))
	}
}

func TestWaitingRoom(t *testing.T) {
	h := newHouse(t)
	note := func(i int, remote string) error {
		key := strings.Repeat("0", 60) + string(rune('a'+i/26%26)) + string(rune('a'+i%26)) + "00"
		_, err := h.d.noteJoiner(t.Context(), "n"+key[60:], key, remote, api.NodeFacts{Name: "m"})
		return err
	}
	for i := range mostWaitingFrom {
		if err := note(i, "10.0.0.1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := note(mostWaitingFrom, "10.0.0.1"); api.CodeOf(err) != api.CodeTooMany {
		t.Errorf("one more of the same address: %v", err)
	}
	for i := mostWaitingFrom; i < mostWaiting; i++ {
		if err := note(i, "10.0.1."+string(rune('0'+i%10))+string(rune('0'+i/10))); err != nil {
			t.Fatal(i, err)
		}
	}
	// The room is full: who comes from elsewhere gets the place of the last of the address that has most.
	if err := note(mostWaiting, "10.0.2.1"); err != nil {
		t.Errorf("an address of its own: %v", err)
	}
	all, err := h.d.store.Nodes(t.Context())
	if err != nil || len(all) != mostWaiting || !slices.ContainsFunc(all, func(n store.Node) bool { return n.Address == "10.0.2.1" }) {
		t.Errorf("%d machines wait, %v", len(all), err)
	}
}

// TestHostileNeighbour makes ten thousand keys and has the addresses of a whole
// network. What it costs is bounded, and the machine that somebody waits for
// gets in.
func TestHostileNeighbour(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	key := func(i int) string { return fmt.Sprintf("%064x", i) }
	refused := 0
	for i := range 2_000 {
		remote := fmt.Sprintf("10.0.0.%d", 2+i%20) // four places for each of twenty are more than there are
		_, err := h.d.noteJoiner(ctx, "n"+key(i)[56:], key(i), remote, api.NodeFacts{Name: "m"})
		if api.CodeOf(err) == api.CodeTooMany {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.d.noteJoiner(ctx, "nreal", key(1<<20), "10.0.0.200", api.NodeFacts{Name: "shelf-1"}); err != nil {
		t.Errorf("the real one is told %v", err)
	}
	var list []api.Node
	h.admin.must("GET", "/nodes", nil, &list, 200)
	var audit []api.AuditEntry
	h.admin.must("GET", "/audit?action=node.join&limit=1000", nil, &audit, 200)
	h.d.nodes.mu.Lock()
	noted := len(h.d.nodes.joins)
	h.d.nodes.mu.Unlock()
	if len(list) > mostWaiting || noted > mostWaiting || len(audit) > 20*6*mostWaitingFrom || refused < 1500 {
		t.Errorf("%d machines wait, %d are noted, %d entries in the audit log, %d refused", len(list), noted, len(audit), refused)
	}
	// It goes on asking: nobody takes the place of the real one, who was there before.
	for i := range 200 {
		_, _ = h.d.noteJoiner(ctx, "n"+key(20_000 + i)[56:], key(20_000+i), fmt.Sprintf("10.0.1.%d", i), api.NodeFacts{Name: "m"})
	}
	var n api.Node
	h.admin.must("GET", "/nodes/nreal", nil, &n, 200)
	h.admin.must("POST", "/nodes/nreal/approve", api.ApproveNode{}, &n, 200)
	if n.State != api.NodeReady {
		t.Errorf("approved: %+v", n)
	}
}

// TestSwarm has more neighbours than there are places, all of whom ask again
// and again, and makes honest machines come late. Each is shown in its turn, for
// long enough to be approved, and what the swarm costs is bounded.
func TestSwarm(t *testing.T) {
	const swarm, honest, minutes = 90, 3, 16
	for _, c := range []struct {
		name string
		card func(i int) string
		late time.Duration
	}{
		{"of-one-card", func(int) string { return "52:54:00:00:00:01" }, time.Minute},
		{"of-as-many-cards", func(i int) string { return fmt.Sprintf("52:54:00:00:01:%02x", i) }, 2 * shownLeast},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			began := time.Now()
			now := began
			h.d.c.Now = func() time.Time { return now }
			h.d.newcomers = newNewcomerLimiter(h.d.c.Now)
			cards := map[string]string{}
			h.d.neighbours = func() map[string]string { return cards }
			for i := range swarm {
				cards[fmt.Sprintf("10.0.0.%d", i)] = c.card(i)
			}
			ask := func(id, remote string) {
				_, err := h.d.noteJoiner(t.Context(), id, fmt.Sprintf("%064s", id), remote, api.NodeFacts{Name: id})
				if err != nil && api.CodeOf(err) != api.CodeTooMany {
					t.Fatal(err)
				}
			}
			first, shown := map[string]time.Duration{}, map[string]int{}
			for minute := range minutes {
				for turn := range 3 { // each asks every 20 s
					for i := range swarm {
						ask(fmt.Sprintf("s%d", i), fmt.Sprintf("10.0.0.%d", i))
					}
					if minute >= 5 { // the room is full by now
						for i := range honest {
							ask(fmt.Sprintf("h%d", i), fmt.Sprintf("10.0.1.%d", i))
						}
					}
					now = began.Add(time.Duration(3*minute+turn+1) * 20 * time.Second)
					all, err := h.d.store.Nodes(t.Context())
					if err != nil || len(all) > mostWaiting {
						t.Fatalf("%d machines wait, %v", len(all), err)
					}
					for _, n := range all {
						if shown[n.ID]++; first[n.ID] == 0 {
							first[n.ID] = now.Sub(began)
						}
					}
				}
			}
			for i := range honest {
				id := fmt.Sprintf("h%d", i)
				if late := first[id] - 5*time.Minute; first[id] == 0 || late > c.late || shown[id] < int(shownLeast/(20*time.Second)) {
					t.Errorf("%s is shown after %v, for %d looks", id, late, shown[id])
				}
			}
			h.d.nodes.mu.Lock()
			queued := len(h.d.nodes.queue)
			h.d.nodes.mu.Unlock()
			var audit []api.AuditEntry
			h.admin.must("GET", "/audit?action=node.join&limit=1000", nil, &audit, 200)
			if len(audit) > mostWaiting+swarm+minutes*honest || queued > swarm+honest {
				t.Errorf("%d entries in the audit log, %d addresses remembered", len(audit), queued)
			}
			t.Logf("shown first %v, for %v looks; %d entries in the audit log", first["h0"], shown["h0"], len(audit))
		})
	}
}

// TestQueue: who comes first is first, who stops has no place any more, and what
// is remembered is bounded.
func TestQueue(t *testing.T) {
	q, now := queue{}, time.Now()
	for i, address := range []string{"a", "b", "c", "b"} {
		if before := q.join(address, now.Add(time.Duration(i)*time.Second)); before != min(i, 2) && address != "b" || address == "b" && before != 1 {
			t.Errorf("%d are before %s", before, address)
		}
	}
	if before := q.join("c", now.Add(queueLife+2*time.Second)); before != 1 { // a has stopped asking
		t.Errorf("%d are before c", before)
	}
	if later := now.Add(queueLife + 3*time.Second); !q.leave("c", later) || q.join("c", later) != 1 || q.leave("c", later) {
		t.Error("c is at the end, and its second time is no news")
	}
	for i := range mostQueueing - len(q) {
		q[fmt.Sprint(i)] = queueing{since: now, last: now}
	}
	if before := q.join("late", now); before != mostQueueing || len(q) != mostQueueing {
		t.Errorf("%d are before one more, %d addresses are remembered", before, len(q))
	}
}

// TestCardWrittenAnew is a machine that comes back with another key.
func TestCardWrittenAnew(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	old, again := newMachine(h, "raspberrypi"), newMachine(h, "raspberrypi")
	old.joined("shelf-1")
	again.ask()
	shown := func() (n api.Node) {
		t.Helper()
		h.admin.must("GET", "/nodes/"+again.id, nil, &n, 200)
		return n
	}
	if n := shown(); n.Replaces != "" || len(n.Warnings) != 1 {
		t.Errorf("while the old one is heard: %+v", n)
	}
	h.admin.refused("POST", "/nodes/"+again.id+"/approve", api.ApproveNode{Replace: old.id}, api.CodeConflict)
	var before api.Node
	h.admin.must("GET", "/nodes/shelf-1", nil, &before, 200)
	if err := h.d.loseNode(t.Context(), old.id, "for a test"); err != nil {
		t.Fatal(err)
	}
	if n := shown(); n.Replaces != old.id || len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], "shelf-1") {
		t.Errorf("when the old one is lost: %+v", n)
	}
	other := newMachine(h, "other")
	other.facts.Model = "Raspberry Pi 5"
	other.ask()
	h.admin.refused("POST", "/nodes/"+other.id+"/approve", api.ApproveNode{Replace: old.id}, api.CodeConflict)
	var n api.Node
	h.admin.must("POST", "/nodes/"+again.id+"/approve", api.ApproveNode{Replace: old.id}, &n, 200)
	if n.Name != "shelf-1" || n.Subnet != before.Subnet || n.State != api.NodeReady || n.Replaces != "" {
		t.Errorf("approved: %+v", n)
	}
	h.admin.must("GET", "/nodes/shelf-1", nil, &n, 200)
	if n.ID != again.id {
		t.Errorf("shelf-1 is %s", n.ID)
	}
	if _, err := old.beat(); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("the old key is told %v", err)
	}
	if again.ask(); again.creds == nil {
		t.Fatal("no certificate after it was approved")
	}
	if _, err := again.beat(); err != nil {
		t.Error(err)
	}
}

// TestSeenWhileItWaits goes on with each wish, though nothing is written.
func TestSeenWhileItWaits(t *testing.T) {
	h := newHouse(t)
	m := newMachine(h, "shelf-1")
	m.ask()
	var first, second api.Node
	h.admin.must("GET", "/nodes/"+m.id, nil, &first, 200)
	m.ask()
	h.admin.must("GET", "/nodes/"+m.id, nil, &second, 200)
	if !second.Seen.After(first.Seen) {
		t.Errorf("seen at %v, then at %v", first.Seen, second.Seen)
	}
}

func TestNextSubnet(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		name, first string
		taken       []netip.Prefix
		want        string
	}{
		{"first", "10.201.0.0/16", nil, "10.201.0.0/16"},
		{"second", "10.201.0.0/16", []netip.Prefix{p("10.201.0.0/16")}, "10.202.0.0/16"},
		{"gap", "10.201.0.0/16", []netip.Prefix{p("10.201.0.0/16"), p("10.203.0.0/16")}, "10.202.0.0/16"},
		{"neighbours-network", "10.201.0.0/16", []netip.Prefix{p("10.201.7.0/24"), p("10.200.0.0/14")}, "10.204.0.0/16"},
		{"everything-is-ignored", "10.201.0.0/16", []netip.Prefix{p("0.0.0.0/0")}, "10.201.0.0/16"},
		{"none-left", "10.255.0.0/16", []netip.Prefix{p("10.255.0.0/16")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := nextSubnet(p(c.first), c.taken)
			if (c.want == "") != (err != nil) || err == nil && got.String() != c.want {
				t.Errorf("got %v, %v, want %s", got, err, c.want)
			}
		})
	}
}

func TestSlotsAreKept(t *testing.T) {
	h := newHouse(t)
	m := machines{h.d}
	one, err := m.Slot(t.Context(), "a1")
	two, err2 := m.Slot(t.Context(), "a2")
	again, err3 := m.Slot(t.Context(), "a1")
	if err != nil || err2 != nil || err3 != nil || one != 1 || two != 2 || again != one {
		t.Fatalf("got %d %d %d, %v %v %v", one, two, again, err, err2, err3)
	}
	for i := 3; i <= mostSlots+10; i++ { // of applications that there are not
		if _, err := m.Slot(t.Context(), groupOf(int64(i))); err != nil {
			t.Fatal(i, err)
		}
	}
}

func TestLostNodeAndItsReturn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	m := newMachine(h, "shelf-1")
	m.joined("shelf-1")
	i := h.admin.service("/applications/1/services/1").Instances[0]
	on := func(state api.InstanceState) {
		t.Helper()
		err := h.d.store.Write(t.Context(), func(tx *store.Tx) error {
			row, err := tx.Instance(t.Context(), i.ID)
			if err != nil {
				return err
			}
			row.Machine, row.State = m.id, state
			return tx.SaveInstance(t.Context(), row)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	on(api.InstanceReady)
	if got := h.admin.service("/applications/1/services/1").Instances[0]; got.Node != "shelf-1" {
		t.Errorf("the instance is said to be on %q", got.Node)
	}
	var n api.Node
	h.admin.must("GET", "/nodes/shelf-1", nil, &n, 200)
	if n.Instances != 1 {
		t.Errorf("it has %d instances", n.Instances)
	}
	h.admin.refused("DELETE", "/nodes/shelf-1", nil, api.CodeConflict)
	h.admin.refused("POST", "/nodes/shelf-1/drain", nil, api.CodeConflict) // nowhere to go

	if err := h.d.loseNode(t.Context(), m.id, "for a test"); err != nil {
		t.Fatal(err)
	}
	h.admin.must("GET", "/nodes/shelf-1", nil, &n, 200)
	list, err := machines{h.d}.Machines(t.Context())
	if n.State != api.NodeLost || err != nil || list[0].Up {
		t.Errorf("lost: %+v, %+v, %v", n, list, err)
	}
	row, err := h.d.store.Instance(t.Context(), i.ID)
	if err != nil || row.State != api.InstanceLost || !strings.Contains(row.Reason, "shelf-1") {
		t.Errorf("its instance: %+v, %v", row, err)
	}
	if there, gone, err := h.d.away(t.Context(), []store.Instance{row}); err != nil || len(there) != 0 || len(gone) != 1 {
		t.Errorf("out of reach: %v %v %v", there, gone, err)
	}
	if leaves, err := h.d.mustLeave(t.Context(), row); !leaves || err != nil {
		t.Errorf("it could be brought back there: %v", err)
	}
	if _, err := m.beat(); err != nil {
		t.Fatal(err)
	}
	n = api.Node{}
	h.admin.must("GET", "/nodes/shelf-1", nil, &n, 200)
	if n.State != api.NodeReady || n.Reason != "" {
		t.Errorf("back: %+v", n)
	}
	h.admin.must("POST", "/nodes/shelf-1/cordon", nil, &n, 200)
	if list, _ = (machines{h.d}).Machines(t.Context()); n.State != api.NodeCordoned || !list[0].Cordoned || !list[0].Up {
		t.Errorf("cordoned: %+v %+v", n, list)
	}
	h.admin.must("POST", "/nodes/shelf-1/uncordon", nil, &n, 200)
	h.admin.must("DELETE", "/nodes/shelf-1?force=true", nil, nil, 204)
	if row, err = h.d.store.Instance(t.Context(), i.ID); err == nil && row.State == api.InstanceReady {
		t.Errorf("an instance of a removed node: %+v", row)
	}
	var audit []api.AuditEntry
	h.admin.must("GET", "/audit?action=node", nil, &audit, 200)
	seen := map[string]int{}
	for _, a := range audit {
		seen[a.Action]++
	}
	if seen["node.join"] != 1 || seen["node.approve"] != 1 || seen["node.remove"] < 1 || seen["node.heartbeat"] != 0 {
		t.Errorf("audit: %v", seen)
	}
	events, err := h.d.store.EventsFor(t.Context(), 1, true, false, 0, 10_000)
	told := 0
	for _, e := range events {
		if e.Type == "node" || e.Type == "node.deleted" {
			told++
		}
	}
	if err != nil || told < 5 {
		t.Errorf("%d events of nodes, %v", told, err)
	}
	if events, _ = h.d.store.EventsFor(t.Context(), 2, false, false, 0, 10_000); len(events) != 0 {
		t.Errorf("somebody else was told: %v", events)
	}
}

func TestDrainMovesInstances(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.admin.running("shop")
	one, two := newMachine(h, "one"), newMachine(h, "two")
	one.joined("one")
	two.joined("two")
	ctx := t.Context()
	var manager string
	err := h.d.store.Write(ctx, func(tx *store.Tx) error {
		rows, err := tx.ApplicationInstances(ctx, 1)
		for _, r := range rows {
			if r.Service == 0 {
				manager = r.ID
			}
			r.Machine = one.id
			if err := tx.SaveInstance(ctx, r); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	o := h.admin.done("POST", "/nodes/one/drain", nil)
	if o.Application != 0 || o.Kind != nodeDrain || len(o.Steps) < 2 {
		t.Errorf("the operation: %+v", o)
	}
	var n api.Node
	h.admin.must("GET", "/nodes/one", nil, &n, 200)
	if n.Instances != 0 || n.State != api.NodeCordoned {
		t.Errorf("drained: %+v", n)
	}
	var a api.Application
	h.admin.must("GET", "/applications/1", nil, &a, 200)
	if a.Manager == nil || a.Manager.ID == manager || a.State != api.Running || len(a.Services[0].Instances) != 1 {
		t.Errorf("the application: %+v", a)
	}
	var parts []api.Operation
	h.admin.must("GET", "/operations?parent="+o.ID, nil, &parts, 200)
	if len(parts) != 2 {
		t.Errorf("%d parts: %+v", len(parts), parts)
	}
	h.admin.must("DELETE", "/nodes/one", nil, nil, 204)
}

func TestDirectorIsFound(t *testing.T) {
	h := newHouse(t)
	question := []byte(`{"nutshell":"node","nonce":"abc","pad":"` + strings.Repeat(".", 400) + `"}`)
	answer := h.d.findAnswer(question, netip.MustParseAddr("127.0.0.1"))
	var a api.DirectorAnswer
	if err := json.Unmarshal(answer, &a); err != nil || a.Nonce != "abc" || a.CASHA256 != h.d.CASHA256() || len(answer) > len(question) {
		t.Fatalf("got %s, %v", answer, err)
	}
	if _, port, _ := net.SplitHostPort(strings.TrimPrefix(h.url, "https://")); port == "" || a.Port == 0 {
		t.Errorf("port %d of %s", a.Port, h.url)
	}
	for name, c := range map[string]struct {
		question []byte
		from     string
	}{"elsewhere": {question, "192.0.2.1"}, "noise": {[]byte("hello"), "127.0.0.1"}, "too-short": {[]byte(`{"nutshell":"node","nonce":"a"}`), "127.0.0.1"},
		"director": {[]byte(strings.Replace(string(question), "node", "director", 1)), "127.0.0.1"}} {
		if got := h.d.findAnswer(c.question, netip.MustParseAddr(c.from)); got != nil {
			t.Errorf("%s: answered %s", name, got)
		}
	}
}

func TestMachineOfAnInstance(t *testing.T) {
	h := newHouse(t)
	err := h.d.store.Write(t.Context(), func(tx *store.Tx) error {
		if id, name, err := machineOf(t.Context(), tx, cloud.Instance{}); id != "" || name != "" || err != nil {
			t.Errorf("of no cluster: %q %q %v", id, name, err)
		}
		id, name, err := machineOf(t.Context(), tx, cloud.Instance{Machine: "ngone"})
		if id != "ngone" || name != "ngone" {
			t.Errorf("of a node that is gone: %q %q", id, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
