package mysql

import (
	"context"
	"io"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/services"
)

// The actions that stream.
const (
	actionLoad = "load_dump"
	actionDump = "dump"
)

func streamActions() []api.Action {
	return []api.Action{
		{Name: actionLoad, Title: "Load dump", Summary: "Carries out the SQL statements of a dump, as user mysqldb.", Takes: "an SQL dump, perhaps packed with gzip, zstd, bzip2 or xz",
			Params: []api.Parameter{{Name: "database", Help: "into which it goes; the one of the setting database, or those that the dump names, if it is missing"}}},
		{Name: actionDump, Title: "Make dump", Summary: "Gives all databases, or one, as SQL statements, as they were at one moment.", Gives: "dump.sql", Reads: true,
			Params: []api.Parameter{{Name: "database", Help: "only this one, so that it can be loaded into another; all if it is missing"}}},
	}
}

// Receive implements services.StreamAgent.
func (a *agent) Receive(ctx context.Context, name string, args map[string]string, r io.Reader) (api.ActResult, error) {
	s := a.server
	if a.told().Node == nil {
		return api.ActResult{}, api.Conflictf("instance %s holds no data", a.m.Address())
	}
	switch name {
	case actionLoad:
		return s.load(ctx, args, r)
	case services.StreamRestore:
		return s.stage(ctx, args, r)
	case services.StreamReplay:
		return s.replay(ctx, args, r)
	case services.StreamVerify:
		return s.verify(ctx, r)
	}
	return api.ActResult{}, api.NotFoundf("a database node takes no stream %s", api.Shorten(name))
}

// Send implements services.StreamAgent.
func (a *agent) Send(ctx context.Context, name string, args map[string]string, w io.Writer) (string, error) {
	s := a.server
	if a.told().Node == nil {
		return "", api.Conflictf("instance %s holds no data", a.m.Address())
	}
	switch name {
	case actionDump:
		return "", s.dump(ctx, args["database"], w)
	case services.StreamBackup:
		return s.backup(ctx, w)
	case services.StreamLog:
		return s.sendLog(ctx, args["after"], w)
	}
	return "", api.NotFoundf("a database node gives no stream %s", api.Shorten(name))
}

// dump writes what is in the databases as SQL, all of it as it was at one
// moment. Tables of the server itself are left out, and so are accounts.
func (s *server) dump(ctx context.Context, database string, w io.Writer) error {
	if err := s.caughtUp(ctx); err != nil {
		return err
	}
	file, err := s.access("dump.cnf")
	if err != nil {
		return err
	}
	args := []string{"--defaults-file=" + file, "--single-transaction", "--quick", "--routines", "--events", "--triggers", "--hex-blob", "--default-character-set=utf8mb4", "--max-allowed-packet=1G"}
	if database != "" {
		if err := checkDatabase(database); err != nil {
			return wrong(actionDump, "database", err)
		}
		if err := s.hasDatabase(ctx, database); err != nil {
			return err
		}
		args = append(args, "--", database)
	} else {
		list, err := s.listDatabases(ctx)
		if err != nil {
			return err
		}
		list = slices.DeleteFunc(list, func(d databaseInfo) bool { return strings.HasPrefix(d.Name, "#") })
		if len(list) == 0 {
			_, err := io.WriteString(w, "-- There is no database.\n")
			return err
		}
		args = append(args, "--databases", "--")
		for _, d := range list {
			args = append(args, d.Name)
		}
	}
	c, err := s.command(ctx, "mariadb-client", "mariadb-dump", args...)
	if err != nil {
		return err
	}
	c.cmd.Stdout = w
	return c.run(ctx)
}

// caughtUp waits until this node has all that was committed on any before.
func (s *server) caughtUp(ctx context.Context) error {
	conn, err := s.open().Conn(ctx)
	if err != nil {
		return explain("reach", "node "+s.m.Address(), err)
	}
	defer func() { _ = conn.Close() }()
	defer func() { _, _ = conn.ExecContext(ctx, "SET SESSION wsrep_sync_wait = 0") }() // it is used for other things
	if _, err := conn.ExecContext(ctx, "SET SESSION wsrep_sync_wait = 1"); err != nil {
		return explain("wait for", "node "+s.m.Address(), err)
	}
	var n int
	return explain("wait for", "node "+s.m.Address(), conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.SCHEMATA").Scan(&n))
}
