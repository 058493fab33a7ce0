package mysql

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"nutshell/roles/api"
)

// private is a server on restored data that nobody reaches but we: it has no
// network, no part in the cluster, and ends with the agent.
type private struct {
	s      *server
	c      *command
	dir    string
	socket string
	secret string
	db     *sql.DB
	ended  chan error
}

const (
	privateUser  = "nutshell-restore"
	privateStart = 5 * time.Minute
)

// startPrivate starts a private server on a data directory.
func (s *server) startPrivate(ctx context.Context, dir string) (*private, error) {
	p := &private{s: s, dir: dir, secret: rand.Text(), ended: make(chan error, 1)}
	name := strings.TrimPrefix(filepath.Ext(dir), ".") // "restored" or "trial"
	p.socket = filepath.Join(s.run, name+".sock")
	begin := filepath.Join(s.etc(), name+".sql")
	text := "CREATE OR REPLACE USER '" + privateUser + "'@localhost IDENTIFIED BY '" + p.secret + "';\nGRANT ALL PRIVILEGES ON *.* TO '" + privateUser + "'@localhost WITH GRANT OPTION;\n"
	if err := s.write(begin, []byte(text), 0o400); err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(begin) }()
	if err := removed(p.socket); err != nil {
		return nil, err
	}
	c, err := s.command(ctx, "mariadb-server", daemon, "--no-defaults", "--datadir="+dir, "--socket="+p.socket, "--pid-file="+filepath.Join(s.run, name+".pid"), "--tmpdir="+s.tmp(),
		"--skip-networking", "--skip-name-resolve", "--skip-log-bin", "--skip-slave-start", "--init-file="+begin, "--innodb-buffer-pool-size=32M", "--aria-pagecache-buffer-size=8M", "--key-buffer-size=1M", "--max-connections=10", "--innodb-flush-log-at-trx-commit=2",
		"--max-allowed-packet=1G", "--secure-file-priv="+s.tmp(), "--local-infile=0", "--character-set-server="+s.c.Settings.CharacterSet, "--performance-schema=OFF", "--table-open-cache=400")
	if err != nil {
		return nil, err
	}
	p.c = c
	if err := c.start(); err != nil {
		c.close()
		return nil, err
	}
	go func() { p.ended <- c.cmd.Wait() }()
	p.db = connect(p.socket, privateUser, p.secret)
	wait, cancel := context.WithTimeout(ctx, privateStart)
	defer cancel()
	for {
		if err := p.db.PingContext(wait); err == nil {
			return p, nil
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			p.close()
			return nil, c.explain(ctx, errors.Join(errors.New("the server ended"), err))
		case <-wait.Done():
			p.close()
			return nil, c.explain(ctx, errors.New("the server did not answer in "+privateStart.String()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop ends the server in order: all is on the disk then.
func (p *private) stop(ctx context.Context) error {
	if _, err := p.db.ExecContext(ctx, "DROP USER IF EXISTS '"+privateUser+"'@localhost"); err != nil {
		return explain("end", "the private server", err)
	}
	if err := p.c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, privateStart)
	defer cancel()
	select {
	case err := <-p.ended:
		p.ended <- err
		return p.c.explain(ctx, err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// own gives us the account by which we reach the server: the data has the
// passwords of its time, perhaps of another service.
func (p *private) own(ctx context.Context) error {
	for _, statement := range strings.Split(strings.TrimSuffix(p.s.ownAccount(), ";\n"), ";\n") {
		if _, err := p.db.ExecContext(ctx, statement); err != nil {
			return explain("set up", "account root", err)
		}
	}
	return nil
}

// tryOut has a server start on restored data, gives it our account, and
// completes it.
func (s *server) tryOut(ctx context.Context, dir string) error {
	p, err := s.startPrivate(ctx, dir)
	if err != nil {
		return err
	}
	defer p.close()
	if err := errors.Join(p.own(ctx), p.stop(ctx)); err != nil {
		return err
	}
	return s.complete(dir)
}

// close leaves nothing of it running.
func (p *private) close() {
	_ = p.db.Close()
	_ = p.c.cmd.Cancel() // gone already is well
	<-p.ended            //nolint:errcheck // killed
	p.c.close()
	_ = os.Remove(p.socket)
}

// replay repeats what changed after a backup on the staged data, up to a time,
// and completes it.
func (s *server) replay(ctx context.Context, args map[string]string, r io.Reader) (api.ActResult, error) {
	var none api.ActResult
	done, err := s.alone()
	if err != nil {
		return none, err
	}
	defer done()
	dir, logs := s.stagedData(), s.stagedData()+".log"
	defer func() { _ = os.RemoveAll(logs) }()
	if !exists(filepath.Join(dir, waitsFile)) {
		return none, &api.Error{Code: api.CodeConflict, Op: "restore", Object: "node " + s.m.Address(), Message: "there is no restored backup on which changes could be repeated", Hint: "restore again"}
	}
	if err := errors.Join(os.RemoveAll(logs), os.Mkdir(logs, 0o700), s.give(logs)); err != nil {
		return none, err
	}
	files, start, err := s.unpackLog(logs, r)
	if err == nil {
		err = os.Remove(filepath.Join(dir, waitsFile)) // half of the changes are of no use
	}
	if err == nil && len(files) > 0 {
		err = s.repeat(ctx, dir, files, start, args["until"])
	}
	if err == nil {
		err = s.tryOut(ctx, dir)
	}
	if err != nil {
		return none, errors.Join(err, os.RemoveAll(dir))
	}
	return api.ActResult{Text: fmt.Sprintf("%d files of the binary log repeated", len(files))}, nil
}

// repeat feeds files of the binary log to a private server.
func (s *server) repeat(ctx context.Context, dir string, files []string, start int64, until string) error {
	p, err := s.startPrivate(ctx, dir)
	if err != nil {
		return err
	}
	defer p.close()
	options := []string{"--no-defaults", fmt.Sprintf("--start-position=%d", start)}
	if until != "" {
		at, err := time.Parse(time.RFC3339, until)
		if err != nil {
			return api.Invalidf("%s is no time", api.Shorten(until))
		}
		options = append(options, "--stop-datetime="+at.UTC().Format(time.DateTime)) // whole seconds; the programs run in UTC
	}
	read, err := s.command(ctx, "mariadb-client", "mariadb-binlog", append(append(options, "--"), files...)...)
	if err != nil {
		return err
	}
	file := filepath.Join(s.etc(), "replay.cnf")
	if err := s.write(file, []byte("[client]\nuser="+privateUser+"\npassword="+p.secret+"\nsocket="+p.socket+"\n"), 0o400); err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	// In binary mode the client has no commands that a statement could call.
	carry, err := s.command(ctx, "mariadb-client", "mariadb", "--defaults-file="+file, "--binary-mode", "--batch", "--max-allowed-packet=1G")
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	read.cmd.Stdout, carry.cmd.Stdin = in, out
	failed := make(chan error, 1)
	go func() {
		err := carry.run(ctx)
		_ = out.Close() // the other one is not to wait for a reader that has ended
		failed <- err
	}()
	err = read.run(ctx)
	_ = in.Close()
	if carried := <-failed; carried != nil {
		return fmt.Errorf("repeat changes: %w", carried)
	}
	if err != nil {
		return fmt.Errorf("read changes: %w", err)
	}
	return p.stop(ctx)
}

// verify makes data of a backup and looks at all that is in it.
func (s *server) verify(ctx context.Context, r io.Reader) (api.ActResult, error) {
	done, err := s.alone()
	if err != nil {
		return api.ActResult{}, err
	}
	defer done()
	dir := s.trialData()
	if err := os.RemoveAll(dir); err != nil {
		return api.ActResult{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	began := time.Now()
	h, err := s.unpackBackup(ctx, dir, r)
	if err != nil {
		return api.ActResult{}, err
	}
	p, err := s.startPrivate(ctx, dir)
	if err != nil {
		return api.ActResult{}, err
	}
	defer p.close()
	f, err := p.examine(ctx)
	if err != nil {
		return api.ActResult{}, err
	}
	text := fmt.Sprintf("%d tables in %d databases with %d rows, none damaged; MariaDB %s, %s; it took %s", f.tables, f.databases, f.rows, h.Server, mebibytes(h.Bytes), time.Since(began).Round(100*time.Millisecond))
	return api.ActResult{Text: text}, nil
}

// findings are what examine counted.
type findings struct {
	databases, tables int
	rows              int64
}

// examine reads every table from its beginning to its end.
func (p *private) examine(ctx context.Context) (findings, error) {
	var f findings
	rows, err := p.db.QueryContext(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema') ORDER BY 1, 2")
	if err != nil {
		return f, explain("try", "the backup", err)
	}
	defer func() { _ = rows.Close() }()
	var names [][2]string
	for rows.Next() {
		var n [2]string
		if err := rows.Scan(&n[0], &n[1]); err != nil {
			return f, explain("try", "the backup", err)
		}
		names = append(names, n)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return f, explain("try", "the backup", err)
	}
	last := ""
	for _, n := range names {
		own := slices.Contains(reservedDatabases, n[0])
		if err := p.check(ctx, n); err != nil {
			return f, err
		}
		if own {
			continue
		}
		var count int64
		if err := p.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+quoteName(n[0])+"."+quoteName(n[1])).Scan(&count); err != nil {
			return f, explain("try", "table "+n[0]+"."+n[1], err)
		}
		if n[0] != last {
			f.databases, last = f.databases+1, n[0]
		}
		f.tables++
		f.rows += count
	}
	return f, nil
}

func (p *private) check(ctx context.Context, n [2]string) error {
	rows, err := p.db.QueryContext(ctx, "CHECK TABLE "+quoteName(n[0])+"."+quoteName(n[1]))
	if err != nil {
		return explain("try", "table "+n[0]+"."+n[1], err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var table, op, kind, text string
		if err := rows.Scan(&table, &op, &kind, &text); err != nil {
			return explain("try", "table "+n[0]+"."+n[1], err)
		}
		if strings.EqualFold(kind, "error") || kind == "status" && text != "OK" && !strings.Contains(text, "doesn't support check") {
			return &api.Error{Code: api.CodeInvalid, Op: "try", Object: "table " + n[0] + "." + n[1], Message: text, Hint: "the backup is damaged; use another"}
		}
	}
	return explain("try", "table "+n[0]+"."+n[1], rows.Err())
}
