package director

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// AuditQuery chooses lines of the audit.
type AuditQuery struct {
	Actor  string `query:"actor" doc:"who asked"`
	Action string `query:"action" doc:"service.scale, say, or service for all that begin so"`
	Object string `query:"object" doc:"the beginning of a path, such as /applications/3"`
	Result string `query:"result" doc:"ok, refused for all others, or a code such as forbidden"`
	Since  string `query:"since" doc:"RFC 3339, or a span back such as 24h or 7d"`
	Until  string `query:"until" doc:"RFC 3339, or a span back such as 1h"`
	Before int64  `query:"before" doc:"id of a line: only older ones"`
}

func (q AuditQuery) filter(now time.Time, limit int) (store.AuditFilter, error) {
	f := store.AuditFilter{Actor: q.Actor, Action: q.Action, Object: q.Object, Result: q.Result, Before: q.Before, Limit: limit}
	var err error
	if f.Since, err = moment("since", q.Since, now, time.Time{}); err == nil {
		f.Until, err = moment("until", q.Until, now, time.Time{})
	}
	return f, err
}

func (d *Director) audit(ctx context.Context, in *struct {
	AuditQuery
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}) ([]api.AuditEntry, error) {
	f, err := in.filter(d.c.Now(), in.Limit)
	if err != nil {
		return nil, err
	}
	return d.store.Audit(ctx, f)
}

// auditOf is the audit of one application, for its owner. Paths name it by its
// number or by its name.
func (d *Director) auditOf(ctx context.Context, in *struct {
	ApplicationPath
	AuditQuery
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}) ([]api.AuditEntry, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return nil, err
	}
	f, err := in.filter(d.c.Now(), 0)
	if err != nil {
		return nil, err
	}
	numbered, named := "/applications/"+strconv.FormatInt(a.ID, 10), "/applications/"+a.Name
	f.Of = []string{numbered, named}
	rows, err := d.store.Audit(ctx, f)
	if err != nil {
		return nil, err
	}
	members, err := d.store.Members(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	// A number means the same to everybody, a name only to those who reach this
	// application by it.
	people := map[string]bool{a.Owner: true}
	for _, m := range members {
		theirs, err := d.store.Application(ctx, m.User, a.Name)
		people[m.Member.User] = err == nil && theirs.ID == a.ID
	}
	list := []api.AuditEntry{}
	for _, e := range rows {
		byNumber := e.Object == numbered || strings.HasPrefix(e.Object, numbered+"/")
		if (byNumber || people[e.Actor]) && len(list) < in.Limit {
			list = append(list, e)
		}
	}
	return list, nil
}

// mostAudit is how many lines are exported at most.
const mostAudit = 100_000

// exportAudit sends the audit as a file.
func (d *Director) exportAudit(ctx context.Context, in *struct {
	AuditQuery
	Format string `query:"format" enum:"csv,jsonl" default:"csv"`
}) (*httpapi.Stream, error) {
	f, err := in.filter(d.c.Now(), mostAudit)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.Audit(ctx, f)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	kind := "text/csv; charset=utf-8"
	if in.Format == "jsonl" {
		kind = "application/jsonl"
		e := json.NewEncoder(&b)
		for _, r := range rows {
			if err := e.Encode(r); err != nil {
				return nil, err
			}
		}
	} else {
		w := csv.NewWriter(&b)
		_ = w.Write([]string{"id", "time", "actor", "from", "action", "object", "result"})
		for _, r := range rows {
			_ = w.Write([]string{strconv.FormatInt(r.ID, 10), r.Time.Format(time.RFC3339Nano), plainCell(r.Actor), r.From, r.Action, plainCell(r.Object), r.Result})
		}
		if w.Flush(); w.Error() != nil {
			return nil, w.Error()
		}
	}
	name := fmt.Sprintf("audit-%s.%s", d.c.Now().UTC().Format("20060102-150405"), in.Format)
	return &httpapi.Stream{Type: kind, Filename: name, Size: int64(b.Len()), Read: text(b.String())}, nil
}

// plainCell keeps a spreadsheet from taking what somebody sent for a formula.
func plainCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
