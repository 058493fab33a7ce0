package mysql

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"nutshell/roles/api"
)

// logHeader comes before each file of a log, on a line of its own. Streams of
// such files can be put one behind another.
type logHeader struct {
	File  string `json:"file"`
	Start int64  `json:"start"` // what is before was told already
	Size  int64  `json:"size"`
}

// sendLog writes what changed after a position, in whole files of the binary
// log, and tells the next position: the same where nothing changed.
func (s *server) sendLog(ctx context.Context, after string, w io.Writer) (string, error) {
	from, err := parsePlace(after)
	if err != nil {
		return "", err
	}
	if err := s.caughtUp(ctx); err != nil {
		return "", err
	}
	lineage, err := s.lineage()
	if err != nil {
		return "", err
	}
	if from.Volume != s.volume.ID || from.Lineage != lineage {
		return "", noLog(after, "the data of node "+s.m.Address()+" is a newer copy")
	}
	now := place{At: time.Now(), Volume: s.volume.ID, Lineage: lineage, Offset: 4}
	if err := s.open().QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&now.GTID); err != nil {
		return "", explain("read", "the binary log", err)
	}
	if now.GTID = sortGTID(now.GTID); now.GTID == from.GTID {
		return after, nil
	}
	if _, err := s.open().ExecContext(ctx, "FLUSH LOCAL BINARY LOGS"); err != nil {
		return "", explain("flush", "the binary log", err)
	}
	all, err := s.binlogs(ctx)
	if err != nil {
		return "", err
	}
	first := slices.Index(all, from.File)
	if first < 0 || len(all) < 2 {
		return "", noLog(after, from.File+" is not kept any more")
	}
	now.File = all[len(all)-1]
	pack, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return "", err
	}
	start := from.Offset
	for _, name := range all[first : len(all)-1] {
		if err := s.copyLog(ctx, pack, name, start); err != nil {
			return "", errors.Join(err, pack.Close())
		}
		start = 4
	}
	return now.String(), pack.Close()
}

func noLog(after, why string) error {
	return &api.Error{Code: api.CodeNotFound, Op: "read", Object: "the binary log", Message: "it does not go on from " + api.Shorten(after) + ": " + why, Hint: "take a new backup"}
}

// binlogs lists the files of the binary log, oldest first.
func (s *server) binlogs(ctx context.Context) ([]string, error) {
	rows, err := s.open().QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, explain("list", "the binary log", err)
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var name string
		var size int64
		if err := rows.Scan(&name, &size); err != nil {
			return nil, explain("list", "the binary log", err)
		}
		if !binlogName.MatchString(name) {
			return nil, fmt.Errorf("a file of the binary log is named %q", name)
		}
		all = append(all, name)
	}
	return all, explain("list", "the binary log", rows.Err())
}

// copyLog writes one closed file. Its beginning says how to read the rest, so
// it comes whole.
func (s *server) copyLog(ctx context.Context, w io.Writer, name string, start int64) error {
	f, err := os.Open(filepath.Join(s.data(), name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	line, err := json.Marshal(logHeader{name, start, info.Size()})
	if err != nil {
		return err
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return err
	}
	if _, err := io.CopyN(w, f, info.Size()); err != nil {
		return err
	}
	return ctx.Err()
}

// unpackLog writes the files of a log into a directory and returns them in
// order, with where the first one is to be begun.
func (s *server) unpackLog(dir string, r io.Reader) (files []string, start int64, err error) {
	pack, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, 0, err
	}
	defer pack.Close()
	in := bufio.NewReaderSize(pack, 64<<10)
	for {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return files, start, nil
		} else if err != nil {
			return nil, 0, damaged(err)
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return nil, 0, damaged(err)
		}
		var h logHeader
		if json.Unmarshal(line, &h) != nil || !binlogName.MatchString(h.File) || h.Start < 4 || h.Size < h.Start {
			return nil, 0, &api.Error{Code: api.CodeInvalid, Op: "restore", Message: "this is no log of a mysql service"}
		}
		if len(files) == 0 {
			start = h.Start
		} else if h.Start != 4 {
			return nil, 0, &api.Error{Code: api.CodeInvalid, Op: "restore", Message: "a part of the log is missing before " + h.File}
		}
		path := filepath.Join(dir, fmt.Sprintf("%06d-%s", len(files), h.File))
		if err := s.spill(path, in, h.Size); err != nil {
			return nil, 0, err
		}
		files = append(files, path)
	}
}

func (s *server) spill(path string, in io.Reader, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, in, size)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return s.give(path)
}
