package director

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"

	"nutshell/cloud"
)

// mixedCloud is a cloud of machines of several architectures.
type mixedCloud struct {
	cloud.Driver
	has []string
}

func (mixedCloud) UsesLayers() bool                                  { return true }
func (m mixedCloud) Architectures(context.Context) ([]string, error) { return m.has, nil }

// In a cluster of several architectures one without layers keeps nobody from
// starting on the others; alone it says why.
func TestLayersForEachArchitecture(t *testing.T) {
	own, noEmulator := runtime.GOARCH, errors.New("this machine cannot run them")
	for _, c := range []struct {
		name        string
		has         []string
		foreign     func(ctx context.Context, arch string) error
		want        bool // layers of this machine's architecture
		wantForeign int
		says        string
	}{
		{"own-only", []string{own}, nil, true, 0, ""},
		{"other-only", []string{"riscv64"}, func(context.Context, string) error { return nil }, false, 1, ""},
		{"both", []string{own, "riscv64"}, func(context.Context, string) error { return nil }, true, 1, ""},
		{"other-cannot-be-made", []string{"riscv64"}, func(context.Context, string) error { return noEmulator }, false, 0, "cannot run them"},
		{"ours-take-it", []string{own, "riscv64"}, func(context.Context, string) error { return noEmulator }, true, 0, ""},
		{"two-others-cannot", []string{"mips", "riscv64"}, func(context.Context, string) error { return noEmulator }, false, 0, "images for mips"},
		{"one-of-two-others", []string{"mips", "riscv64"}, func(_ context.Context, arch string) error {
			if arch == "mips" {
				return noEmulator
			}
			return nil
		}, false, 1, ""},
		{"ours-need-not-wait", []string{own, "riscv64"}, func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}, true, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			d := &Director{ctx: ctx, c: Config{Log: slog.New(slog.DiscardHandler),
				Layers: func(ctx context.Context, arch, _ string, _, _ []string, _ func(string, float64)) ([]string, string, error) {
					if arch == own {
						return []string{"/layers/own"}, "", nil
					}
					return []string{"/layers/" + arch}, "", c.foreign(ctx, arch)
				}}}
			var s cloud.Spec
			err := d.lay(t.Context(), &place{driver: mixedCloud{has: c.has}}, &s, "php", nil, nil, func(string, float64) {})
			cancel()
			d.work.Wait()
			if (len(s.Layers) > 0) != c.want || len(s.Foreign) != c.wantForeign || (err != nil) != (c.says != "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %+v, %v", s, err)
			}
		})
	}
}

// What is wrong with layers is told of the cloud that they are for, until they
// are good, and once if several kinds stand on the same.
func TestWarningsOfLayers(t *testing.T) {
	say := map[string]string{"manager": "base is old", "helloworld": "base is old", "php": "php is old"}
	d := &Director{ctx: t.Context(), c: Config{Log: slog.New(slog.DiscardHandler),
		Layers: func(_ context.Context, _, kind string, _, _ []string, _ func(string, float64)) ([]string, string, error) {
			if kind == "java" {
				return nil, "nothing came of it", errors.New("no network")
			}
			return []string{"/layers/own"}, say[kind], nil
		}}}
	p, other := &place{driver: mixedCloud{has: []string{runtime.GOARCH}}}, &place{}
	launch := func(kinds ...string) {
		t.Helper()
		for _, kind := range kinds {
			var s cloud.Spec
			if err := d.lay(t.Context(), p, &s, kind, nil, nil, func(string, float64) {}); (err != nil) != (kind == "java") {
				t.Error(err)
			}
		}
	}
	if launch("mysql"); p.warned() != nil {
		t.Errorf("got %q of layers as they should be", p.warned())
	}
	if launch("manager", "helloworld", "php", "java"); !slices.Equal(p.warned(), []string{"base is old", "php is old"}) {
		t.Errorf("got %q", p.warned())
	}
	delete(say, "php")
	if launch("php"); !slices.Equal(p.warned(), []string{"base is old"}) {
		t.Errorf("got %q after php was made anew", p.warned())
	}
	if other.warned() != nil {
		t.Errorf("another cloud has %q", other.warned())
	}
}
