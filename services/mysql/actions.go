package mysql

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"nutshell/roles/api"
)

func actions() []api.Action {
	name := func(of string) api.Parameter {
		return api.Parameter{Name: "name", Help: "of the " + of, Required: true}
	}
	password := api.Parameter{Name: "password", Help: "of the user; a random one that is shown this once if it is missing"}
	return []api.Action{
		{Name: "set_password", Title: "Set password", Summary: "Sets the password of user mysqldb, or a random one that is shown once.", Secret: secretPassword,
			Params: []api.Parameter{{Name: "password", Help: "8 characters at least; a random one if it is missing"}}},
		{Name: "connect", Title: "How to connect", Summary: "Shows the command line that connects the mysql client, to copy.", Reads: true},
		{Name: "get_ca", Title: "Show certificate authority", Summary: "Gives the certificate by which clients know the nodes, as PEM.", Reads: true},
		{Name: "status", Title: "Status", Summary: "Shows each node: role, state, load, and how far it is behind.", Reads: true},
		{Name: "create_database", Title: "Create database", Summary: "Makes an empty database.", Params: []api.Parameter{name("database")}},
		{Name: "delete_database", Title: "Delete database", Summary: "Deletes a database with all that it holds.",
			Params: []api.Parameter{name("database"), {Name: "confirm", Help: "the name once more", Required: true}}},
		{Name: "list_databases", Title: "List databases", Summary: "Shows databases with their tables and sizes.", Reads: true},
		{Name: "create_user", Title: "Create user", Summary: "Makes a user, with all rights on one database if it is named.",
			Params: []api.Parameter{name("user"), {Name: "database", Help: "that is the user's; none if it is missing"}, password}},
		{Name: "delete_user", Title: "Delete user", Summary: "Deletes a user. What it made stays.", Params: []api.Parameter{name("user")}},
		{Name: "set_user_password", Title: "Set user's password", Summary: "Sets the password of a user other than mysqldb.", Params: []api.Parameter{name("user"), password}},
		{Name: "list_users", Title: "List users", Summary: "Shows users and the databases that are theirs.", Reads: true},
		{Name: "force_bootstrap", Title: "Give up missing data", Summary: "Begins the cluster with the newest data that can be found, when a volume is gone for good. What only that volume had is lost.",
			Params: []api.Parameter{{Name: "confirm", Help: "yes", Required: true, Enum: []string{"yes"}}}},
	}
}

// Act implements services.Manager.
func (m *manager) Act(ctx context.Context, action string, args map[string]string) (api.ActResult, error) {
	o := order{Name: args["name"], Database: args["database"], Password: args["password"]}
	switch action {
	case "connect":
		return m.connect()
	case "get_ca":
		return m.authority()
	case "status":
		return m.status(ctx)
	case "force_bootstrap":
		return m.forceBegin(ctx, args["confirm"])
	case "create_database", "delete_database":
		return m.changeDatabase(ctx, action, o, args["confirm"])
	case "create_user", "set_user_password", "delete_user":
		return m.changeUser(ctx, action, o)
	case "list_databases":
		return m.listDatabases(ctx)
	case "list_users":
		return m.listUsers(ctx)
	}
	return api.ActResult{}, api.Invalidf("mysql has no action %s", api.Shorten(action))
}

// atWriter asks the node that takes writes.
func (m *manager) atWriter(ctx context.Context, method string, o order, result any) error {
	all := m.look(ctx, holding(m.host.Instances(), database))
	writer := m.chosen(all, nil)
	if writer == "" {
		return &api.Error{Code: api.CodeUnavailable, Op: method, Message: "no database node is fit", Hint: "wait until the service is RUNNING"}
	}
	return m.host.Call(ctx, writer, method, o, result)
}

func wrong(op, field string, err error) error {
	return &api.Error{Code: api.CodeInvalid, Op: op, Object: field, Message: err.Error(), Fields: []string{field}}
}

