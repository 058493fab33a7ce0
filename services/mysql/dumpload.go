package mysql

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"nutshell/roles/api"
)

const (
	longestStatement = 64 << 20
	zstdWindow       = 128 << 20 // zstd --long
	loadRetries      = 5         // of a statement that lost against another client's
)

// unpack reads what a dump is packed with, if it is.
func unpack(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	head, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) && len(head) == 0 { // else it comes again when those have been read
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(in), nil
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xz.ReaderConfig{DictCap: 64 << 20}.NewReader(in)
	}
	return in, nil
}

// foreign are beginnings of files that people take for dumps.
var foreign = []struct{ head, what string }{
	{"PK\x03\x04", "a zip file: unpack it first"}, {"PGDMP", "a dump of PostgreSQL"}, {"SQLite format 3", "a database of SQLite"}, {"-- PostgreSQL database dump", "a dump of PostgreSQL"},
	{"\xff\xfe", "text in UTF-16: save it as UTF-8"}, {"\xfe\xff", "text in UTF-16: save it as UTF-8"}, {"<!DOCTYPE", "a page of HTML"}, {"<html", "a page of HTML"}, {"7z\xbc\xaf", "a 7-zip file: unpack it first"},
}

// recognise refuses what is no text, and goes over the mark of UTF-8.
func recognise(in *bufio.Reader) error {
	head, err := in.Peek(8 << 10)
	if err != nil && !errors.Is(err, io.EOF) && len(head) == 0 {
		return err
	}
	what := ""
	for _, f := range foreign {
		if bytes.HasPrefix(head, []byte(f.head)) || bytes.HasPrefix(bytes.TrimLeft(head, "- \r\n"), []byte(strings.TrimLeft(f.head, "- "))) {
			what = f.what
		}
	}
	switch {
	case len(head) == 0:
		what = "an empty file"
	case what == "" && len(head) >= 262 && string(head[257:262]) == "ustar":
		what = "a tar archive: unpack it first"
	case what == "" && bytes.IndexByte(head, 0) >= 0:
		what = "a binary file"
	}
	if what != "" {
		return &api.Error{Code: api.CodeInvalid, Op: "load dump", Message: "this is no SQL dump but " + what, Hint: "nothing was loaded"}
	}
	if bytes.HasPrefix(head, []byte("\xef\xbb\xbf")) {
		_, err = in.Discard(3)
		return err
	}
	return nil
}

// loader loads one dump, as the account mysqldb: it can do what its owner can.
type loader struct {
	conn    *sql.Conn
	split   *splitter
	current string // database
	named   string // by whom loads; empty: the dump decides
	done    int64
	left    map[string]int // what was left out, and how often
}

// load sends the statements of a dump one by one.
func (s *server) load(ctx context.Context, args map[string]string, r io.Reader) (api.ActResult, error) {
	plain, err := unpack(r)
	if err != nil {
		return api.ActResult{}, damaged(err)
	}
	in := bufio.NewReaderSize(plain, 64<<10)
	if err := recognise(in); err != nil {
		return api.ActResult{}, damaged(err)
	}
	limit, err := s.widen(ctx)
	if err != nil {
		return api.ActResult{}, err
	}
	l := &loader{split: newSplitter(in, limit), named: args["database"], left: map[string]int{}}
	l.current = l.named
	if l.named != "" {
		if err := s.hasDatabase(ctx, l.named); err != nil {
			return api.ActResult{}, err
		}
	} else if name := s.c.Settings.Database; name != "" && s.hasDatabase(ctx, name) == nil {
		l.current = name
	}
	db := s.loading(l.current)
	defer func() { _ = db.Close() }()
	if l.conn, err = db.Conn(ctx); err != nil {
		return api.ActResult{}, explain("load", "dump", err)
	}
	defer func() { _ = l.conn.Close() }()
	began := time.Now()
	if err := l.run(ctx); err != nil {
		return api.ActResult{}, err
	}
	return api.ActResult{Text: l.summary(time.Since(began))}, nil
}

// widen lets the server take statements as long as dumps have them, and
// answers how long they may be.
func (s *server) widen(ctx context.Context) (int, error) {
	var now int64
	if err := s.open().QueryRowContext(ctx, "SELECT @@global.max_allowed_packet").Scan(&now); err != nil {
		return 0, explain("load", "dump", err)
	}
	if now < longestStatement {
		if _, err := s.open().ExecContext(ctx, "SET GLOBAL max_allowed_packet = ?", longestStatement); err != nil {
			return 0, explain("load", "dump", err)
		}
	}
	return longestStatement - 1024, nil
}

// loading connects as the owner of all databases.
func (s *server) loading(name string) *sql.DB {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "unix", s.socket(), "mysqldb", s.c.Secrets[secretPassword], name
	c.Timeout, c.Collation, c.AllowNativePasswords, c.MaxAllowedPacket = 5*time.Second, "utf8mb4_general_ci", true, longestStatement
	c.Logger = log.New(io.Discard, "", 0) // every error is returned, too
	c.Params = map[string]string{"wsrep_sync_wait": "0", "max_statement_time": "0", "innodb_strict_mode": "0", "net_read_timeout": "3600", "wait_timeout": "86400"}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		panic("mysql: " + err.Error()) // only for configurations that are wrong in themselves
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db
}

func (l *loader) run(ctx context.Context) error {
	for {
		st, err := l.split.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return l.broken(err)
		}
		if st.cut && l.split.header {
			return l.incomplete(st.line)
		}
		if err := l.one(ctx, st); err != nil {
			return err
		}
	}
	if l.split.header && !l.split.completed {
		return l.incomplete(l.split.line)
	}
	if l.done == 0 && len(l.left) == 0 {
		return &api.Error{Code: api.CodeInvalid, Op: "load dump", Message: "there is no statement in it"}
	}
	return nil
}

