package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nutshell/roles/api"
)

// The accounts that every service has. They are set as they should be whenever
// the service is configured, on the node that takes writes; replication brings
// them to the others.

// ownerRights are those of mysqldb: all that concerns data and accounts, and
// none that opens files of the node, ends the server or changes replication.
const ownerRights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, EXECUTE, CREATE VIEW, SHOW VIEW, " +
	"CREATE ROUTINE, ALTER ROUTINE, EVENT, TRIGGER, CREATE USER, SHOW DATABASES, PROCESS, BINLOG MONITOR"

// copyRights are what mariadb-backup needs.
const copyRights = "RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICA MONITOR"

type account struct {
	name, host, secret, rights string
	grants                     bool
}

var accounts = []account{
	{"sst", "localhost", secretSST, copyRights, false},
	{"health", "localhost", secretHealth, "USAGE", false},
	{"mysqldb", "%", secretPassword, ownerRights, true},
}

// settle makes accounts and the database of the settings as they should be.
func (s *server) settle(ctx context.Context) error {
	db := s.open()
	for _, a := range accounts {
		if err := ensure(ctx, db, a, passwordHash(s.c.Secrets[a.secret])); err != nil {
			return explain("set up", "account "+a.name, err)
		}
	}
	if name := s.c.Settings.Database; name != "" {
		if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+quoteName(name)); err != nil {
			return explain("create", "database "+name, err)
		}
	}
	return nil
}

// ensure makes an account, or gives it the password and rights it should have.
// It changes nothing where all is well, because each change stops all nodes for
// a moment.
func ensure(ctx context.Context, db *sql.DB, a account, hash string) error {
	var now string
	var rights int64
	err := db.QueryRowContext(ctx, "SELECT COALESCE(JSON_VALUE(Priv, '$.authentication_string'), ''), COALESCE(JSON_VALUE(Priv, '$.access'), 0) FROM mysql.global_priv WHERE User = ? AND Host = ?",
		a.name, a.host).Scan(&now, &rights)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	who := quoteName(a.name) + "@" + quoteName(a.host)
	if err != nil {
		if _, err := db.ExecContext(ctx, "CREATE USER "+who+" IDENTIFIED BY PASSWORD ?", hash); err != nil {
			return err
		}
	} else if now != hash {
		if _, err := db.ExecContext(ctx, "ALTER USER "+who+" IDENTIFIED BY PASSWORD ?", hash); err != nil {
			return err
		}
	}
	if rights != 0 || a.rights == "USAGE" {
		return nil
	}
	grant := "GRANT " + a.rights + " ON *.* TO " + who //nolint:gosec // our own words, and a quoted name
	if a.grants {
		grant += " WITH GRANT OPTION"
	}
	_, err = db.ExecContext(ctx, grant)
	return err
}

// databaseInfo is one database as list_databases tells it.
type databaseInfo struct {
	Name   string `json:"name"`
	Tables int    `json:"tables"`
	Bytes  int64  `json:"bytes"`
}

// userInfo is one account as list_users tells it.
type userInfo struct {
	Name      string   `json:"name"`
	Host      string   `json:"host"`
	Databases []string `json:"databases"`
}

// order is what the manager half asks a node to do with databases and accounts.
type order struct {
	Name     string `json:"name"`
	Database string `json:"database"`
	Password string `json:"password"`
}

func (s *server) createDatabase(ctx context.Context, o order) error {
	_, err := s.open().ExecContext(ctx, "CREATE DATABASE "+quoteName(o.Name))
	return explain("create", "database "+o.Name, err)
}

func (s *server) deleteDatabase(ctx context.Context, o order) error {
	_, err := s.open().ExecContext(ctx, "DROP DATABASE "+quoteName(o.Name))
	return explain("delete", "database "+o.Name, err)
}

