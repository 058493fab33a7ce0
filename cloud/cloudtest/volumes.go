package cloudtest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"nutshell/cloud"
)

func (s *suite) volumeOutlives() {
	s.volume("vol-1", "vol-2")
	i := s.must(s.with("web-1", "vol-1", "data", "vol-2", "More_2"))[0]
	s.list(i, "More_2 data")
	s.ask(i, "/write", "path", "@data/kept", "text", "of web-1")
	s.has("vol-1", "web-1")
	again := s.must(s.with("web-1", "vol-1", "data", "vol-2", "More_2"))[0]
	s.list(again, "More_2 data")
	s.ok("Terminate", s.d.Terminate(s.t.Context(), []string{i.ID}))
	s.has("vol-1", "")
	other := s.must(s.with("web-2", "vol-1", "elsewhere"))[0]
	s.list(other, "elsewhere")
	s.reads(other, "@elsewhere/kept", "of web-1")
	s.has("vol-1", "web-2")
	s.has("vol-2", "")
	if _, sim := s.d.(*Sim); sim {
		return // whoever runs the tests owns its files
	}
	want := strings.Fields(s.ask(other, "/owner", "path", "/proc/self"))
	if got := strings.Fields(s.ask(other, "/owner", "path", "@elsewhere/kept")); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("the file belongs to %v, the program of the next instance runs as %v", got, want)
	}
}

func (s *suite) volumeComesAndGoes() {
	d := s.volume("vol-1", "vol-2")
	i := s.must(s.with("web-1", "vol-2", "first"))[0]
	pid := s.ask(i, "/pid")
	for round := range 3 {
		for range 2 { // a second order is no error
			s.ok("Attach", d.Attach(s.t.Context(), "vol-1", i.ID, "data"))
		}
		s.list(i, "data first")
		if round > 0 {
			s.reads(i, "@data/round", fmt.Sprint(round-1))
		}
		s.ask(i, "/write", "path", "@data/round", "text", fmt.Sprint(round))
		for range 2 {
			s.ok("Detach", d.Detach(s.t.Context(), "vol-1"))
		}
		s.list(i, "first")
		s.has("vol-1", "")
	}
	s.ok("Detach of the volume it was launched with", d.Detach(s.t.Context(), "vol-2"))
	s.list(i, "")
	if s.ask(i, "/pid") != pid {
		s.t.Error("the instance was started again")
	}
	if got := s.must(s.spec("web-2"))[0]; got.Running {
		s.ok("Attach elsewhere", d.Attach(s.t.Context(), "vol-1", got.ID, "here"))
		s.reads(got, "@here/round", "2")
	}
}

func (s *suite) volumeStopped() {
	d := s.volume("vol-1", "vol-2", "vol-3")
	st, ok := s.d.(cloud.Stopper)
	if !ok {
		s.t.Skip("the driver cannot stop")
	}
	i := s.must(s.with("web-1", "vol-1", "one", "vol-2", "two"))[0]
	s.ask(i, "/write", "path", "@two/kept", "text", "data")
	s.ok("Stop", st.Stop(s.t.Context(), []string{i.ID}))
	s.has("vol-1", "web-1") // stopped is not gone
	s.ok("Detach", d.Detach(s.t.Context(), "vol-1"))
	s.ok("Attach", d.Attach(s.t.Context(), "vol-3", i.ID, "three"))
	i = s.must(s.with("web-1", "vol-3", "three", "vol-2", "renamed"))[0]
	s.list(i, "renamed three")
	s.reads(i, "@renamed/kept", "data")
	s.ok("Stop", st.Stop(s.t.Context(), []string{i.ID}))
	i = s.must(s.spec("web-1"))[0]
	s.list(i, "")
	s.has("vol-2", "")
}

func (s *suite) volumeOpenFiles() {
	d := s.volume("vol-1")
	i := s.must(s.with("web-1", "vol-1", "data"))[0]
	if _, sim := s.d.(*Sim); sim {
		s.t.Skip("the simulation's guests are the test itself")
	}
	s.ask(i, "/hold", "path", "@data/open")
	s.is(cloud.ErrInUse, "Detach of a volume with an open file", d.Detach(s.t.Context(), "vol-1"))
	s.has("vol-1", "web-1")
	s.list(i, "data")
	s.ask(i, "/write", "path", "@data/after", "text", "works")
	s.ask(i, "/release", "path", "@data/open")
	s.ok("Detach", d.Detach(s.t.Context(), "vol-1"))
	s.list(i, "")
}

