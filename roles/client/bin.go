package client

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// nowFlag deletes past the bin.
func nowFlag() cli.Flag {
	return &cli.BoolFlag{Name: "now", Usage: "for good, instead of into the bin"}
}

// deletion is the query of a deletion that was asked for with flags.
func (r *call) deletion() string {
	q := url.Values{}
	for _, name := range []string{"backup", "now"} {
		if r.Bool(name) {
			q.Set(name, "true")
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

// untilWhen says whether what is deleted can be brought back.
func (r *call) untilWhen() string {
	if r.Bool("now") {
		return ", for good"
	}
	return "; until its time in the bin is up, nutshell bin restore brings it back"
}

func (c *Client) binVerbs() []*cli.Command {
	const entry = "<entry_or_name>"
	return []*cli.Command{
		c.verb("list", "what was deleted and can be brought back, newest first", "", listBin,
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "of all users (admins only)"}),
		c.verb("show", "what an entry holds", entry, onBinned(func(r *call, b api.Binned) error {
			return r.showText(b, func(w io.Writer) { writeBinned(w, b) })
		})),
		examples(c.verb("restore", "bring something back; it comes back stopped", entry, onBinned(restoreBinned)),
			"nutshell bin restore shop", "nutshell bin restore 3kq9zt0w1abc"),
		c.verb("delete", "delete something in the bin for good", entry, onBinned(deleteBinned)),
		c.verb("empty", "delete all in the bin for good", "", emptyBin),
	}
}

func (r *call) bin(path string) ([]api.Binned, error) {
	var all []api.Binned
	err := r.get(path, &all)
	return all, err
}

// onBinned finds an entry by its id, or by the name of what was deleted where
// only one had it.
func onBinned(do func(*call, api.Binned) error) func(*call) error {
	return func(r *call) error {
		all, err := r.bin("/bin")
		if err != nil {
			return err
		}
		ref := r.arg("entry_or_name")
		var named []api.Binned
		for _, b := range all {
			if b.ID == ref {
				return do(r, b)
			}
			if b.Name == ref || whereBinned(b) == ref {
				named = append(named, b)
			}
		}
		switch len(named) {
		case 1:
			return do(r, named[0])
		case 0:
			return &api.Error{Code: api.CodeNotFound, Object: api.Shorten(ref), Message: "the bin does not have it", Hint: "list what it has with: nutshell bin list"}
		}
		ids := make([]string, len(named))
		for i, b := range named {
			ids[i] = b.ID
		}
		return &api.Error{Code: api.CodeConflict, Object: api.Shorten(ref), Message: fmt.Sprintf("the bin has %d things of this name", len(named)), Hint: "use an entry: " + strings.Join(ids, ", ")}
	}
}

// whereBinned is an entry's name with those of what it was a part of.
func whereBinned(b api.Binned) string {
	switch b.Kind {
	case api.BinnedApplication:
		return b.Name
	case api.BinnedService:
		return b.ApplicationName + "/" + b.Name
	}
	return b.ApplicationName + "/" + b.ServiceName + "/" + b.Name
}

func listBin(r *call) error {
	path := "/bin"
	if r.Bool("all") {
		path += "?all=true"
	}
	all, err := r.bin(path)
	if err != nil {
		return err
	}
	t := &table{columns: []string{"entry", "what", "name", "deleted", "by", "until", "size"}, none: "The bin is empty."}
	for _, b := range all {
		t.add(b.ID, b.Kind, whereBinned(b), b.Deleted.Local().Format(time.DateTime), b.By, b.Until.Local().Format(time.DateTime), sizeOf(b.Bytes))
	}
	return r.show(all, t)
}

func writeBinned(w io.Writer, b api.Binned) {
	pairs(w, "entry", b.ID, b.Kind, whereBinned(b), "deleted", b.Deleted.Local().Format(time.DateTime)+" by "+b.By, "until", b.Until.Local().Format(time.DateTime), "inside", b.In)
	for _, h := range b.Holds {
		text := plural(h.Count, h.What)
		if h.Bytes > 0 {
			text += ", " + sizeOf(h.Bytes)
		}
		if len(h.Names) > 0 {
			text += ": " + strings.Join(h.Names, ", ")
		}
		pairs(w, "holds", text)
	}
}

func restoreBinned(r *call, b api.Binned) error {
	var got api.Restored
	if err := r.send(http.MethodPost, "/bin/"+escape(b.ID)+"/restore", nil, &got); err != nil {
		return err
	}
	for _, note := range got.Notes {
		r.say("note: %s", note)
	}
	return r.made(got, got.Name, "The %s '%s' is back.", got.Kind, got.Name)
}

func deleteBinned(r *call, b api.Binned) error {
	if err := r.confirm(b.Kind+" '"+b.Name+"'", b.Name, b.Kind+" '"+whereBinned(b)+"' in the bin with all that it holds, for good"); err != nil {
		return err
	}
	if err := r.send(http.MethodDelete, "/bin/"+escape(b.ID), nil, nil); err != nil {
		return err
	}
	r.say("The %s '%s' is gone.", b.Kind, b.Name)
	return nil
}

func emptyBin(r *call) error {
	all, err := r.bin("/bin")
	if err != nil {
		return err
	}
	if len(all) == 0 {
		r.say("The bin is empty.")
		return nil
	}
	names := make([]string, len(all))
	for i, b := range all {
		names[i] = b.Kind + " '" + whereBinned(b) + "'"
	}
	if err := r.confirm("the bin", "bin", strings.Join(names, ", ")+", for good"); err != nil {
		return err
	}
	for _, b := range all {
		err := r.send(http.MethodDelete, "/bin/"+escape(b.ID), nil, nil)
		if err != nil && api.CodeOf(err) != api.CodeNotFound { // it went with what it was a part of
			return err
		}
	}
	r.say("The bin is empty now; it had %s.", plural(len(all), "thing"))
	return nil
}
