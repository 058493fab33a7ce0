package mysql

import (
	"context"
	"crypto/sha1" //nolint:gosec // what MariaDB's native passwords are made of
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"nutshell/roles/api"
)

// Errors of the server that are told apart.
const (
	errAccessDenied = 1045
	errNoDatabase   = 1008
	errDatabaseIs   = 1007
	errNoUser       = 1396
	errReadOnly     = 1238
)

// connect opens the server of a node by its socket. Values are always given as
// parameters, which the driver quotes.
func connect(socket, user, password string) *sql.DB {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "unix", socket, user, password
	c.InterpolateParams = true
	c.Timeout, c.ReadTimeout, c.WriteTimeout = 3*time.Second, 30*time.Second, 30*time.Second
	c.Collation = "utf8mb4_general_ci"
	c.AllowNativePasswords = true
	c.Logger = log.New(io.Discard, "", 0)                             // every error is returned, too
	c.Params = map[string]string{"sql_mode": "'STRICT_TRANS_TABLES'", // whatever users set; backslashes escape
		"wsrep_sync_wait": "0"} // a node that waits for others must still tell how it is
	connector, err := mysql.NewConnector(c)
	if err != nil {
		panic("mysql: " + err.Error()) // only for configurations that are wrong in themselves
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(1)
	db.SetConnMaxIdleTime(time.Minute)
	return db
}

// quoteName quotes an identifier.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// quotePattern quotes the name of a database where a pattern is meant.
func quotePattern(name string) string {
	return quoteName(strings.NewReplacer(`\`, `\\`, "_", `\_`, "%", `\%`).Replace(name))
}

// passwordHash is what the server keeps of a password. Sending it instead of
// the password keeps that out of logs and of the reach of quoting.
func passwordHash(password string) string {
	once := sha1.Sum([]byte(password)) //nolint:gosec // as above
	twice := sha1.Sum(once[:])         //nolint:gosec // as above
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// serverError is the number of an error that the server answered, or 0.
func serverError(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// explain makes an error for people of one of SQL's.
func explain(op, object string, err error) error {
	if err == nil {
		return nil
	}
	code := api.CodeInternal
	hint := ""
	switch serverError(err) {
	case errNoDatabase, errNoUser:
		code, hint = api.CodeNotFound, "list_databases and list_users show what there is"
	case errDatabaseIs:
		code = api.CodeConflict
	case 0, 1047: // not an answer, or no quorum
		code, hint = api.CodeUnavailable, "wait until the service is RUNNING, and try again"
	}
	return &api.Error{Code: code, Op: op, Object: object, Message: err.Error(), Hint: hint}
}

// status reads global status variables by a pattern.
func status(ctx context.Context, db *sql.DB, where string, args ...any) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, "SHOW GLOBAL STATUS WHERE "+where, args...) //nolint:gosec // our own constants
	if err != nil {
		return nil, fmt.Errorf("read the server's status: %w", err)
	}
	defer func() { _ = rows.Close() }()
	all := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, fmt.Errorf("read the server's status: %w", err)
		}
		all[strings.ToLower(name)] = value
	}
	return all, rows.Err()
}