func (s *server) listDatabases(ctx context.Context) ([]databaseInfo, error) {
	rows, err := s.open().QueryContext(ctx, `SELECT s.SCHEMA_NAME, COUNT(t.TABLE_NAME), COALESCE(SUM(t.DATA_LENGTH + t.INDEX_LENGTH), 0)
		FROM information_schema.SCHEMATA s LEFT JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = s.SCHEMA_NAME GROUP BY s.SCHEMA_NAME ORDER BY s.SCHEMA_NAME`)
	if err != nil {
		return nil, explain("list", "databases", err)
	}
	defer func() { _ = rows.Close() }()
	list := []databaseInfo{}
	for rows.Next() {
		var d databaseInfo
		if err := rows.Scan(&d.Name, &d.Tables, &d.Bytes); err != nil {
			return nil, explain("list", "databases", err)
		}
		if !slices.Contains(reservedDatabases, strings.ToLower(d.Name)) {
			list = append(list, d)
		}
	}
	return list, explain("list", "databases", rows.Err())
}

// createUser makes an account, which owns one database if one is named.
func (s *server) createUser(ctx context.Context, o order) error {
	db := s.open()
	who := quoteName(o.Name) + "@" + quoteName("%")
	if o.Database != "" {
		if err := s.hasDatabase(ctx, o.Database); err != nil {
			return err
		}
	}
	if _, err := db.ExecContext(ctx, "CREATE USER "+who+" IDENTIFIED BY PASSWORD ?", passwordHash(o.Password)); err != nil {
		if serverError(err) == errNoUser {
			return &api.Error{Code: api.CodeConflict, Op: "create", Object: "user " + o.Name, Message: "there is such a user already", Hint: "set_user_password changes its password"}
		}
		return explain("create", "user "+o.Name, err)
	}
	if o.Database == "" {
		return nil
	}
	_, err := db.ExecContext(ctx, "GRANT ALL PRIVILEGES ON "+quotePattern(o.Database)+".* TO "+who)
	if err != nil {
		_, undo := db.ExecContext(context.WithoutCancel(ctx), "DROP USER IF EXISTS "+who)
		err = errors.Join(err, undo)
	}
	return explain("create", "user "+o.Name, err)
}

func (s *server) hasDatabase(ctx context.Context, name string) error {
	var n int
	err := s.open().QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", name).Scan(&n)
	if err == nil && n == 0 {
		return &api.Error{Code: api.CodeNotFound, Op: "find", Object: "database " + name, Message: "there is no such database", Hint: "create_database makes one", Fields: []string{"database"}}
	}
	return explain("find", "database "+name, err)
}

func (s *server) deleteUser(ctx context.Context, o order) error {
	_, err := s.open().ExecContext(ctx, "DROP USER "+quoteName(o.Name)+"@"+quoteName("%"))
	return explain("delete", "user "+o.Name, err)
}

func (s *server) setUserPassword(ctx context.Context, o order) error {
	_, err := s.open().ExecContext(ctx, "ALTER USER "+quoteName(o.Name)+"@"+quoteName("%")+" IDENTIFIED BY PASSWORD ?", passwordHash(o.Password))
	return explain("set the password of", "user "+o.Name, err)
}

func (s *server) listUsers(ctx context.Context) ([]userInfo, error) {
	rows, err := s.open().QueryContext(ctx, `SELECT u.User, u.Host, COALESCE(d.Db, '') FROM mysql.global_priv u LEFT JOIN mysql.db d ON d.User = u.User AND d.Host = u.Host
		WHERE COALESCE(JSON_VALUE(u.Priv, '$.is_role'), 0) = 0 ORDER BY u.User, u.Host, d.Db`)
	if err != nil {
		return nil, explain("list", "users", err)
	}
	defer func() { _ = rows.Close() }()
	list := []userInfo{}
	for rows.Next() {
		var name, host, db string
		if err := rows.Scan(&name, &host, &db); err != nil {
			return nil, explain("list", "users", err)
		}
		if slices.Contains(reservedUsers, strings.ToLower(name)) && name != "mysqldb" {
			continue
		}
		if n := len(list); n == 0 || list[n-1].Name != name || list[n-1].Host != host {
			list = append(list, userInfo{Name: name, Host: host, Databases: []string{}})
		}
		if db != "" {
			u := &list[len(list)-1]
			u.Databases = append(u.Databases, strings.NewReplacer(`\_`, "_", `\%`, "%", `\\`, `\`).Replace(db))
		}
	}
	return list, explain("list", "users", rows.Err())
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }
