package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"nutshell/cloud"
)

func (s *suite) launch() {
	began := time.Now()
	i := s.must(s.spec("web-1"))[0]
	if !i.Running || i.Name != "web-1" || i.Group != "shop" || i.ID == "" || i.Address == "" {
		s.t.Errorf("Launch = %+v", i)
	}
	if i.Created.Before(began.Add(-2*time.Second)) || i.Created.After(time.Now().Add(2*time.Second)) {
		s.t.Errorf("Created = %v, now is %v", i.Created, time.Now())
	}
	want := s.spec("web-1").Tags
	maps.Copy(want, s.o.Tags)
	if d := cmp.Diff(want, i.Tags); d != "" {
		s.t.Errorf("tags (-want +got):\n%s", d)
	}
	if got := s.find("web-1"); got == nil || !cmp.Equal(*got, i) {
		s.t.Errorf("List has %+v, Launch gave %+v", got, i)
	}
}

func (s *suite) idempotent() {
	first := s.must(s.spec("web-1"))[0]
	pid := s.ask(first, "/pid")
	again := s.must(s.spec("web-1"), s.spec("web-2"))
	if again[0].Address != first.Address || s.ask(again[0], "/pid") != pid {
		s.t.Errorf("second Launch = %+v, first %+v", again[0], first)
	}
	// The same name at the same moment, as two impatient callers do.
	errs := make(chan error, 2)
	for range 2 {
		go func() { _, err := s.d.Launch(s.t.Context(), []cloud.Spec{s.spec("web-3")}); errs <- err }()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		s.t.Errorf("two launches of one name: %v", err)
	}
	list, err := s.d.List(s.t.Context())
	if err != nil || len(list) != 3 {
		s.t.Errorf("List = %v, %v; want 3 instances", list, err)
	}
}

func (s *suite) parallel() {
	var specs []cloud.Spec
	for n := range 8 {
		specs = append(specs, s.spec(fmt.Sprintf("web-%d", n)))
	}
	list := s.must(specs...)
	seen := map[string]bool{}
	for n, i := range list {
		if seen[i.Address] {
			s.t.Errorf("two instances have address %s", i.Address)
		}
		seen[i.Address] = true
		if i.Name != specs[n].Name {
			s.t.Errorf("instance %d is %s, want %s", n, i.Name, specs[n].Name)
		}
	}
}

func (s *suite) partial() {
	list, err := s.d.Launch(s.t.Context(), []cloud.Spec{s.spec("web-1"), s.spec("../web-2"), s.spec("web-3")})
	var le *cloud.LaunchError
	if !errors.As(err, &le) || le.Name != "../web-2" {
		s.t.Errorf("Launch error = %v, want a LaunchError for ../web-2", err)
	}
	if len(list) != 2 || list[0].Name != "web-1" || list[1].Name != "web-3" {
		s.t.Errorf("Launch = %v, want web-1 and web-3", list)
	}
	_, err = s.d.Launch(s.t.Context(), []cloud.Spec{{Name: "web-1", Group: "other", Layers: s.o.Layers}, {Name: "web-4", Group: "x/../y", Layers: s.o.Layers}})
	if n := len(launchErrors(err)); n > 2 || n < 1 || !errors.Is(err, cloud.ErrInvalid) {
		s.t.Errorf("Launch into a bad group: %v", err)
	}
}

func launchErrors(err error) (list []*cloud.LaunchError) {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		for _, e := range joined.Unwrap() {
			var le *cloud.LaunchError
			if errors.As(e, &le) {
				list = append(list, le)
			}
		}
	}
	return list
}

func (s *suite) context() {
	spec := s.spec("web-1")
	spec.Context = []byte("{\"text\": \"quotes ' \\\" $(x) `y`, breaks\\n and ümlauts\"}\n")
	spec.Limits.MemoryBytes = 256 << 20
	i := s.must(spec)[0]
	if got := s.ask(i, "/context"); got != string(spec.Context) {
		s.t.Errorf("context = %q, want %q", got, spec.Context)
	}
	if _, sim := s.d.(*Sim); sim {
		return // its guests live in the test's own process
	}
	env := "\n" + s.ask(i, "/env") + "\n"
	for _, want := range []string{
		"NUTSHELL_ADDRESS=" + i.Address, "NUTSHELL_INSTANCE=web-1", "NUTSHELL_MEMORY=268435456",
		"PATH=", "HOME=", "LANG=",
	} {
		if !strings.Contains(env, "\n"+want) {
			s.t.Errorf("environment lacks %s:\n%s", want, env)
		}
	}
}

func (s *suite) badNames() {
	for _, name := range []string{
		"", ".", "..", "../x", "a/b", "/etc", "A", "a b", "a\nb", "a;b", "a\x00b", "-a", "a-", "é", "😀",
		strings.Repeat("a", 33), strings.Repeat("a", 10000),
	} {
		list, err := s.d.Launch(s.t.Context(), []cloud.Spec{s.spec(name)})
		if !errors.Is(err, cloud.ErrInvalid) || len(list) > 0 {
			s.t.Errorf("Launch of name %.40q = %v, %v; want invalid", name, list, err)
		}
		if err != nil && len(err.Error()) > 500 && len(name) < 100 {
			s.t.Errorf("long error for name %q: %v", name, err)
		}
		if err := s.d.Terminate(s.t.Context(), []string{name}); err != nil {
			s.t.Errorf("Terminate of name %.40q: %v", name, err)
		}
	}
}

func (s *suite) reopen() {
	before := s.must(s.spec("web-1"), s.spec("web-2"))
	pid := s.ask(before[0], "/pid")
	s.d = s.open(s.t, s.dir)
	list, err := s.d.List(s.t.Context())
	if d := cmp.Diff(before, list); err != nil || d != "" {
		s.t.Fatalf("List of a reopened driver: %v (-before +after)\n%s", err, d)
	}
	again := s.must(s.spec("web-1"), s.spec("web-3"))
	if again[0].Address != before[0].Address || s.ask(again[0], "/pid") != pid {
		s.t.Errorf("the reopened driver started web-1 again")
	}
	if again[1].Address == before[0].Address || again[1].Address == before[1].Address {
		s.t.Errorf("the reopened driver gave address %s twice", again[1].Address)
	}
}

func (s *suite) kill() {
	i := s.must(s.spec("web-1"))[0]
	s.ask(i, "/write", "path", "kept", "text", "before the crash")
	s.crash(i)
	again := s.must(s.spec("web-1"))[0]
	if again.Address != i.Address {
		s.t.Errorf("address was %s, is %s", i.Address, again.Address)
	}
	if got := s.ask(again, "/read", "path", "kept"); got != "before the crash" {
		s.t.Errorf("file after a crash = %q", got)
	}
}

// crash ends an instance and waits until that is seen.
func (s *suite) crash(i cloud.Instance) {
	s.t.Helper()
	s.o.Kill(s.t, i)
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		got := s.find(i.Name)
		if got == nil {
			s.t.Fatal("a killed instance is not listed")
		}
		if !got.Running {
			return
		}
		if time.Now().After(end) {
			s.t.Fatal("a killed instance is listed as running")
		}
	}
}

func (s *suite) stop() {
	st, ok := s.d.(cloud.Stopper)
	if !ok {
		s.t.Skip("the driver cannot stop")
	}
	i := s.must(s.spec("web-1"))[0]
	s.ask(i, "/write", "path", "kept", "text", "data")
	for range 2 { // a second stop is no error
		if err := st.Stop(s.t.Context(), []string{i.ID, "never-was"}); err != nil {
			s.t.Fatalf("Stop: %v", err)
		}
	}
	got := s.find("web-1")
	if got == nil || got.Running || got.Address != i.Address {
		s.t.Fatalf("List after Stop has %+v", got)
	}
	if _, err := Ask(s.t.Context(), i, "/pid", nil); err == nil {
		s.t.Error("a stopped instance answers")
	}
	spec := s.spec("web-1")
	spec.Context = []byte(`{"second":true}`)
	again := s.must(spec)[0]
	if again.Address != i.Address || !again.Running {
		s.t.Errorf("Launch after Stop = %+v, before %+v", again, i)
	}
	if got := s.ask(again, "/read", "path", "kept"); got != "data" {
		s.t.Errorf("file after Stop and Launch = %q", got)
	}
	if _, sim := s.d.(*Sim); !sim {
		if got := s.ask(again, "/read", "path", "stopped"); got != "in order" {
			s.t.Errorf("the instance was not stopped in order: %q", got)
		}
	}
	if got := s.ask(again, "/context"); got != `{"second":true}` {
		s.t.Errorf("context after Stop and Launch = %q", got)
	}
}

