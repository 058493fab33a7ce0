package client

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

const argBackup = "<backup_id>"

// backupVerbs are the verbs of the object backup.
func (c *Client) backupVerbs() []*cli.Command {
	const one = argApp + " " + argServ
	return []*cli.Command{
		c.verb("list", "backups, newest first: all of yours, those of gone services too, or those of one service", "[app_name_or_id] [serv_name_or_id]", listBackups),
		c.verb("show", "one backup", argBackup, onBackup(showBackup)),
		c.verb("create", "back a service up now", one, onService(createBackup),
			&cli.BoolFlag{Name: "verify", Usage: "restore it on trial afterwards"}),
		examples(c.verb("restore", "put a service back to a backup, which loses what it has now; or make a new service of it", one+" "+argBackup, restoreBackup,
			&cli.StringFlag{Name: "at", Usage: "a later moment, e.g. '2026-03-04 15:04:05' or 2026-03-04T15:04:05Z, or 10m for ten minutes ago"},
			&cli.StringFlag{Name: "new", Usage: "change nothing, but make a service of this name of it; the service may be - if it is gone"}),
			"nutshell backup restore shop db bk-x7k2p", "nutshell backup restore shop db bk-x7k2p --at '2026-03-04 15:04:05'", "nutshell backup restore shop - bk-x7k2p --new db2"),
		c.verb("verify", "restore a backup on trial, beside the data, and tell what it has", argBackup, onBackup(verifyBackup)),
		c.verb("delete", "destroy a backup", argBackup, onBackup(deleteBackup)),
	}
}

func onBackup(do func(*call, api.Backup) error) func(*call) error {
	return func(r *call) error {
		var b api.Backup
		if err := r.get("/backups/"+escape(r.arg(argBackup)), &b); err != nil {
			return err
		}
		return do(r, b)
	}
}

func listBackups(r *call) error {
	path := "/backups"
	application := int64(0)
	if r.arg("app_name_or_id") != "" {
		a, err := r.application()
		if err != nil {
			return err
		}
		application = a.ID
		if name := r.arg("serv_name_or_id"); name != "" {
			s, err := pickService(a, name, nil)
			if err != nil {
				return err
			}
			path = servicePath(s) + "/backups"
		}
	}
	var all []api.Backup
	if err := r.get(path, &all); err != nil {
		return err
	}
	if application != 0 {
		all = slices.DeleteFunc(all, func(b api.Backup) bool { return b.Application != application })
	}
	t := &table{columns: []string{"backup_id", "of", "taken", "any moment until", "size", "why", "state", "verified"}, none: "No backups."}
	for _, b := range all {
		until := "-"
		if b.Until.After(b.Taken) {
			until = when(b.Until)
		}
		t.add(b.ID, b.ApplicationName+"/"+b.ServiceName, when(b.Taken), until, sizeOf(b.Bytes), b.Why, string(b.State), when(b.Verified))
	}
	return r.show(all, t)
}

func showBackup(r *call, b api.Backup) error {
	return r.showText(b, func(w io.Writer) {
		until := ""
		if b.Until.After(b.Taken) {
			until = when(b.Until)
		}
		pairs(w, "backup", b.ID, "of", b.ApplicationName+"/"+b.ServiceName, "type", b.Kind, "taken", when(b.Taken), "any moment until", until, "size", sizeOf(b.Bytes),
			"why", b.Why, "state", string(b.State), "problem", b.Problem, "verified", when(b.Verified), "found", b.Finding, "operation", b.Operation)
	})
}

func createBackup(r *call, _ api.Application, s api.Service) error {
	op, err := r.change(http.MethodPost, servicePath(s)+"/backups", api.CreateBackup{Verify: r.Bool("verify")}, nil)
	if err != nil {
		return err
	}
	return r.finish(op, fmt.Sprintf("Backing up service %s... ", r.arg(argServ)))
}

// restoreBackup says what is lost unless a new service is made.
func restoreBackup(r *call) error {
	a, err := r.application()
	if err != nil {
		return err
	}
	var b api.Backup
	if err := r.get("/backups/"+escape(r.arg(argBackup)), &b); err != nil {
		return err
	}
	in := api.RestoreBackup{Backup: b.ID, New: r.String("new")}
	if text := r.String("at"); text != "" {
		at, err := moment(text, time.Now())
		if err != nil {
			return err
		}
		in.At = &at
	}
	path, name := applicationPath(a), r.arg(argServ)
	if name != "-" {
		s, err := pickService(a, name, nil)
		if err != nil {
			return err
		}
		path, name = servicePath(s), s.Name
	} else if in.New == "" {
		return usagef("- stands for a service that is gone; --new names the one to make")
	}
	doing := fmt.Sprintf("Making service %s of backup %s... ", in.New, b.ID)
	if in.New == "" {
		to := b.Taken
		if in.At != nil {
			to = *in.At
		}
		lost := fmt.Sprintf("what service '%s' holds now, in favour of what it held at %s; it does not answer meanwhile", name, when(to))
		if err := r.confirmTo("restore", "service '"+name+"'", name, lost); err != nil {
			return err
		}
		doing = fmt.Sprintf("Restoring service %s... ", name)
	}
	op, err := r.change(http.MethodPost, path+"/restore", in, nil)
	if err != nil {
		return err
	}
	return r.finish(op, doing)
}

// moment reads a time of people: of the machine's own zone unless it names
// another, or a span back.
func moment(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, form := range []string{time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("%s is no moment such as '2026-03-04 15:04:05', 2026-03-04T15:04:05Z or 10m", api.Shorten(text))
}

// verifyBackup tells what the trial found.
func verifyBackup(r *call, b api.Backup) error {
	op, err := r.change(http.MethodPost, "/backups/"+escape(b.ID)+"/verify", nil, nil)
	if err != nil {
		return err
	}
	if err := r.finish(op, fmt.Sprintf("Restoring backup %s on trial... ", b.ID)); err != nil || r.g.noWait {
		return err
	}
	if err := r.get("/backups/"+escape(b.ID), &b); err != nil {
		return err
	}
	r.say("%s", cmp.Or(b.Finding, "nothing is wrong with it"))
	return nil
}

func deleteBackup(r *call, b api.Backup) error {
	lost := fmt.Sprintf("backup %s of %s/%s, taken %s", b.ID, b.ApplicationName, b.ServiceName, when(b.Taken))
	if err := r.confirm("backup "+b.ID, b.ID, lost); err != nil {
		return err
	}
	if err := r.send(http.MethodDelete, "/backups/"+escape(b.ID), nil, nil); err != nil {
		return err
	}
	r.say("Backup %s was deleted.", b.ID)
	return nil
}

// keepsBackups tells how many backups of a service stay when it is deleted.
func (r *call) keepsBackups(s api.Service) string {
	var all []api.Backup
	if err := r.get(servicePath(s)+"/backups", &all); err != nil {
		return ""
	}
	ready := 0
	for _, b := range all {
		if b.State == api.BackupReady {
			ready++
		}
	}
	if ready == 0 {
		return ""
	}
	return "; its " + strconv.Itoa(ready) + " backups stay"
}
