package nodes_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/cloud/nodes"
)

func has(t *testing.T, sim *cloudtest.Sim, name string) bool {
	t.Helper()
	list, err := sim.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, there := where(list)[name]
	return there
}

// holderOf is the machine of the first instance.
func oneOn(t *testing.T, s *shelf, d cloud.Driver, name, machine string) {
	t.Helper()
	for _, id := range []string{"a", "b", "c"} {
		s.set(id, func(m *cloud.Machine) { m.Cordoned = id != machine })
	}
	if at := launch(t, d, specs(name)...); at[name] != machine {
		t.Fatalf("%s is on %s, want %s", name, at[name], machine)
	}
	for _, id := range []string{"a", "b", "c"} {
		s.set(id, func(m *cloud.Machine) { m.Cordoned = false })
	}
}

func TestAwayIsNotGone(t *testing.T) {
	s, far, d, dir := sims(t)
	oneOn(t, s, d, "web-1", "a")
	oneOn(t, s, d, "web-2", "b")
	s.setAway("a", true)
	want := map[string]string{"web-1": "a", "web-2": "b"}
	if diff := cmp.Diff(want, listed(t, d)); diff != "" {
		t.Errorf("with a away (-want +got):\n%s", diff)
	}
	// Nor for the director that comes next.
	d = s.open(t, dir)
	if diff := cmp.Diff(want, listed(t, d)); diff != "" {
		t.Errorf("with a away and a new director (-want +got):\n%s", diff)
	}
	if _, err := d.Launch(t.Context(), specs("web-1")); !errors.Is(err, cloud.ErrUnavailable) {
		t.Errorf("Launch of what is on a = %v, want unavailable", err)
	}
	if err := d.Terminate(t.Context(), []string{"web-1"}); !errors.Is(err, cloud.ErrUnavailable) {
		t.Errorf("Terminate of what is on a = %v, want unavailable", err)
	}
	s.setAway("a", false)
	if at := launch(t, d, specs("web-1")...); at["web-1"] != "a" || has(t, far["b"], "web-1") || has(t, far["c"], "web-1") {
		t.Errorf("when a is back, web-1 is on %v", at)
	}
}

func TestNewInstancesAvoidAMachineThatIsAway(t *testing.T) {
	s, far, d, _ := sims(t)
	s.setAway("a", true)
	s.set("a", func(m *cloud.Machine) { m.Free *= 2 })
	at := launch(t, d, specs("web-1", "web-2", "web-3")...)
	for name, m := range at {
		if m == "a" {
			t.Errorf("%s is on a, which is away", name)
		}
	}
	// What was asked of a may have arrived there after all.
	if _, err := far["a"].Launch(t.Context(), specs("web-1")); err != nil {
		t.Fatal(err)
	}
	s.setAway("a", false)
	if diff := cmp.Diff(at, listed(t, d)); diff != "" {
		t.Errorf("when a is back (-want +got):\n%s", diff)
	}
	eventually(t, "the second web-1 has ended", func() bool { return !has(t, far["a"], "web-1") })
}

func TestLostMachine(t *testing.T) {
	s, far, d, dir := sims(t)
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		oneOn(t, s, d, name, "a")
	}
	oneOn(t, s, d, "web-4", "b")
	s.setAway("a", true)
	s.set("a", func(m *cloud.Machine) { m.Up = false })
	if diff := cmp.Diff(map[string]string{"web-4": "b"}, listed(t, d)); diff != "" {
		t.Errorf("with a lost (-want +got):\n%s", diff)
	}
	if at := launch(t, d, specs("web-1")...); at["web-1"] == "a" {
		t.Error("web-1 is launched on the lost machine")
	}
	if err := d.Terminate(t.Context(), []string{"web-2"}); err != nil {
		t.Errorf("Terminate on a lost machine: %v", err)
	}
	if err := d.(cloud.Stopper).Stop(t.Context(), []string{"web-3"}); err != nil {
		t.Errorf("Stop on a lost machine: %v", err)
	}
	d = s.open(t, dir)
	s.setAway("a", false)
	s.set("a", func(m *cloud.Machine) { m.Up = true })
	for range 2 {
		if got := listed(t, d); got["web-1"] == "a" || got["web-2"] != "" || got["web-3"] != "" || len(got) != 2 {
			t.Errorf("when a is back: %v", got)
		}
	}
	eventually(t, "a has ended what was replaced, ended or stopped", func() bool {
		return !has(t, far["a"], "web-1") && !has(t, far["a"], "web-2") && !has(t, far["a"], "web-3")
	})
	if at := launch(t, d, specs("web-3")...); at["web-3"] == "" || len(listed(t, d)) != 3 {
		t.Errorf("web-3, launched again: %v", at)
	}
}

// TestDirectorDiesWhileItLaunches: the next one asks the same machine.
func TestDirectorDiesWhileItLaunches(t *testing.T) {
	s, far, d, dir := sims(t)
	for _, f := range far {
		f.Set(func(f *cloudtest.Sim) { f.Latency = time.Hour })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := d.Launch(ctx, specs("web-1", "web-2")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Launch = %v, want deadline exceeded", err)
	}
	for _, f := range far {
		f.Set(func(f *cloudtest.Sim) { f.Latency = 0 })
	}
	list, err := far["b"].Launch(t.Context(), specs("web-2")) // it came up after all
	if err != nil {
		t.Fatal(err)
	}
	d = s.open(t, dir)
	at := launch(t, d, specs("web-1", "web-2")...)
	got, err := far[at["web-2"]].List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at["web-2"] == "b" && got[0].Address != list[0].Address {
		t.Errorf("web-2 was launched a second time: %v", got)
	}
	eventually(t, "each instance is on one machine", func() bool {
		listed(t, d)
		n := 0
		for _, f := range far {
			l, _ := f.List(t.Context())
			n += len(l)
		}
		return n == 2
	})
}

func TestRemovedMachine(t *testing.T) {
	s, _, d, _ := sims(t)
	oneOn(t, s, d, "web-1", "a")
	if _, err := d.(cloud.Volumes).CreateVolume(t.Context(), cloud.VolumeSpec{Name: "vol-1", Group: "shop", Bytes: 32 * mib}); err != nil {
		t.Fatal(err)
	}
	s.remove("a")
	if got := listed(t, d); len(got) > 0 {
		t.Errorf("instances of a removed machine are listed: %v", got)
	}
	if at := launch(t, d, specs("web-1")...); at["web-1"] == "a" || at["web-1"] == "" {
		t.Errorf("web-1 is launched on %v", at)
	}
	for _, id := range []string{"b", "c"} {
		s.remove(id)
	}
	err := d.Check(t.Context())
	if !errors.Is(err, cloud.ErrUnavailable) || !strings.Contains(err.Error(), "nutshell node list") {
		t.Errorf("Check without machines = %v", err)
	}
	if list, err := d.(cloud.Volumes).ListVolumes(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("ListVolumes without machines = %v, %v", list, err)
	}
}

// TestLostWhileItLaunches: nobody waits for the launch of a machine that is
// called lost meanwhile.
func TestLostWhileItLaunches(t *testing.T) {
	t.Parallel()
	s := newShelf()
	d := s.open(t, t.TempDir())
	asked := make(chan struct{}, 1)
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(hangs.Close)
	s.machines["a"], s.url["a"] = &cloud.Machine{ID: "a", Name: "a", Up: true, CPUs: 4, Memory: 4096 * mib, Free: 4000 * mib}, hangs.URL
	s.add(t, "b", &cloudtest.Sim{Address: func(n int) string { return fmt.Sprintf("10.1.1.%d", n) }})
	go func() {
		<-asked
		s.set("a", func(m *cloud.Machine) { m.Up = false })
	}()
	if at := launch(t, d, specs("web-1")...); at["web-1"] != "b" {
		t.Errorf("web-1 is launched on %v", at)
	}
}

// TestBusyMachineCanBeUsed: one that is up but slow to answer is not refused
// beforehand; one that says no, or that the network has lost, is.
func TestBusyMachineCanBeUsed(t *testing.T) {
	t.Parallel()
	s := newShelf()
	d := s.open(t, t.TempDir())
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(slow.Close)
	s.machines["a"], s.url["a"] = &cloud.Machine{ID: "a", Name: "a", Up: true}, slow.URL
	if err := d.Check(t.Context()); err != nil {
		t.Errorf("Check with a busy machine = %v", err)
	}
	s.setAway("a", true)
	if err := d.Check(t.Context()); !errors.Is(err, cloud.ErrUnavailable) || !strings.Contains(err.Error(), "no route to host") {
		t.Errorf("Check without a way to it = %v", err)
	}
}

func TestVolumesOfMachines(t *testing.T) {
	s, far, d, _ := sims(t)
	v, ctx := d.(cloud.Volumes), t.Context()
	for _, name := range []string{"vol-1", "vol-2"} {
		if _, err := v.CreateVolume(ctx, cloud.VolumeSpec{Name: name, Group: "shop", Bytes: 32 * mib, Tags: map[string]string{"part": "db"}}); err != nil {
			t.Fatal(err)
		}
	}
	with := func(name, volume string) cloud.Spec {
		spec := specs(name)[0]
		spec.Volumes = []cloud.Mount{{Volume: volume, Name: "data"}}
		return spec
	}
	only := func(machine string) {
		for _, id := range []string{"a", "b", "c"} {
			s.set(id, func(m *cloud.Machine) { m.Cordoned = id != machine })
		}
	}
	only("c")
	if at := launch(t, d, with("db-1", "vol-1")); at["db-1"] != "c" {
		t.Fatalf("db-1 is on %v", at)
	}
	list, err := far["c"].ListVolumes(ctx)
	if err != nil || len(list) != 1 || list[0].Instance != "db-1" || list[0].Bytes != 32*mib || list[0].Tags["part"] != "db" {
		t.Errorf("a volume that nobody had is not where it is wanted: %v, %v", list, err)
	}
	only("b")
	if at := launch(t, d, specs("web-1")...); at["web-1"] != "b" {
		t.Fatalf("web-1 is on %v", at)
	}
	if err := v.Attach(ctx, "vol-2", "web-1", "more"); err != nil {
		t.Errorf("Attach of a fresh volume to an instance elsewhere: %v", err)
	}
	eventually(t, "each volume is on one machine", func() bool {
		list, err := v.ListVolumes(ctx)
		n := 0
		for _, f := range far {
			l, _ := f.ListVolumes(ctx)
			n += len(l)
		}
		return err == nil && len(list) == 2 && n == 2
	})
	if err := d.Terminate(ctx, []string{"db-1"}); err != nil {
		t.Fatal(err)
	}
	if err := v.Attach(ctx, "vol-1", "web-1", "data"); !errors.Is(err, cloud.ErrInvalid) || !strings.Contains(err.Error(), "data does not move between machines") {
		t.Errorf("Attach of data on another machine = %v", err)
	}
	only("a")
	if _, err := d.Launch(ctx, []cloud.Spec{with("db-2", "vol-1")}); !errors.Is(err, cloud.ErrUnavailable) || !strings.Contains(err.Error(), "shelf c, which is cordoned") {
		t.Errorf("Launch with data on a cordoned machine = %v", err)
	}
	only("c")
	s.set("a", func(m *cloud.Machine) { m.Cordoned = false })
	s.set("c", func(m *cloud.Machine) { m.Free = 60 * mib }) // its data decides, not the memory
	if at := launch(t, d, with("db-2", "vol-1")); at["db-2"] != "c" {
		t.Errorf("db-2 is on %v, and its data on c", at)
	}
	s.set("c", func(m *cloud.Machine) { m.Up = false })
	s.setAway("c", true)
	all, err := v.ListVolumes(ctx)
	if err != nil || len(all) != 2 || all[0].Instance != "db-2" {
		t.Errorf("with c lost: %v, %v; its volume is not gone", all, err)
	}
	_, err = d.Launch(ctx, []cloud.Spec{with("db-2", "vol-1")})
	if !errors.Is(err, cloud.ErrUnavailable) || !strings.Contains(err.Error(), "volume vol-1 is on shelf c, which does not answer") {
		t.Errorf("Launch with data on a lost machine = %v", err)
	}
	if err := v.DeleteVolume(ctx, "vol-1"); !errors.Is(err, cloud.ErrUnavailable) {
		t.Errorf("DeleteVolume on a lost machine = %v", err)
	}
	if err := errors.Join(d.Terminate(ctx, []string{"db-2"}), v.Detach(ctx, "vol-1")); err != nil {
		t.Errorf("giving up what a lost machine has: %v", err)
	}
	if all, err = v.ListVolumes(ctx); err != nil || len(all) != 2 || all[0].Instance != "" {
		t.Errorf("with db-2 given up: %v, %v", all, err)
	}
	s.set("c", func(m *cloud.Machine) { m.Up, m.Free = true, 3000*mib })
	s.setAway("c", false)
	listed(t, d)
	eventually(t, "c has ended db-2", func() bool { return !has(t, far["c"], "db-2") })
	if at := launch(t, d, with("db-3", "vol-1")); at["db-3"] != "c" {
		t.Errorf("db-3 is on %v", at)
	}
}

// TestSlots: machines are told the group's number.
func TestSlots(t *testing.T) {
	s := newShelf()
	n := &noting{}
	s.add(t, "a", n)
	d := s.open(t, t.TempDir())
	blog := specs("blog-1")
	blog[0].Group = "blog"
	launch(t, d, specs("web-1")...)
	launch(t, d, blog...)
	launch(t, d, specs("web-2")...)
	if diff := cmp.Diff(map[string]int{"web-1": 1, "blog-1": 2, "web-2": 1}, n.slots); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
}

// TestMixedMachines: each gets the layers of its architecture.
func TestMixedMachines(t *testing.T) {
	s, native, foreign := newShelf(), &noting{}, &noting{}
	s.add(t, "native", native)
	s.add(t, "foreign", foreign)
	s.set("foreign", func(m *cloud.Machine) { m.Arch = "riscv64" })
	d, err := nodes.New(cloud.Config{Name: "nodes", Installation: "test0001", Dir: t.TempDir(), Binary: "/bin/true", Log: cloudtest.Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	d.(cloud.Clustered).Use(s)
	archs, err := d.(cloud.Mixed).Architectures(t.Context())
	if want := []string{runtime.GOARCH, "riscv64"}; err != nil || !cmp.Equal(archs, want) {
		t.Errorf("Architectures = %v, %v; want %v", archs, err, want)
	}
	ours, theirs := strings.Repeat("a", 64), strings.Repeat("b", 64)
	list := specs("web-1", "web-2", "web-3")
	for n := range list[:2] {
		list[n].Layers, list[n].Foreign = []string{"/layers/" + ours}, map[string][]string{"riscv64": {"/layers/" + theirs}}
	}
	list[2].Layers = []string{"/layers/" + ours}
	at := launch(t, d, list[:2]...)
	if at["web-1"] == at["web-2"] {
		t.Errorf("they are on %v", at)
	}
	if at := launch(t, d, list[2]); at["web-3"] != "native" {
		t.Errorf("what has no layers for the foreign machine is on %v", at)
	}
	if want := []string{"/layers/" + theirs}; !cmp.Equal(foreign.layers, want) {
		t.Errorf("the foreign machine got layers %v, want %v", foreign.layers, want)
	}
	if slices.Contains(native.layers, "/layers/"+theirs) {
		t.Errorf("the native machine got layers %v", native.layers)
	}
}

type noting struct {
	cloudtest.Sim
	slots  map[string]int
	layers []string
}

func (n *noting) UsesLayers() bool { return true }

func (n *noting) Launch(ctx context.Context, specs []cloud.Spec) ([]cloud.Instance, error) {
	for _, s := range specs {
		if n.slots == nil {
			n.slots = map[string]int{}
		}
		n.slots[s.Name] = s.Slot
		n.layers = append(n.layers, s.Layers...)
	}
	return n.Sim.Launch(ctx, specs)
}

// TestMachineThatHangs takes what it is asked and says nothing, as a process
// that was stopped does. The others are listed and launched on meanwhile, and
// what it says at last is not lost.
func TestMachineThatHangs(t *testing.T) {
	s, far, d, _ := sims(t)
	oneOn(t, s, d, "web-1", "a")
	oneOn(t, s, d, "web-2", "b")
	hung := make(chan struct{})
	s.mu.Lock()
	s.hung = hung
	s.mu.Unlock()
	s.set("a", func(m *cloud.Machine) { m.Silent, m.Free = true, 2*m.Free })
	if _, err := far["a"].Launch(t.Context(), specs("web-9")); err != nil { // nobody knows of it
		t.Fatal(err)
	}
	want := map[string]string{"web-1": "a", "web-2": "b"}
	began := time.Now()
	for range 3 {
		if diff := cmp.Diff(want, listed(t, d)); diff != "" {
			t.Errorf("while a hangs (-want +got):\n%s", diff)
		}
		if _, err := d.(cloud.Volumes).ListVolumes(t.Context()); err != nil {
			t.Error(err)
		}
	}
	// The first look waits a second for a, those behind it for nobody: one question of each kind is open.
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("three looks took %v", took)
	}
	s.mu.Lock()
	for what, times := range s.asked {
		if times > 1 {
			t.Errorf("it was asked %d times for %s", times, what)
		}
	}
	s.mu.Unlock()
	for name, on := range launch(t, d, specs("web-3", "web-4", "web-5")...) {
		if on == "a" {
			t.Errorf("%s is launched on a, which hangs", name)
		}
	}
	close(hung)
	want["web-9"] = "a"
	s.set("a", func(m *cloud.Machine) { m.Silent = false })
	eventually(t, "what a says at last counts", func() bool { return listed(t, d)["web-9"] == "a" })
}
