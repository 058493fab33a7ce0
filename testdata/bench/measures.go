package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"nutshell/roles/api"
)

// page is what the load asks for: a little work, as pages do, and no I/O.
const page = `<?php
$words = array();
for ($i = 0; $i < 200; $i++) { $words[] = substr(md5((string) $i), 0, 6); }
sort($words);
header('Content-Type: text/html; charset=utf-8');
echo "<!doctype html><title>bench</title><p>", implode(' ', $words), "</p>\n";
`

// applicationStart: from the click to the answer that the manager runs,
// against a bare container on the same layer from clone to first HTTPS answer.
func (b *bench) applicationStart(ctx context.Context) ([]row, error) {
	var ours, peers []float64
	const rounds = 6 // the first builds the image and is not counted
	for i := range rounds {
		name := "bench-start-" + strconv.Itoa(i)
		began := time.Now()
		err := b.api.withApplication(ctx, name, func() error {
			ours = append(ours, time.Since(began).Seconds()*1000)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if b.cloud != "lxc" {
			continue
		}
		took, err := b.bareContainer(ctx)
		if err != nil {
			return nil, fmt.Errorf("bare container: %w", err)
		}
		peers = append(peers, took.Seconds()*1000)
	}
	mine := median(ours[1:])
	rows := []row{{what: "start an application", ours: mine, unit: "ms", limit: 1000, absolute: true}}
	if len(peers) > 0 {
		rows = append(rows, row{what: "start an application, to a bare container", ours: mine, peer: median(peers[1:]), unit: "ms", note: "lxc-start to HTTPS", limit: 10})
	}
	return rows, nil
}

// phpStart: from the click to the first page, the image layer being there.
func (b *bench) phpStart(ctx context.Context) ([]row, error) {
	var took []float64
	err := b.api.withApplication(ctx, "bench-php", func() error {
		for i := range 4 { // the first builds the image and is not counted
			s, err := b.addPHP(ctx, "bench-php", "site-"+strconv.Itoa(i))
			if err != nil {
				return err
			}
			began := time.Now()
			if err := b.api.do(ctx, http.MethodPost, servicePath(s)+"/start", api.Start{}, nil); err != nil {
				return err
			}
			if _, err := b.firstPage(ctx, s); err != nil {
				return err
			}
			took = append(took, time.Since(began).Seconds())
			if err := b.idleService(ctx, s); err != nil {
				return err
			}
			if err := b.api.operate(ctx, http.MethodDelete, servicePath(s), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if len(took) < 2 {
		return nil, err
	}
	return []row{{what: "start a php service, to the first page", ours: median(took[1:]), unit: "s", limit: 2, absolute: true}}, err
}

// scale: adding ten backends against adding one, to a service that has two.
func (b *bench) scale(ctx context.Context) ([]row, error) {
	var one, ten []float64
	err := b.withSite(ctx, "bench-scale", func(s api.Service, _ string) error {
		to := func(n int) (float64, error) {
			began := time.Now()
			err := b.api.operate(ctx, http.MethodPost, servicePath(s)+"/scale", api.Scale{Set: map[string]int{"backend": n}})
			return time.Since(began).Seconds() * 1000, err
		}
		for range 3 {
			for _, step := range []struct {
				n    int
				into *[]float64
			}{{2, nil}, {3, &one}, {2, nil}, {12, &ten}, {2, nil}} {
				took, err := to(step.n)
				if err != nil {
					return err
				}
				if step.into != nil {
					*step.into = append(*step.into, took)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []row{{what: "add 10 backends", ours: median(ten), peer: median(one), unit: "ms", note: "add 1", limit: 3}}, nil
}

// idle: what the director uses while a php service runs and nobody asks for anything.
func (b *bench) idle(ctx context.Context) ([]row, error) {
	var rows []row
	err := b.withSite(ctx, "bench-idle", func(api.Service, string) error {
		const span = 30 * time.Second
		pid := b.director.cmd.Process.Pid
		if err := wait(ctx, 5*time.Second); err != nil { // let the start settle
			return err
		}
		before, err := usageOf(pid)
		if err != nil {
			return err
		}
		if err := wait(ctx, span); err != nil {
			return err
		}
		after, err := usageOf(pid)
		if err != nil {
			return err
		}
		perHour := float64(after.written-before.written) / 1e6 * float64(time.Hour/span)
		rows = []row{
			{what: "director, idle: memory", ours: float64(after.rss) / 1e6, unit: "MB", limit: 100, absolute: true},
			{what: "director, idle: of one core", ours: float64(after.cpu-before.cpu) / float64(span) * 100, unit: "%", limit: 1, absolute: true},
			{what: "director, idle: written per hour", ours: perHour, unit: "MB", limit: 1, absolute: true},
		}
		return nil
	})
	return rows, err
}

// list: all services of one user in one answer.
func (b *bench) list(ctx context.Context) ([]row, error) {
	const perApplication = 100
	for made := 0; made < b.services; made++ {
		app := "bench-list-" + strconv.Itoa(made/perApplication)
		if made%perApplication == 0 {
			if err := b.api.do(ctx, http.MethodPost, "/applications", api.CreateApplication{Name: app}, nil); err != nil {
				return nil, err
			}
		}
		if err := b.api.do(ctx, http.MethodPost, appPath(app)+"/services", api.CreateService{Kind: "helloworld"}, nil); err != nil {
			return nil, err
		}
	}
	var took []float64
	for range 11 {
		var list []api.Service
		began := time.Now()
		if err := b.api.do(ctx, http.MethodGet, "/services?limit="+strconv.Itoa(b.services), nil, &list); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began).Seconds()*1000)
		if len(list) != b.services {
			return nil, fmt.Errorf("%d services listed, want %d", len(list), b.services)
		}
	}
	return []row{{what: fmt.Sprintf("list %d services, decoded", b.services), ours: median(took), unit: "ms", limit: 100, absolute: true}}, nil
}

// withSite runs do with a php service that serves page at the URL.
func (b *bench) withSite(ctx context.Context, app string, do func(s api.Service, address string) error) error {
	return b.api.withApplication(ctx, app, func() error {
		s, err := b.addPHP(ctx, app, "site")
		if err != nil {
			return err
		}
		return b.started(ctx, s, do)
	})
}

func (b *bench) started(ctx context.Context, s api.Service, do func(s api.Service, address string) error) error {
	if err := b.api.operate(ctx, http.MethodPost, servicePath(s)+"/start", api.Start{}); err != nil {
		return err
	}
	address, err := b.firstPage(ctx, s)
	if err != nil {
		return err
	}
	return do(s, address)
}

// addPHP adds a php service with page as its wanted version.
func (b *bench) addPHP(ctx context.Context, app, name string) (api.Service, error) {
	archive := &bytes.Buffer{}
	w := tar.NewWriter(archive)
	err := w.WriteHeader(&tar.Header{Name: "index.php", Mode: 0o644, Size: int64(len(page))})
	_, err2 := w.Write([]byte(page))
	if err := errors.Join(err, err2, w.Close()); err != nil {
		return api.Service{}, err
	}
	return b.addSite(ctx, app, name, archive)
}

// addSite adds a php service with an archive as its wanted version.
func (b *bench) addSite(ctx context.Context, app, name string, archive io.Reader) (api.Service, error) {
	var s api.Service
	if err := b.api.do(ctx, http.MethodPost, appPath(app)+"/services", api.CreateService{Kind: "php", Name: name}, &s); err != nil {
		return s, err
	}
	var v api.CodeVersion
	if err := b.api.do(ctx, http.MethodPost, servicePath(s)+"/versions?filename=bench.tar&description=bench", archive, &v); err != nil {
		return s, err
	}
	return s, b.api.operate(ctx, http.MethodPost, servicePath(s)+"/activate", api.Activate{Version: v.ID})
}

func servicePath(s api.Service) string {
	return "/applications/" + strconv.FormatInt(s.Application, 10) + "/services/" + strconv.FormatInt(s.ID, 10)
}

// firstPage asks until the page comes and returns the site's URL.
func (b *bench) firstPage(ctx context.Context, s api.Service) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	last := errors.New("it has no URL")
	for {
		if err := b.api.do(ctx, http.MethodGet, servicePath(s), nil, &s); err != nil {
			return "", err
		}
		if s.State == api.Failed {
			return "", fmt.Errorf("service %s: %s", s.Name, s.Reason)
		}
		if len(s.URLs) > 0 {
			u, err := url.Parse(s.URLs[0])
			if err != nil {
				return "", err
			}
			base := u.Scheme + "://" + u.Host + "/"
			if last = isPage(ctx, base); last == nil {
				return base, nil
			}
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return "", errors.Join(err, last)
		}
	}
}

func isPage(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("<title>bench")) && !bytes.Contains(text, []byte("DokuWiki"))) {
		err = fmt.Errorf("%s: %s without our page", base, resp.Status)
	}
	return err
}

// idleService waits until no operation of the service is under way.
func (b *bench) idleService(ctx context.Context, s api.Service) error {
	for {
		if err := b.api.do(ctx, http.MethodGet, servicePath(s), nil, &s); err != nil || s.Operation == "" {
			return err
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		s.Operation = "" // absent in the next answer when there is none
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// layers returns the root directories of a kind's image, lowest first.
func (b *bench) layers(kind string) ([]string, error) {
	return layersIn(os.DirFS(b.director.dir), b.director.dir, kind)
}
