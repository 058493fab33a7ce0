package director

import (
	"context"
	"strings"

	"golang.org/x/sync/errgroup"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
)

const (
	readersMost = 2      // archives read through at the same time: it takes a core each
	changesMost = 10_000 // told of a difference
)

// reading waits for its turn to read archives through.
func (d *Director) reading(ctx context.Context) (done func(), err error) {
	select {
	case d.readers <- struct{}{}:
		return func() { <-d.readers }, nil
	case <-ctx.Done():
		return nil, &api.Error{Code: api.CodeDeadline, Op: "read code", Message: "others are having large versions read", Hint: "try again in a while"}
	}
}

func (d *Director) versionFiles(ctx context.Context, in *VersionPath) ([]api.File, error) {
	_, v, err := d.version(ctx, *in)
	if err != nil {
		return nil, err
	}
	done, err := d.reading(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	list, err := d.filesOf(ctx, v)
	out := make([]api.File, len(list))
	for i, f := range list {
		out[i] = api.File{Path: legible(f.Path), Bytes: f.Bytes, Mode: f.Mode.String(), Link: legible(f.Link), SHA256: f.SHA256}
		if f.Link != "" {
			out[i].Mode = "l" + out[i].Mode[1:] // Go writes L
		}
	}
	return out, err
}

// legible is a name for JSON, which is UTF-8.
func legible(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

func (d *Director) filesOf(ctx context.Context, v api.CodeVersion) ([]archive.File, error) {
	path := d.code.Path(v.SHA256)
	if path == "" {
		return nil, api.NotFoundf("the code of version %s is not here", v.ID)
	}
	list, err := archive.List(ctx, path, v.Strip, archive.Limits{})
	if e := api.AsError(err); e != nil {
		named := *e
		named.Op, named.Object = "read code", "version "+v.ID
		return nil, &named
	}
	return list, nil
}

func (d *Director) versionDiff(ctx context.Context, in *struct {
	VersionPath
	From string `path:"from"`
}) (api.Difference, error) {
	s, to, err := d.version(ctx, in.VersionPath)
	if err != nil {
		return api.Difference{}, err
	}
	from, err := d.store.Version(ctx, s.Application, s.ID, in.From)
	if err != nil {
		return api.Difference{}, err
	}
	out := api.Difference{From: from.ID, To: to.ID, Files: []api.FileChange{}}
	if from.SHA256 == to.SHA256 && from.Strip == to.Strip {
		out.Same = to.Files
		return out, nil
	}
	done, err := d.reading(ctx)
	if err != nil {
		return out, err
	}
	defer done()
	var before, after []archive.File
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { before, err = d.filesOf(ctx, from); return err })
	g.Go(func() (err error) { after, err = d.filesOf(ctx, to); return err })
	if err := g.Wait(); err != nil {
		return out, err
	}
	compare(&out, before, after)
	return out, nil
}

// compare finds what differs between two lists that are sorted by path. It is
// pure.
func compare(out *api.Difference, before, after []archive.File) {
	add := func(path, change string, from, to int64) {
		if len(out.Files) == changesMost {
			out.Omitted++
			return
		}
		out.Files = append(out.Files, api.FileChange{Path: legible(path), Change: change, Before: from, After: to})
	}
	for len(before)+len(after) > 0 {
		switch {
		case len(after) == 0 || len(before) > 0 && before[0].Path < after[0].Path:
			add(before[0].Path, "removed", before[0].Bytes, 0)
			before = before[1:]
		case len(before) == 0 || after[0].Path < before[0].Path:
			add(after[0].Path, "added", 0, after[0].Bytes)
			after = after[1:]
		default:
			if before[0] == after[0] {
				out.Same++
			} else {
				add(after[0].Path, "changed", before[0].Bytes, after[0].Bytes)
			}
			before, after = before[1:], after[1:]
		}
	}
}
