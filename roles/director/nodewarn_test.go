package director

import (
	"math"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

// heard is a heartbeat as it comes at a time, from a process at an address.
func (b beat) heard(boot, address string, at time.Time) (beat, error) {
	b, err := b.claim(boot, address, at)
	if err == nil {
		b.at, b.address = at, address
	}
	return b, err
}

func TestTwoMachinesWithOneKey(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var b beat
	var err error
	step := func(boot, address string, want bool) {
		t.Helper()
		now = now.Add(1500 * time.Millisecond)
		if b, err = b.heard(boot, address, now); (err == nil) != want {
			t.Errorf("%s at %s: %v", boot, address, err)
		}
	}
	step("first", "10.0.0.1", true)
	step("again", "10.0.0.1", true) // it was started again
	step("again", "10.0.0.9", true) // and got another address
	if b.double != "" {
		t.Errorf("a machine that was started again is called two: %+v", b)
	}
	step("copy", "10.0.0.2", true) // might be a start, too
	step("again", "10.0.0.9", true)
	for range 20 {
		step("copy", "10.0.0.2", false)
		step("again", "10.0.0.9", true)
	}
	if b.address != "10.0.0.9" || b.double != "10.0.0.2" || api.CodeOf(err) == api.CodeConflict {
		t.Errorf("the node is at %s, the copy at %s: %v", b.address, b.double, err)
	}
	now = now.Add(nodeSilence + time.Second) // the first is switched off
	step("copy", "10.0.0.2", true)
	step("", "10.0.0.2", true) // one that does not tell is believed
}

func TestNodeWarnings(t *testing.T) {
	h := newHouse(t)
	a, b := newMachine(h, "shelf-a"), newMachine(h, "shelf-b")
	b.facts.Serial = "20000000abcdef12"
	a.joined("shelf-a")
	b.joined("shelf-b")
	shown := func(m *machine) api.Node {
		t.Helper()
		var n api.Node
		h.admin.must("GET", "/nodes/"+m.id, nil, &n, 200)
		return n
	}
	if n := shown(a); len(n.Warnings) != 0 {
		t.Errorf("of a good node: %q", n.Warnings)
	}
	for off, word := range map[time.Duration]string{2 * time.Hour: "ahead of", -2 * time.Hour: "behind", -56 * 365 * 24 * time.Hour: "behind"} {
		a.facts.Clock = h.d.c.Now().Add(off)
		if _, err := a.beat(); err != nil {
			t.Fatal(err)
		}
		if n := shown(a); len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], "its clock is ") || !strings.Contains(n.Warnings[0], word) {
			t.Errorf("with a clock off by %v: %q", off, n.Warnings)
		}
	}
	a.facts.Clock, a.facts.Serial = time.Time{}, "20000000abcdef12"
	if _, err := a.beat(); err != nil {
		t.Fatal(err)
	}
	if n := shown(a); len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], "shelf-b ("+b.id+") tells the same serial number") {
		t.Errorf("with one serial number: %q", n.Warnings)
	}
	a.facts.Serial, a.facts.Disk, a.facts.DiskFree = "10000000abcdef12", 4<<30, 100<<20
	if _, err := a.beat(); err != nil {
		t.Fatal(err)
	}
	if n := shown(a); len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], "100 of 4096 MiB are free") {
		t.Errorf("with a full disk: %q", n.Warnings)
	}
	if list, err := (machines{h.d}).Machines(t.Context()); err != nil || list[0].Full == list[1].Full {
		t.Errorf("machines: %+v, %v", list, err)
	}
	a.facts.DiskFree = 3 << 30
	for _, c := range []struct {
		heat, most float64
		low        bool
		want       string
	}{
		{61.8, 90, false, ""},
		{79.9, 90, false, ""},
		{81.24, 90, false, "81 °C, works more slowly, and switches itself off at 90 °C"},
		{81, 0, false, ""}, // a machine that knows no end
		{math.MaxFloat64, -1, false, ""},
		{61.8, 90, true, "too little voltage"},
	} {
		a.facts.Heat, a.facts.HeatMost, a.facts.PowerLow = c.heat, c.most, c.low
		if _, err := a.beat(); err != nil {
			t.Fatal(err)
		}
		n := shown(a)
		if c.want == "" && len(n.Warnings) != 0 || c.want != "" && (len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], c.want)) {
			t.Errorf("with %+v: %q", c, n.Warnings)
		}
		if c.heat < 200 && math.Abs(n.Heat-c.heat) > 0.05 || c.heat > 200 && n.Heat != 0 || n.PowerLow != c.low {
			t.Errorf("with %+v it is shown with %v, %v", c, n.Heat, n.PowerLow)
		}
	}
	a.facts.Heat, a.facts.HeatMost, a.facts.PowerLow = 0, 0, false
	// A copied card: the same key in two processes.
	a.facts.Serial = "10000000abcdef12"
	for _, boot := range []string{"one", "two", "one"} {
		a.facts.Boot = boot
		if _, err := a.beat(); err != nil {
			t.Fatal(err)
		}
	}
	a.facts.Boot = "two"
	if _, err := a.beat(); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "card was copied") {
		t.Errorf("the copy is told %v", err)
	}
	if n := shown(a); len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], "same key") {
		t.Errorf("with a copied card: %q", n.Warnings)
	}
}

// TestNodeThatTellsTooOften is refused, and others are not.
func TestNodeThatTellsTooOften(t *testing.T) {
	h := newHouse(t)
	a, b := newMachine(h, "shelf-a"), newMachine(h, "shelf-b")
	a.joined("shelf-a")
	b.joined("shelf-b")
	refused := 0
	for n := 0; refused < 10 && n < 1000; n++ { // one more is free each second, however slow this machine is
		if _, err := a.beat(); api.CodeOf(err) == api.CodeTooMany {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("%d of 1000 heartbeats at once refused", refused)
	}
	if _, err := b.beat(); err != nil {
		t.Errorf("the other node is told %v", err)
	}
}