func (m *manager) changeDatabase(ctx context.Context, action string, o order, confirm string) (api.ActResult, error) {
	if err := checkDatabase(o.Name); err != nil {
		return api.ActResult{}, wrong(action, "name", err)
	}
	done := "created"
	if action == "delete_database" {
		done = "deleted"
		s, err := parseSettings(m.host.Service().Service.Settings)
		if err != nil {
			return api.ActResult{}, err
		}
		if o.Name == s.Database {
			return api.ActResult{}, &api.Error{Code: api.CodeConflict, Op: action, Object: "database " + o.Name, Message: "it is the one of the setting database, which always exists", Hint: "change that setting first"}
		}
		if confirm != o.Name {
			return api.ActResult{}, &api.Error{Code: api.CodeInvalid, Op: action, Object: "database " + o.Name, Message: "all that it holds would be lost", Hint: "give its name once more as confirm", Fields: []string{"confirm"}}
		}
	}
	if err := m.atWriter(ctx, action, o, nil); err != nil {
		return api.ActResult{}, err
	}
	return api.ActResult{Text: "database " + o.Name + " " + done}, nil
}

func (m *manager) changeUser(ctx context.Context, action string, o order) (api.ActResult, error) {
	if err := checkUser(o.Name); err != nil {
		return api.ActResult{}, wrong(action, "name", err)
	}
	if o.Database != "" {
		if err := checkDatabase(o.Database); err != nil {
			return api.ActResult{}, wrong(action, "database", err)
		}
	}
	random := o.Password == "" && action != "delete_user"
	if random {
		o.Password = rand.Text()
	} else if action != "delete_user" {
		if err := checkPassword(o.Password); err != nil {
			return api.ActResult{}, err
		}
	}
	if err := m.atWriter(ctx, action, o, nil); err != nil {
		return api.ActResult{}, err
	}
	text := map[string]string{"create_user": "user %s created", "set_user_password": "password of user %s set", "delete_user": "user %s deleted"}[action]
	text = fmt.Sprintf(text, o.Name)
	if random {
		text += "; its password, shown this once: " + o.Password
	}
	return api.ActResult{Text: text}, nil
}

// table lays out rows for people.
func table(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(r, "\t")) // builders take all
	}
	_ = w.Flush()
	return strings.TrimRight(b.String(), "\n")
}

func (m *manager) listDatabases(ctx context.Context) (api.ActResult, error) {
	var list []databaseInfo
	if err := m.atWriter(ctx, "list_databases", order{}, &list); err != nil {
		return api.ActResult{}, err
	}
	rows := [][]string{{"DATABASE", "TABLES", "SIZE"}}
	for _, d := range list {
		rows = append(rows, []string{d.Name, strconv.Itoa(d.Tables), mebibytes(d.Bytes)})
	}
	b, err := json.Marshal(map[string]any{"databases": list})
	return api.ActResult{Text: table(rows), Result: b}, err
}

func (m *manager) listUsers(ctx context.Context) (api.ActResult, error) {
	var list []userInfo
	if err := m.atWriter(ctx, "list_users", order{}, &list); err != nil {
		return api.ActResult{}, err
	}
	rows := [][]string{{"USER", "FROM", "DATABASES"}}
	for _, u := range list {
		on := strings.Join(u.Databases, ", ")
		if u.Name == "mysqldb" {
			on = "all"
		}
		rows = append(rows, []string{u.Name, u.Host, on})
	}
	b, err := json.Marshal(map[string]any{"users": list})
	return api.ActResult{Text: table(rows), Result: b}, err
}

// connect tells how to come in. Nothing in it is secret.
func (m *manager) connect() (api.ActResult, error) {
	o := m.Offers()
	if o["host"] == "" {
		return api.ActResult{}, &api.Error{Code: api.CodeUnavailable, Op: "connect", Message: "the database is not ready yet"}
	}
	line := fmt.Sprintf("mysql --host=%s --port=%s --user=%s --password %s", o["host"], o["port"], o["user"], shellWord(o["database"]))
	line = strings.TrimSpace(line)
	u := url.URL{Scheme: "mysql", User: url.User(o["user"]), Host: net.JoinHostPort(o["host"], o["port"]), Path: "/" + o["database"]}
	text := line + "\n\nIt asks for the password, which is shown once, and which set_password changes.\nTo check who answers: write what get_ca gives to a file ca.pem and add --ssl-ca=ca.pem"
	if o["read_port"] != o["port"] || o["read_host"] != o["host"] {
		text += fmt.Sprintf("\nTo read only: --host=%s --port=%s", o["read_host"], o["read_port"])
	}
	b, err := json.Marshal(map[string]string{"command": line, "url": u.String()})
	return api.ActResult{Text: text, Result: b}, err
}