// descendants are ended with their instance, also when its leader was killed
// before; what they are is told by Leftovers.
func (s *suite) descendants() {
	if s.o.Leftovers == nil {
		s.t.Skip("the driver runs no processes")
	}
	list := s.must(s.spec("web-1"), s.spec("web-2"))
	for _, i := range list {
		if pids := strings.Fields(s.ask(i, "/spawn", "count", "6")); len(pids) != 6 {
			s.t.Errorf("spawned %v", pids)
		}
	}
	if s.o.Kill != nil {
		s.o.Kill(s.t, list[1])
	}
	if err := s.d.Terminate(s.t.Context(), []string{"web-1", "web-2"}); err != nil {
		s.t.Errorf("Terminate: %v", err)
	}
}

func (s *suite) terminate() {
	i := s.must(s.spec("web-1"), s.spec("web-2"))[0]
	for range 2 {
		if err := s.d.Terminate(s.t.Context(), []string{i.ID, "never-was"}); err != nil {
			s.t.Errorf("Terminate: %v", err)
		}
	}
	if s.find("web-1") != nil || s.find("web-2") == nil {
		s.t.Error("Terminate of web-1 did not leave web-2 alone")
	}
	again := s.must(s.spec("web-1"))[0]
	if _, err := Ask(s.t.Context(), again, "/read", map[string][]string{"path": {"stopped"}}); err == nil {
		s.t.Error("a new instance found files of the terminated one")
	}
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.t.Context())
	cancel()
	list, err := s.d.Launch(ctx, []cloud.Spec{s.spec("web-1")})
	if err == nil && len(list) != 1 {
		s.t.Errorf("Launch with an ended context = %v, %v", list, err)
	}
	s.must(s.spec("web-1")) // whatever happened, the name is not spoiled
}

func (s *suite) bootLog() {
	c, ok := s.d.(cloud.Console)
	if !ok {
		s.t.Skip("the driver keeps no boot log")
	}
	i := s.must(s.spec("web-1"))[0]
	said := ""
	for end := time.Now().Add(time.Minute); !strings.Contains(said, "guest started"); time.Sleep(5 * time.Millisecond) {
		r, err := c.BootLog(s.t.Context(), i.ID)
		if err != nil {
			s.t.Fatalf("BootLog: %v", err)
		}
		b, err := io.ReadAll(r)
		_ = r.Close()
		if said = string(b); err != nil || time.Now().After(end) {
			s.t.Fatalf("BootLog = %q, %v", said, err)
		}
	}
	if _, err := c.BootLog(s.t.Context(), "../web-1"); err == nil {
		s.t.Error("BootLog left the driver's directory")
	}
}

func (s *suite) isolation() {
	other := s.spec("other-1")
	other.Group = "blog"
	list := s.must(s.spec("web-1"), s.spec("web-2"), other)
	reach := func(from, to cloud.Instance) bool {
		return s.ask(from, "/fetch", "address", to.Address+":"+Port) == "reached"
	}
	if !reach(list[0], list[1]) || !reach(list[1], list[0]) {
		s.t.Error("instances of one group do not reach each other")
	}
	for _, pair := range [][2]int{{0, 2}, {2, 0}, {1, 2}} {
		if reach(list[pair[0]], list[pair[1]]) {
			s.t.Errorf("%s reaches %s of another group", list[pair[0]].Name, list[pair[1]].Name)
		}
	}
}

func (s *suite) limits() {
	spec := s.spec("web-1")
	spec.Limits = cloud.Limits{MemoryBytes: 64 << 20, CPUPercent: 20, Processes: 40}
	free := s.spec("web-2")
	list := s.must(spec, free)
	if got := s.ask(list[0], "/eat", "mb", "10"); got != "<nil>" {
		s.t.Errorf("eating 10 of 64 MB: %s", got)
	}
	if got := s.ask(list[0], "/eat", "mb", "300"); got == "<nil>" {
		s.t.Error("300 MB fit into 64 MB")
	}
	s.wait(list[0]) // it is the eater that died, not the instance
	if got := s.ask(list[1], "/eat", "mb", "300"); got != "<nil>" {
		s.t.Errorf("eating 300 MB without a limit: %s", got)
	}
	used, err := time.ParseDuration(s.ask(list[0], "/spin", "time", "1s"))
	if err != nil || used > 400*time.Millisecond {
		s.t.Errorf("used %v of a core in 1 s with a limit of 20%%, %v", used, err)
	}
	if _, err := Ask(s.t.Context(), list[0], "/spawn", map[string][]string{"count": {"300"}}); err == nil {
		s.t.Error("300 processes fit into 40")
	}
}
