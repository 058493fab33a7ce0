package client

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
	"nutshell/roles/internal/config"
)

// creditVerbs are the verbs of the object credit: what one has, what it went
// for, and how long it lasts. An administrator may name somebody else.
func (c *Client) creditVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("account", "your credits, what is held and charged, and until when they last", "[username]", showAccount),
		examples(c.verb("ledger", "each line of your ledger, newest first", "[username]", showLedger,
			&cli.IntFlag{Name: "limit", Value: 50, Usage: "so many lines"},
			&cli.Int64Flag{Name: "before", Usage: "lines before the one with this id"}),
			"nutshell credit ledger --limit 1000 -o json"),
	}
}

// whose is the user that a verb is about: the one that is named, or oneself.
func (r *call) whose() (string, error) {
	if name := r.arg("username"); name != "" {
		return name, nil
	}
	u, err := r.self()
	return u.Name, err
}

func showAccount(r *call) error {
	name, err := r.whose()
	if err != nil {
		return err
	}
	var a api.Account
	if err := r.get("/users/"+escape(name)+"/account", &a); err != nil {
		return err
	}
	return r.showAccount(a)
}

func (r *call) showAccount(a api.Account) error {
	return r.showText(a, func(w io.Writer) {
		until := ""
		switch {
		case a.PerHour == 0:
		case !a.Enforced:
			until = "no matter: this user's applications are only counted"
		case a.Exhausted != nil:
			until = when(*a.Exhausted)
		}
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		pairs(w, "user", a.User, "credit", number(a.Credit), "held", number(a.Held), "per hour", number(a.PerHour), "lasts until", until,
			"applications", used(number(int64(a.Used.Applications)), number(int64(a.Quota.Applications))),
			"instances", used(number(int64(a.Used.Instances)), number(int64(a.Quota.Instances))),
			"volumes", used(sizeOf(a.Used.VolumeBytes), strings.TrimPrefix(sizeOf(a.Quota.VolumeBytes), "0 KiB")))
	})
}

// used says how much of a quota is used; without one, only how much.
func used(n, quota string) string {
	if quota == "0" || quota == "" {
		return n
	}
	return n + " of " + quota
}

func showLedger(r *call) error {
	name, err := r.whose()
	if err != nil {
		return err
	}
	q := url.Values{"limit": {strconv.Itoa(r.Int("limit"))}}
	if n := r.Int64("before"); n != 0 {
		q.Set("before", strconv.FormatInt(n, 10))
	}
	var list []api.LedgerEntry
	if err := r.get("/users/"+escape(name)+"/ledger?"+q.Encode(), &list); err != nil {
		return err
	}
	t := &table{columns: []string{"id", "time", "amount", "balance", "kind", "for", "reason", "by"}, none: "Nothing yet"}
	for _, e := range list {
		what := e.Instance
		if what == "" && e.Application != 0 {
			what = "application " + strconv.FormatInt(e.Application, 10)
			if e.Service != 0 {
				what += ", service " + strconv.FormatInt(e.Service, 10)
			}
		}
		t.add(strconv.FormatInt(e.ID, 10), e.Time.Local().Format(time.DateTime), fmt.Sprintf("%+d", e.Amount), strconv.FormatInt(e.Balance, 10), e.Kind, what, e.Reason, e.Actor)
	}
	return r.show(list, t)
}

func addCredit(r *call) error {
	n, err := strconv.ParseInt(strings.TrimPrefix(r.arg("credit"), "+"), 10, 64)
	if err != nil {
		return usagef("%s is not a number of credits such as 10 or -10", api.Shorten(r.arg("credit")))
	}
	var a api.Account
	if err := r.send(http.MethodPost, "/users/"+escape(r.arg("username"))+"/credit", api.Grant{Amount: n, Reason: r.String("reason")}, &a); err != nil {
		return err
	}
	return r.showText(a, func(w io.Writer) { fmt.Fprintln(w, a.Credit) })
}

// setQuota changes the bounds that are named and leaves the others.
func setQuota(r *call) error {
	path := "/users/" + escape(r.arg("username"))
	var a api.Account
	if err := r.get(path+"/account", &a); err != nil {
		return err
	}
	q := a.Quota
	for name, to := range map[string]*int{"applications": &q.Applications, "instances": &q.Instances} {
		if r.IsSet(name) {
			*to = r.Int(name)
		}
	}
	if r.IsSet("volumes") {
		n, err := config.ParseSize(r.String("volumes"))
		if err != nil {
			return usagef("--volumes: %v", err)
		}
		q.VolumeBytes = int64(n)
	}
	if !r.IsSet("applications") && !r.IsSet("instances") && !r.IsSet("volumes") {
		return usagef("name at least one of --applications, --instances and --volumes")
	}
	if err := r.send(http.MethodPut, path+"/quota", q, &a); err != nil {
		return err
	}
	return r.showAccount(a)
}