func (s *suite) volumeOneHolder() {
	d := s.volume("vol-1", "vol-2")
	other := s.spec("other-1")
	other.Group = "blog"
	list := s.must(s.with("web-1", "vol-1", "data"), s.spec("web-2"), other)
	ctx := s.t.Context()
	s.is(cloud.ErrInUse, "Attach of a volume that another has", d.Attach(ctx, "vol-1", "web-2", "data"))
	got, err := s.d.Launch(ctx, []cloud.Spec{s.with("web-3", "vol-2", "a", "vol-1", "b")})
	s.is(cloud.ErrInUse, "Launch with a volume that another has", err)
	if len(got) > 0 || s.find("web-3") != nil {
		s.t.Errorf("Launch with a volume that another has gave %v", got)
	}
	s.has("vol-2", "") // it would have been free to have
	s.is(cloud.ErrInvalid, "Attach to another group", d.Attach(ctx, "vol-2", "other-1", "data"))
	s.is(cloud.ErrInvalid, "Attach at a name that is taken", d.Attach(ctx, "vol-2", "web-1", "data"))
	s.is(cloud.ErrInvalid, "Attach to nobody", d.Attach(ctx, "vol-2", "nobody", "data"))
	s.is(cloud.ErrInvalid, "Attach of nothing", d.Attach(ctx, "nothing", "web-1", "other"))
	for _, bad := range []cloud.Spec{s.with("web-4", "nothing", "data"), s.with("web-4", "vol-2", "a", "vol-2", "b"), s.with("web-4", "vol-2", "../up")} {
		_, err := s.d.Launch(ctx, []cloud.Spec{bad})
		s.is(cloud.ErrInvalid, fmt.Sprintf("Launch with %v", bad.Volumes), err)
	}
	// Both ask at once: one gets it.
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for n := range errs {
		wg.Go(func() { errs[n] = d.Attach(ctx, "vol-2", fmt.Sprintf("web-%d", n+1), "race") })
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), cloud.ErrInUse) {
		s.t.Errorf("two attached one volume at once: %v", errs)
	}
	if errs[0] == nil {
		s.list(list[0], "data race")
		s.list(list[1], "")
	} else {
		s.list(list[0], "data")
		s.list(list[1], "race")
	}
}

func (s *suite) volumeCrash() {
	s.volume("vol-1")
	i := s.must(s.with("web-1", "vol-1", "data"))[0]
	s.ask(i, "/fill", "path", "@data/big", "mb", "2")
	s.ask(i, "/write", "path", "@data/kept", "text", "before the crash")
	s.crash(i)
	i = s.must(s.with("web-1", "vol-1", "data"))[0]
	s.reads(i, "@data/kept", "before the crash")
	s.crash(i)
	s.ok("Terminate", s.d.Terminate(s.t.Context(), []string{i.ID}))
	other := s.must(s.with("web-2", "vol-1", "data"))[0]
	s.reads(other, "@data/kept", "before the crash")
}

func (s *suite) volumeReopen() {
	s.volume("vol-1", "vol-2")
	i := s.must(s.with("web-1", "vol-1", "data"))[0]
	s.ask(i, "/write", "path", "@data/kept", "text", "data")
	s.d = s.open(s.t, s.dir)
	d := s.volumes()
	s.has("vol-1", "web-1")
	s.reads(i, "@data/kept", "data")
	s.ok("Attach", d.Attach(s.t.Context(), "vol-2", "web-1", "more"))
	s.list(i, "data more")
	s.ok("Detach", d.Detach(s.t.Context(), "vol-1"))
	s.list(i, "more")
	s.ok("Terminate", s.d.Terminate(s.t.Context(), []string{i.ID}))
	s.has("vol-2", "")
	s.reads(s.must(s.with("web-2", "vol-1", "data"))[0], "@data/kept", "data")
}

func (s *suite) volumeGrows() {
	d := s.volume("vol-1", "vol-2")
	i := s.must(s.with("web-1", "vol-1", "data"))[0]
	s.ask(i, "/hold", "path", "@data/open")
	s.ask(i, "/write", "path", "@data/kept", "text", "data")
	if s.o.Sized {
		if got := s.ask(i, "/fill", "path", "@data/big", "mb", "40"); got != "full" {
			s.t.Errorf("40 MB fit into 32: %q", got)
		}
	}
	if s.o.GrowsAtRest {
		s.is(cloud.ErrInUse, "GrowVolume of one in use", d.GrowVolume(s.t.Context(), "vol-1", 96*mib))
		s.ok("Stop", s.d.(cloud.Stopper).Stop(s.t.Context(), []string{i.ID}))
		i = s.must(s.with("web-1", "vol-1", "data"))[0]
	}
	for range 2 {
		s.ok("GrowVolume", d.GrowVolume(s.t.Context(), "vol-1", 96*mib))
	}
	s.ok("GrowVolume to less", d.GrowVolume(s.t.Context(), "vol-1", 40*mib))
	if v := s.findVolume("vol-1"); v.Bytes != 96*mib {
		s.t.Errorf("grown to 96 MiB, it has %d bytes", v.Bytes)
	}
	if got := s.ask(i, "/fill", "path", "@data/big", "mb", "60"); got != "" {
		s.t.Errorf("60 MB do not fit into 96: %q", got)
	}
	s.reads(i, "@data/kept", "data")
	s.is(cloud.ErrQuota, "GrowVolume beyond the disk", d.GrowVolume(s.t.Context(), "vol-1", cloud.MaxVolume))
	s.is(cloud.ErrInvalid, "GrowVolume of nothing", d.GrowVolume(s.t.Context(), "nothing", 40*mib))
	s.ok("GrowVolume of a free one", d.GrowVolume(s.t.Context(), "vol-2", 64*mib))
	s.ok("Attach", d.Attach(s.t.Context(), "vol-2", "web-1", "two"))
	if got := s.ask(i, "/fill", "path", "@two/big", "mb", "40"); got != "" {
		s.t.Errorf("40 MB do not fit into 64: %q", got)
	}
	if v := s.findVolume("vol-2"); v.Used != 0 && (v.Used < 40*mib || v.Used > 64*mib) {
		s.t.Errorf("with 40 MB in it, %d bytes are used", v.Used)
	}
}

