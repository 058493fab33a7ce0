package mysql

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"nutshell/roles/api"
)

// backupHeader is the first line of a backup's stream; a copy by mariadb-backup,
// packed with zstd, follows.
type backupHeader struct {
	Format string `json:"format"`
	Server string `json:"server"` // version
	Bytes  int64  `json:"bytes"`  // of the data, unpacked
}

const backupFormat = "nutshell-mysql-1"

// backup writes a copy of all data while the server goes on, and tells where
// changes after it begin.
func (s *server) backup(ctx context.Context, w io.Writer) (string, error) {
	if err := s.caughtUp(ctx); err != nil {
		return "", err
	}
	lineage, err := s.lineage()
	if err != nil {
		return "", err
	}
	h := backupHeader{Format: backupFormat, Bytes: s.dataBytes()}
	if h.Server, err = s.version(ctx); err != nil {
		return "", err
	}
	told := filepath.Join(s.tmp(), "backup-"+rand.Text()[:8]) // what it tells beside the copy
	if err := errors.Join(os.Mkdir(told, 0o700), s.give(told)); err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(told) }()
	file := filepath.Join(s.etc(), "backup.cnf")
	text := "!include " + s.file() + "\n[mariadb-backup]\nuser=root\npassword=" + s.c.Secrets[secretRoot] + "\n"
	if err := s.write(file, []byte(text), 0o400); err != nil {
		return "", err
	}
	c, err := s.command(ctx, "mariadb-backup", "mariadb-backup", "--defaults-file="+file, "--backup", "--stream=mbstream", "--socket="+s.socket(), "--target-dir="+told,
		"--extra-lsndir="+told, "--parallel=2", "--lock-ddl-per-table=0", "--ftwrl-wait-timeout=60", "--ftwrl-wait-threshold=60")
	if err != nil {
		return "", err
	}
	line, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return "", err
	}
	pack, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return "", err
	}
	c.cmd.Stdout = pack
	moment := time.Now() // all before it is in the copy
	err = c.run(ctx)
	if err = errors.Join(err, pack.Close()); err != nil {
		return "", err
	}
	if m := c.told.find(blockLine); m != "" {
		if at, err := time.ParseInLocation(time.DateTime, m, time.UTC); err == nil && at.After(moment) {
			moment = at
		}
	}
	return s.positionOf(told, lineage, moment)
}

// dataBytes is what the data takes, without logs.
func (s *server) dataBytes() int64 {
	var sum int64
	_ = filepath.WalkDir(s.data(), func(path string, e fs.DirEntry, err error) error { // files come and go
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), "binlog.") {
			sum += sizeOf(e)
		}
		return nil
	})
	return sum
}

func (s *server) version(ctx context.Context) (string, error) {
	var v string
	err := s.open().QueryRowContext(ctx, "SELECT @@version").Scan(&v)
	return v, explain("reach", "node "+s.m.Address(), err)
}

// release is the part of a version within which copies can be restored.
func release(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// place is where changes begin: in which log of which data. Logs of other data
// cannot go on from it.
type place struct {
	At      time.Time // the moment of what is before
	Volume  string
	Lineage string // of the data directory: a copy from another node has another
	File    string
	Offset  int64
	GTID    string // what the log held then
}

func (p place) String() string {
	return fmt.Sprintf("%s %s %s %s %d %s", p.At.UTC().Format(time.RFC3339Nano), p.Volume, p.Lineage, p.File, p.Offset, p.GTID)
}

var binlogName = regexp.MustCompile(`^binlog\.\d{6,10}$`)

func parsePlace(text string) (place, error) {
	f := strings.Split(text, " ")
	bad := api.Invalidf("%s is no position of a database", api.Shorten(text))
	if len(f) != 6 || !binlogName.MatchString(f[3]) {
		return place{}, bad
	}
	at, err := time.Parse(time.RFC3339Nano, f[0])
	offset, err2 := strconv.ParseInt(f[4], 10, 64)
	if err != nil || err2 != nil || offset < 4 {
		return place{}, bad
	}
	return place{at, f[1], f[2], f[3], offset, f[5]}, nil
}

// sortGTID writes a list of GTIDs in one way.
func sortGTID(text string) string {
	list := strings.Split(strings.ReplaceAll(strings.TrimSpace(text), "\n", ""), ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	slices.Sort(list)
	return strings.Join(list, ",")
}

var (
	binlogLine = regexp.MustCompile(`(?m)^binlog_pos\s*=\s*filename '([^']+)', position '(\d+)'(?:, GTID of the last change '([^']*)')?`)
	// From there on nothing is committed until the copy is complete.
	blockLine = regexp.MustCompile(`(?m)^\[\d+\] (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) Executing BACKUP STAGE BLOCK_COMMIT`)
)

// positionOf reads what mariadb-backup says of a copy.
func (s *server) positionOf(dir, lineage string, at time.Time) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "mariadb_backup_info"))
	if errors.Is(err, os.ErrNotExist) {
		text, err = os.ReadFile(filepath.Join(dir, "xtrabackup_info")) // Debian 12
	}
	if err != nil {
		return "", fmt.Errorf("position of the backup: %w", err)
	}
	m := binlogLine.FindSubmatch(text)
	if m == nil {
		return "", errors.New("mariadb-backup does not tell the position of the backup")
	}
	offset, err := strconv.ParseInt(string(m[2]), 10, 64)
	if err != nil {
		return "", err
	}
	p := place{At: at, Volume: s.volume.ID, Lineage: lineage, File: filepath.Base(string(m[1])), Offset: offset, GTID: sortGTID(string(m[3]))}
	if _, err := parsePlace(p.String()); err != nil {
		return "", err
	}
	return p.String(), nil
}

// lineageFile lies in the data directory. It is not copied to other nodes, and
// gone when a copy from another has taken the place of the data.
const lineageFile = "nutshell-lineage"

// lineage names the data directory, from the first time on that it is asked.
func (s *server) lineage() (string, error) {
	path := filepath.Join(s.data(), lineageFile)
	b, err := os.ReadFile(path)
	if err == nil && len(b) == 26 {
		return string(b), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	name := rand.Text()
	return name, s.write(path, []byte(name), 0o400)
}

// readHeader reads the first line of a backup.
func readHeader(in *bufio.Reader) (backupHeader, error) {
	var h backupHeader
	line, err := in.ReadSlice('\n')
	if err == nil || errors.Is(err, bufio.ErrBufferFull) || errors.Is(err, io.EOF) {
		if json.Unmarshal(bytes.TrimSpace(line), &h) != nil || h.Format != backupFormat {
			return h, &api.Error{Code: api.CodeInvalid, Op: "restore", Message: "this is no backup of a mysql service"}
		}
	}
	return h, err
}