func (l *loader) incomplete(line int) error {
	return l.split.refuse(line, `it ends without "Dump completed": it was broken off`, "what stands before is loaded; make the dump again, and load the whole")
}

// one carries out one statement.
func (l *loader) one(ctx context.Context, st statement) error {
	head := headOf(st.text)
	if name, ok := used(head); ok {
		if l.named != "" && !strings.EqualFold(name, l.named) {
			return l.split.refuse(st.line, "the dump itself chooses database "+name+", and you named "+l.named, "load it without naming one")
		}
		if l.current = name; slices.Contains(reservedDatabases, strings.ToLower(name)) {
			l.left["tables of the server's own database "+strings.ToLower(name)]++
			return nil
		}
	} else if slices.Contains(reservedDatabases, strings.ToLower(l.current)) && !createsBase.MatchString(head) {
		return nil // until another database is chosen
	}
	switch judge(head) {
	case leaveOut:
		return nil
	case noAccounts:
		l.left["statements on accounts (create_user makes users)"]++
		return nil
	case systemData:
		if l.split.header {
			l.left["statements on the server's own tables"]++
			return nil
		}
		return l.split.refuse(st.line, "it would change the server's own tables", "what stands before is loaded; take that statement out of the dump")
	case sendIt:
	}
	if err := l.send(ctx, st, head); err != nil {
		return err
	}
	l.done++
	return l.follow(ctx, st, head)
}

// send sends a statement, again when it lost against another client's.
func (l *loader) send(ctx context.Context, st statement, head string) error {
	text := string(adapt(st.text, head, l.split.plain))
	for try := 0; ; try++ {
		_, err := l.conn.ExecContext(ctx, text)
		if n := serverError(err); (n == 1213 || n == 1205) && try < loadRetries {
			continue
		}
		if err != nil {
			return l.failed(ctx, st, head, err)
		}
		return nil
	}
}

var (
	setsMode    = regexp.MustCompile(`(?i)\bSQL_MODE\b`)
	setsCharset = regexp.MustCompile(`(?i)\b(?:NAMES|CHARACTER\s+SET|CHARSET|CHARACTER_SET_CLIENT)\b`)
	// hardCharsets have backslashes within characters: where a string ends in them only
	// who knows them can tell.
	hardCharsets = []string{"big5", "cp932", "gbk", "sjis", "gb18030"}
)

// follow takes over what a statement has changed of how the next are read.
func (l *loader) follow(ctx context.Context, st statement, head string) error {
	if !strings.HasPrefix(strings.ToUpper(head), "SET") {
		return nil
	}
	if setsMode.MatchString(head) {
		var mode string
		if err := l.conn.QueryRowContext(ctx, "SELECT @@sql_mode").Scan(&mode); err != nil {
			return l.failed(ctx, st, head, err)
		}
		l.split.plain = strings.Contains(mode, "NO_BACKSLASH_ESCAPES")
	}
	if setsCharset.MatchString(head) {
		var name string
		if err := l.conn.QueryRowContext(ctx, "SELECT @@character_set_client").Scan(&name); err != nil {
			return l.failed(ctx, st, head, err)
		}
		if slices.Contains(hardCharsets, name) {
			return l.split.refuse(st.line, "the dump is written in "+name, "make it again with --default-character-set=utf8mb4")
		}
	}
	return nil
}

const shownBytes = 120 // of a statement that failed

func (l *loader) failed(ctx context.Context, st statement, head string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	shown := strings.Join(strings.Fields(strings.ToValidUTF8(head[:min(len(head), shownBytes)], "?")), " ")
	e := &api.Error{Code: api.CodeInvalid, Op: "load dump", Object: fmt.Sprintf("line %d", st.line), Message: err.Error() + "; the statement begins: " + shown, Hint: "what stands before is loaded"}
	var answered *mysql.MySQLError
	if !errors.As(err, &answered) {
		e.Code, e.Message = api.CodeUnavailable, "the connection to the server broke: "+err.Error()
		return e
	}
	e.Message = fmt.Sprintf("%s (error %d); the statement begins: %s", answered.Message, answered.Number, shown)
	switch answered.Number {
	case 1046:
		e.Hint = "the dump does not say into which database it goes: name one as database"
	case 1227, 1044, 1142:
		e.Hint = "dumps are loaded as user mysqldb, who may not do that; what stands before is loaded"
	case 1114, 1021:
		e.Code, e.Hint = api.CodeNoSpace, "make volume_size larger, then load it again; what stands before is loaded"
	case 1047:
		e.Code, e.Hint = api.CodeUnavailable, "the node has lost the others: wait until the service is RUNNING, then load it again"
	}
	return e
}

// broken tells of a dump that could not be read on.
func (l *loader) broken(err error) error {
	var known *api.Error
	if errors.As(err, &known) && known.Object != "" {
		return err
	}
	return &api.Error{Code: api.CodeOf(damaged(err)), Op: "load dump", Object: fmt.Sprintf("line %d", l.split.line), Message: "the dump was broken off after this line: " + err.Error(), Hint: "what stands before is loaded"}
}

// damaged says that a packed dump cannot be unpacked.
func damaged(err error) error {
	var known *api.Error
	if errors.As(err, &known) {
		return err
	}
	return &api.Error{Code: api.CodeInvalid, Op: "load dump", Message: "it cannot be read: " + err.Error(), Hint: "is the file complete?"}
}

func (l *loader) summary(took time.Duration) string {
	text := fmt.Sprintf("%d statements, %s in %s", l.done, mebibytes(l.split.bytes), took.Round(100*time.Millisecond))
	for _, what := range slices.Sorted(maps.Keys(l.left)) {
		text += "; left out: " + what
	}
	return text
}