func (s *suite) volumeFull() {
	s.volume("vol-1", "vol-2")
	i := s.must(s.with("web-1", "vol-1", "one", "vol-2", "two"))[0]
	if got := s.ask(i, "/fill", "path", "@one/big", "mb", "100"); got != "full" {
		s.t.Fatalf("100 MB fit into 32: %q", got)
	}
	for _, path := range []string{"@two/file", "file"} {
		s.ask(i, "/write", "path", path, "text", "room")
		s.reads(i, path, "room")
	}
	s.ask(i, "/remove", "path", "@one/big")
	s.ask(i, "/write", "path", "@one/file", "text", "room again")
	s.reads(i, "@one/file", "room again")
}

func (s *suite) volumeNames() {
	d := s.volumes()
	ctx := s.t.Context()
	for _, name := range []string{"", "..", "../x", "a/b", "/etc", "A", "a b", "a\x00b", "-a", strings.Repeat("a", 33)} {
		_, err := d.CreateVolume(ctx, cloud.VolumeSpec{Name: name, Group: "shop", Bytes: 32 * mib})
		s.is(cloud.ErrInvalid, fmt.Sprintf("CreateVolume of name %.40q", name), err)
		s.ok("DeleteVolume of a bad name", d.DeleteVolume(ctx, name))
	}
	for _, bytes := range []int64{0, -1, math.MinInt64, 1, cloud.MinVolume - 1, cloud.MaxVolume + 1, math.MaxInt64} {
		_, err := d.CreateVolume(ctx, cloud.VolumeSpec{Name: "vol", Group: "shop", Bytes: bytes})
		s.is(cloud.ErrInvalid, fmt.Sprintf("CreateVolume of %d bytes", bytes), err)
	}
	_, err := d.CreateVolume(ctx, cloud.VolumeSpec{Name: "vol", Group: "shop", Bytes: cloud.MaxVolume})
	s.is(cloud.ErrQuota, "CreateVolume beyond the disk", err)
	if list, err := d.ListVolumes(ctx); err != nil || len(list) > 0 {
		s.t.Errorf("ListVolumes = %v, %v; want none", list, err)
	}
	s.volume("vol-1", "vol-1")
	if v, err := d.CreateVolume(ctx, cloud.VolumeSpec{Name: "vol-1", Group: "shop", Bytes: 64 * mib}); err != nil || v.Bytes != 32*mib {
		s.t.Errorf("CreateVolume of one that exists = %+v, %v; want it as it was", v, err)
	}
	_, err = d.CreateVolume(ctx, cloud.VolumeSpec{Name: "vol-1", Group: "blog", Bytes: 32 * mib})
	s.is(cloud.ErrInvalid, "CreateVolume in another group", err)
	s.must(s.spec("web-1"))
	for _, name := range []string{"", ".", "..", "a/b", "a b", "é", ".hidden", strings.Repeat("a", 33)} {
		s.is(cloud.ErrInvalid, fmt.Sprintf("Attach at %.40q", name), d.Attach(ctx, "vol-1", "web-1", name))
	}
}

func (s *suite) volumeDeleted() {
	d := s.volume("vol-1")
	i := s.must(s.with("web-1", "vol-1", "data"))[0]
	s.ask(i, "/write", "path", "@data/secret", "text", "of before")
	s.is(cloud.ErrInUse, "DeleteVolume of an attached one", d.DeleteVolume(s.t.Context(), "vol-1"))
	s.reads(i, "@data/secret", "of before")
	s.ok("Detach", d.Detach(s.t.Context(), "vol-1"))
	for range 2 {
		s.ok("DeleteVolume", d.DeleteVolume(s.t.Context(), "vol-1"))
	}
	if s.findVolume("vol-1") != nil {
		s.t.Error("a deleted volume is listed")
	}
	s.volume("vol-1")
	s.ok("Attach", d.Attach(s.t.Context(), "vol-1", "web-1", "data"))
	if got := s.ask(i, "/list", "path", "@data"); got != "" {
		s.t.Errorf("a new volume holds %q", got)
	}
}
