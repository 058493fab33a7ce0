package client

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) cloudVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "the clouds that can be named", "", listClouds, &cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "with driver and condition"}),
		examples(c.verb("set-default", "choose the cloud of applications that name none (admins only)", "<cloud>", chooseCloud), "nutshell cloud set-default mycloud"),
		c.verb("list-resources", "all nodes and managers of your applications", "", listResources),
	}
}

func listClouds(r *call) error {
	var all []api.Cloud
	if err := r.get("/clouds", &all); err != nil {
		return err
	}
	if !r.Bool("long") {
		return r.showText(all, func(w io.Writer) {
			for _, c := range all {
				fmt.Fprintln(w, printable(c.Name))
			}
		})
	}
	t := &table{columns: []string{"name", "driver", "default", "ready", "nodes", "problem"}, none: "No existing clouds."}
	for _, c := range all {
		t.add(c.Name, c.Driver, yesNo(c.Default), yesNo(c.Ready), strconv.Itoa(c.Instances), cmp.Or(c.Problem, strings.Join(c.Warnings, "; ")))
	}
	return r.show(all, t)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func listResources(r *call) error {
	var all []api.Instance
	if err := r.get("/resources", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"rid", "app_id", "vmid", "ip", "role", "cloud"}, id: 2, none: "No existing resources"}
	for n, i := range all {
		role := strings.Join(i.Parts, ",")
		if i.Service == 0 {
			role = "manager"
		}
		t.add(strconv.Itoa(n+1), strconv.FormatInt(i.Application, 10), i.ID, orDash(i.Address), orDash(role), orDash(i.Cloud))
	}
	return r.show(all, t)
}

func (c *Client) directorVerbs() []*cli.Command {
	return []*cli.Command{c.verb("version", "the software that the director runs", "", func(r *call) error {
		r.public = true
		var v api.Version
		if err := r.get("/version", &v); err != nil {
			return err
		}
		return r.showText(v, func(w io.Writer) {
			fmt.Fprintln(w, "Nutshell director version", printable(v.Version))
			if r.g.debug {
				pairs(w, "revision", v.Revision, "go", v.Go, "installation", v.Installation, "binary", v.BinarySHA256)
			}
		})
	})}
}

func (c *Client) auditVerbs() []*cli.Command {
	return []*cli.Command{
		examples(c.verb("list", "changes, newest first (admins only)", "", func(r *call) error {
			q := r.auditQuery()
			q.Set("limit", strconv.Itoa(r.Int("limit")))
			return r.showAudit("/audit?" + q.Encode())
		}, append(auditFlags(), &cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 50, Usage: "at most so many"})...),
			"nutshell audit list --actor bob --result refused --since 24h"),
		c.verb("of", "changes of one application, for its owner", argApp, onApplication(func(r *call, a api.Application) error {
			q := r.auditQuery()
			q.Set("limit", strconv.Itoa(r.Int("limit")))
			return r.showAudit(applicationPath(a) + "/audit?" + q.Encode())
		}), append(auditFlags(), &cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 50, Usage: "at most so many"})...),
		c.verb("export", "save changes as a file (admins only)", "[filename]", func(r *call) error {
			q := r.auditQuery()
			q.Set("format", r.String("format"))
			return r.saveFile("/audit/export?"+q.Encode(), r.arg("filename"), "audit."+r.String("format"))
		}, append(auditFlags(), &cli.StringFlag{Name: "format", Value: "csv", Usage: "csv or jsonl"})...),
	}
}

func (r *call) showAudit(path string) error {
	var all []api.AuditEntry
	if err := r.get(path, &all); err != nil {
		return err
	}
	t := &table{columns: []string{"time", "user", "from", "action", "object", "result"}, none: "No changes."}
	for _, e := range all {
		t.add(e.Time.Local().Format(time.DateTime), e.Actor, e.From, e.Action, e.Object, e.Result)
	}
	return r.show(all, t)
}