// shellWord quotes a word for shells.
func shellWord(text string) string {
	if text == "" || !strings.ContainsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", r)
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (m *manager) authority() (api.ActResult, error) {
	d := m.host.Service()
	a, err := newAuthority(d.Secrets[secretCA], fmt.Sprintf("nutshell-%d", d.Service.ID))
	if err != nil {
		return api.ActResult{}, err
	}
	return api.ActResult{Text: strings.TrimSpace(string(a.pem))}, nil
}

// nodeRow is one node of the status table.
type nodeRow struct {
	Instance string `json:"instance"`
	Address  string `json:"address"`
	Role     string `json:"role"` // writer, reader, joiner
	State    string `json:"state"`
	Problem  string `json:"problem,omitempty"`
	figures
	api.Figures
}

func (m *manager) status(ctx context.Context) (api.ActResult, error) {
	nodes := holding(m.host.Instances(), database)
	all := m.look(ctx, nodes)
	writer := m.chosen(all, nil)
	list := []nodeRow{}
	rows := [][]string{{"NODE", "ROLE", "STATE", "CPU", "MEMORY", "QUERIES/S", "CONNECTIONS", "MISALIGNMENT", "PAUSED", "DATA"}}
	for _, s := range all {
		r := nodeRow{Instance: s.ID, Address: s.Address, Role: "joiner", State: s.State.State, Problem: s.State.Problem + s.Error, figures: s.State.Figures}
		switch {
		case s.ID == writer:
			r.Role = "writer"
		case s.synced():
			r.Role = "reader"
		}
		if st, err := m.host.Status(ctx, s.ID); err == nil {
			r.Figures = st.Figures
		}
		list = append(list, r)
		rows = append(rows, []string{s.ID, r.Role, r.State, fmt.Sprintf("%.0f %%", r.CPUPercent), mebibytes(r.MemoryBytes), fmt.Sprintf("%.1f", r.Queries), strconv.Itoa(r.Connections),
			fmt.Sprintf("%.2f", r.Queue), fmt.Sprintf("%.1f %%", 100*r.Paused), mebibytes(r.DataBytes)})
	}
	m.mu.Lock()
	note := m.warned
	m.mu.Unlock()
	text := table(rows)
	if note != "" {
		text += "\n\n" + note
	}
	b, err := json.Marshal(map[string]any{"nodes": list, "note": note})
	return api.ActResult{Text: text, Result: b}, err
}

// forceBegin lets the next look begin with what there is.
func (m *manager) forceBegin(ctx context.Context, confirm string) (api.ActResult, error) {
	if confirm != "yes" {
		return api.ActResult{}, &api.Error{Code: api.CodeInvalid, Op: "force_bootstrap", Message: "what only a missing volume has would be lost", Hint: "say confirm=yes", Fields: []string{"confirm"}}
	}
	nodes := holding(m.host.Instances(), database)
	all := m.look(ctx, nodes)
	if primary(all) {
		return api.ActResult{}, api.Conflictf("the cluster has quorum; there is nothing to force")
	}
	if i := slices.IndexFunc(all, func(s seen) bool { return s.Error != "" }); i >= 0 {
		return api.ActResult{}, &api.Error{Code: api.CodeConflict, Op: "force_bootstrap", Object: "instance " + all[i].ID, Message: "it does not answer, and may go on alone", Hint: "remove it first"}
	}
	m.mu.Lock()
	m.force = true
	m.mu.Unlock()
	return api.ActResult{Text: "the cluster begins with the newest data that can be found"}, nil
}
