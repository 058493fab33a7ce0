package client

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// settingVerbs are those on the settings of the installation.
func (c *Client) settingVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "the director's configuration and where each value came from (admins only)", "", listSystem,
			&cli.BoolFlag{Name: "changeable", Usage: "only what can be changed while the director runs"}),
		examples(c.verb("set", "change settings while the director runs (admins only)", "<key=value>...", setSystem),
			"nutshell setting set bin.keep=720h quota.applications=20"),
		c.verb("reset", "put back what the configuration says (admins only)", "<key>...", resetSystem),
	}
}

func listSystem(r *call) error {
	var all []api.SystemSetting
	if err := r.get("/settings", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"setting", "value", "from", "changeable"}, none: "No settings."}
	kept := []api.SystemSetting{}
	for _, s := range all {
		if r.Bool("changeable") && !s.Changeable {
			continue
		}
		kept = append(kept, s)
		from, may := s.Origin, "-"
		if s.By != "" {
			from += ", by " + s.By
		}
		if s.Changeable {
			may = "yes"
		}
		t.add(s.Key, orDash(s.Value), from, may)
	}
	return r.show(kept, t)
}

func (r *call) changeSystem(set map[string]string) error {
	var all []api.SystemSetting
	if err := r.send(http.MethodPatch, "/settings", api.ChangeSystem{Set: set}, &all); err != nil {
		return err
	}
	for _, s := range all {
		if _, changed := set[s.Key]; changed {
			r.say("%s is %s now.", s.Key, orDash(s.Value))
		}
	}
	return nil
}

func setSystem(r *call) error {
	set := map[string]string{}
	for _, pair := range r.rest {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" {
			return usagef("%s is not of the form key=value", api.Shorten(pair))
		}
		set[key] = value
	}
	return r.changeSystem(set)
}

func resetSystem(r *call) error {
	set := map[string]string{}
	for _, key := range r.rest {
		set[key] = ""
	}
	return r.changeSystem(set)
}

// reportVerb saves what helps others to find out what is wrong.
func (c *Client) reportVerb() *cli.Command {
	return examples(c.verb("report", "save what helps to find out what is wrong with the installation (admins only)", "[filename]", func(r *call) error {
		return r.saveFile("/diagnostics", r.arg("filename"), "nutshell-report.zip")
	}), "nutshell report", "nutshell report /tmp/nutshell.zip")
}

// saveFile saves what a route sends under a name of the user's, or its own.
func (r *call) saveFile(path, to, usual string) error {
	resp, err := r.open(http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if to == "" {
		to = archiveName(resp.Header.Get("Content-Disposition"), api.CodeVersion{ID: usual, Filename: usual})
	}
	if err := r.save(resp, to); err != nil {
		return err
	}
	return r.made(map[string]string{"file": to}, to, "Saved as %s.", to)
}

// revisionVerbs are those on what a service was asked to be.
func (c *Client) revisionVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	return []*cli.Command{
		c.ofKind(kind, "get-revisions", "who changed settings, environment, script or parts, and how", one, onService(listRevisions)),
		c.ofKind(kind, "revert", "ask for settings, environment and script as an earlier revision has them", one+" <revision>", onService(func(r *call, _ api.Application, s api.Service) error {
			op, err := r.change(http.MethodPost, servicePath(s)+"/revisions/"+escape(r.arg("revision"))+"/revert", nil, &s)
			if err != nil {
				return err
			}
			return r.finishSaying(op, fmt.Sprintf("Service %s goes back to revision %s... ", r.arg(argServ), r.arg("revision")), fmt.Sprintf("Service %s is asked to be as in revision %s.", r.arg(argServ), r.arg("revision")))
		})),
	}
}

func listRevisions(r *call, _ api.Application, s api.Service) error {
	var all []api.Revision
	if err := r.get(servicePath(s)+"/revisions", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"revision", "time", "by", "what", "from", "to"}, none: "Nothing was changed yet."}
	for _, n := range all {
		when := n.Time.Local().Format("2006-01-02 15:04:05")
		if len(n.Changes) == 0 {
			t.add(fmt.Sprint(n.Number), when, orDash(n.By), "as it began", "-", "-")
		}
		for _, x := range n.Changes {
			t.add(fmt.Sprint(n.Number), when, orDash(n.By), x.What+" "+x.Name, orDash(brief(x.From)), orDash(brief(x.To)))
		}
	}
	return r.show(all, t)
}

// briefest is how much of a value stands in a table.
const briefest = 40

func brief(s string) string {
	if line, _, more := strings.Cut(s, "\n"); more {
		s = line + " …"
	}
	if short := []rune(s); len(short) > briefest {
		return string(short[:briefest]) + "…"
	}
	return s
}

// auditQuery is the query of the flags with which the audit is searched.
func (r *call) auditQuery() url.Values {
	q := url.Values{}
	for _, name := range []string{"actor", "action", "object", "result", "since", "until"} {
		if v := r.String(name); v != "" {
			q.Set(name, v)
		}
	}
	return q
}

func auditFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "actor", Usage: "asked for by this user"},
		&cli.StringFlag{Name: "action", Usage: "of this kind, such as service.scale, or service for all that begin so"},
		&cli.StringFlag{Name: "object", Usage: "on what has this path, such as /applications/3"},
		&cli.StringFlag{Name: "result", Usage: "with this result: ok, refused, or an error's code"},
		&cli.StringFlag{Name: "since", Usage: "not before this time, or this span back such as 24h"},
		&cli.StringFlag{Name: "until", Usage: "before this time, or this span back"},
	}
}
