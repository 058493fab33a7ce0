package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"nutshell/roles/api"
)

// pages: requests per second through proxy and backend, against nginx and
// php-fpm set up by hand in a bare container on the same layers with the same
// pool. Both sides run in turn. Packed has proxy and backend on one instance,
// as a service begins; spread has a proxy and two backends apart, all on this
// machine, so that the second nginx on the way takes time from PHP. A small
// page shows what our way costs, DokuWiki's what its visitors notice.
func (b *bench) pages(ctx context.Context) ([]row, error) {
	if b.cloud != "lxc" {
		return nil, errors.New("needs the lxc cloud, so that both sides run in containers; run it as root")
	}
	var rows []row
	err := b.withSite(ctx, "bench-pages", func(s api.Service, address string) error {
		var err error
		rows, err = b.comparePages(ctx, s, address, "a small page", "index.php", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "index.php"), []byte(page), 0o644)
		})
		return err
	})
	if err != nil || b.wiki == "" {
		return rows, err
	}
	err = b.api.withApplication(ctx, "bench-wiki", func() error {
		f, err := os.Open(b.wiki)
		if err != nil {
			return err
		}
		defer f.Close()
		s, err := b.addSite(ctx, "bench-wiki", "wiki", f)
		if err != nil {
			return err
		}
		return b.started(ctx, s, func(s api.Service, address string) error {
			more, err := b.comparePages(ctx, s, address, "DokuWiki", "doku.php", func(dir string) error {
				return errors.Join(command(ctx, "tar", "-xf", b.wiki, "-C", dir, "--no-same-owner"), command(ctx, "chown", "-R", "www-data:www-data", dir))
			})
			rows = append(rows, more...)
			return err
		})
	})
	return rows, err
}

func (b *bench) comparePages(ctx context.Context, s api.Service, address, what, path string, fill func(dir string) error) ([]row, error) {
	pool, err := runningPool(b.director.dir)
	if err != nil {
		return nil, err
	}
	hand, stop, err := b.handMade(ctx, pool, fill)
	if err != nil {
		return nil, fmt.Errorf("nginx and php-fpm by hand: %w", err)
	}
	defer stop()
	var rows []row
	for _, n := range []int{1, 2} {
		how := "packed"
		if n > 1 {
			how = "spread"
			if err := b.api.operate(ctx, http.MethodPost, servicePath(s)+"/scale", api.Scale{Set: map[string]int{"backend": n}}); err != nil {
				return rows, err
			}
		}
		var ours, peers []float64
		// Many short turns rather than a few long ones, because other work on the
		// machine comes and goes; the first warms caches and is not counted.
		for round := range 10 {
			for _, side := range []struct {
				url  string
				into *[]float64
			}{{address, &ours}, {hand, &peers}} {
				rate, err := load(ctx, side.url+path, max(b.duration/5, time.Second))
				if err != nil {
					return rows, err
				}
				if round > 0 {
					*side.into = append(*side.into, rate)
				}
			}
		}
		rows = append(rows, row{what: what + " through proxy and backend, " + how, ours: median(ours), peer: median(peers), unit: "/s", note: "by hand", limit: 0.9, atLeast: true})
	}
	return rows, nil
}
