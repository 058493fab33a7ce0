package director

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
	"nutshell/roles/internal/manifest"
)

// sources are the files of one service of a manifest, on the director's disk.
type sources struct {
	code, name string // archive, and the file name of its version
	dump       string
	script     string // its text
}

// gather gets everything that the services name. Nothing of the application is
// made before it is all there and in order. What was fetched before the
// director died is not fetched again.
func (c *manifestRun) gather(ctx context.Context) error {
	dir := filepath.Join(c.dir, "fetched")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	c.sources = make([]sources, len(c.plan))
	for i, p := range c.plan {
		all := p.Sources()
		for _, field := range []string{"Archive", "Dump", "StartupScript"} {
			source, ok := all[field]
			if !ok {
				continue
			}
			to := filepath.Join(dir, strconv.Itoa(i)+"-"+field)
			path, name, err := c.get(ctx, p, field, source, to)
			if err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return p.In(field, err)
			}
			switch field {
			case "Archive":
				c.sources[i].code, c.sources[i].name = path, name
			case "Dump":
				c.sources[i].dump = path
			default:
				if c.sources[i].script, err = scriptFrom(path, source); err != nil {
					return p.In(field, err)
				}
			}
		}
		if err := c.complete(ctx, i, filepath.Join(dir, strconv.Itoa(i)+"-code")); err != nil {
			return p.In("Archive", err)
		}
	}
	return nil
}

func (c *manifestRun) get(ctx context.Context, p planned, field string, source manifest.Source, to string) (path, name string, err error) {
	d := c.d
	tell := func(what string, fraction float64) {
		c.run.Detail(ctx, p.ServiceName+": "+what, fraction)
	}
	switch source.Kind {
	case manifest.SourceFile:
		path, err = c.staged.file(source.Name)
		if err != nil {
			err = &api.Error{Code: api.CodeInvalid, Message: "the file " + api.Shorten(source.Name) + " was not sent with the manifest", Hint: "send a tar of manifest.yaml and the files that it names"}
		}
		return path, filepath.Base(source.Name), err
	case manifest.SourceURL:
		if _, err := os.Stat(to); err == nil {
			return to, fileNameOf(source.Name), nil
		}
		f := fetcher{private: d.c.FetchPrivate, most: d.tune().upload}
		switch field {
		case "Dump":
			f.most *= manifestTimes
		case "StartupScript":
			f.most = maxScript
		}
		err := f.fetch(ctx, source.Name, to, d.code.Room, func(n, whole int64) {
			what, fraction := fmt.Sprintf("%s fetched of %s", amount(n), fileNameOf(source.Name)), 0.0
			if whole > 0 {
				fraction = float64(n) / float64(whole)
			}
			tell(what, fraction)
		})
		return to, fileNameOf(source.Name), err
	case manifest.SourceDebian:
		return c.getPackage(ctx, p, source, to, tell)
	}
	return "", "", nil
}

func (c *manifestRun) getPackage(ctx context.Context, p planned, source manifest.Source, to string, tell func(string, float64)) (path, name string, err error) {
	packed, err := c.d.c.Package(ctx, source.Name, c.d.layered(p.cloud), tell)
	if err != nil {
		return "", "", err
	}
	if source.Path == "" {
		_ = os.Remove(to) // of a life before
		// A newer version may take the place of this archive at any moment.
		if err := os.Link(packed, to); err == nil {
			return to, filepath.Base(packed), nil
		}
		return packed, filepath.Base(packed), nil
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", "", err
	}
	err = archive.Extract(ctx, f, packed, source.Path, archive.Limits{})
	return to, filepath.Base(source.Path), errors.Join(err, f.Close())
}

func scriptFrom(path string, source manifest.Source) (string, error) {
	text := source.Text
	if source.Kind != manifest.SourceText {
		info, err := os.Stat(path)
		if err == nil && info.Size() > maxScript {
			return "", checkScript("\x00") // in the same words
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		text = string(b)
	}
	return text, checkScript(text)
}

// complete adds the manifest's own files to a service's code. What cannot be
// unpacked is found here or when the code is stored, before any service is made.
func (c *manifestRun) complete(ctx context.Context, i int, to string) error {
	p, s := c.plan[i], &c.sources[i]
	if len(p.Files) == 0 {
		return nil
	}
	strip := ""
	if s.code != "" && manifest.SourceOf(p.Archive).Kind != manifest.SourceDebian { // those we made
		info, err := archive.Inspect(ctx, s.code, archive.Limits{Names: 1})
		if err != nil {
			return aboutFile(s.name, err)
		}
		strip = info.TopDirectory
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = archive.Overlay(ctx, f, s.code, strip, p.Files, archive.Limits{})
	if err = errors.Join(err, f.Close()); err != nil {
		return aboutFile(s.name, err)
	}
	for _, suffix := range []string{".zst", ".gz", ".bz2", ".xz", ".tar", ".tgz", ".zip"} {
		s.name = strings.TrimSuffix(s.name, suffix)
	}
	if s.name == "" {
		s.name = p.ServiceName
	}
	s.code, s.name = to, s.name+".tar.zst"
	return nil
}

// aboutFile puts the user's name of a file in place of ours.
func aboutFile(name string, err error) error {
	var e *api.Error
	if !errors.As(err, &e) || name == "" {
		return err
	}
	of := *e
	of.Object = name
	return &of
}
