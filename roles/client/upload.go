package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cheggaaa/pb/v3"
	"golang.org/x/time/rate"

	"nutshell/roles/api"
	"nutshell/roles/internal/config"
)

const (
	inPiecesFrom = 8 << 20          // larger files go in pieces, and go on after a lost connection
	pieceBytes   = 32 << 20         // each piece that has come whole is safe on the director's disk
	stallTime    = time.Minute      // a connection over which nothing goes any more is given up
	longestPause = 10 * time.Second // between two tries
	pacedBytes   = 64 << 10         // read at once where the rate is limited
	stdinName    = "-"
)

// upload is an archive on its way, with the size that the server wants to
// know before it begins; below 0 it is not known.
type upload struct {
	io.Reader
	size int64
	file *os.File // closed with it, nil: nothing is
}

// Close closes the file.
func (u *upload) Close() error {
	if u.file == nil {
		return nil
	}
	return u.file.Close()
}

// openArchive opens a file, a named pipe, or stdin for "-".
func (r *call) openArchive(name string) (*upload, error) {
	bad := func(message string, err error) (*upload, error) {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "upload code", Object: name, Message: message, Err: err,
			Hint: "upload a tar, tar.gz, tar.bz2, tar.xz, tar.zst, zip, war or jar archive"}
	}
	if name == stdinName && isTerminal(r.o.Stdin) {
		return bad("stdin is a terminal, not an archive", nil)
	}
	if name == stdinName {
		return &upload{Reader: r.o.Stdin, size: -1}, nil
	}
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return bad("", err)
	case st.IsDir():
		return bad("it is a directory", nil)
	case !st.Mode().IsRegular() && st.Mode()&os.ModeNamedPipe == 0:
		return bad("it is not a file", nil)
	case st.Mode().IsRegular() && st.Size() == 0:
		return bad("it is empty", nil)
	}
	f, err := os.Open(name)
	if err != nil {
		return bad("", err)
	}
	if !st.Mode().IsRegular() {
		return &upload{Reader: f, size: -1, file: f}, nil
	}
	return &upload{Reader: f, size: st.Size(), file: f}, nil
}

func uploadCode(r *call, _ api.Application, s api.Service) error {
	name := r.arg("filename")
	body, err := r.openArchive(name)
	if err != nil {
		return err
	}
	ask := api.StartUpload{Filename: filepath.Base(name), Bytes: body.size, Description: r.String("description"), Strip: r.Bool("strip")}
	if name == stdinName {
		ask.Filename = "stdin"
	}
	if as := r.String("filename"); as != "" {
		ask.Filename = as
	}
	limit, err := r.rateLimit()
	if err != nil {
		return err
	}
	var v api.CodeVersion
	if body.size >= inPiecesFrom {
		defer func() { _ = body.Close() }()
		v, err = r.sendInPieces(s, ask, body.file, limit)
	} else {
		body.Reader = paced(r.ctx(), body.Reader, limit)
		v, err = r.sendWhole(s, ask, body)
	}
	if err != nil {
		return err
	}
	if err := r.made(v, v.ID, "Code version %s uploaded", v.ID); err != nil || !r.Bool("activate") {
		return err
	}
	return r.activate(s, v.ID)
}

// rateLimit reads --limit-rate; nil is as fast as can be.
func (r *call) rateLimit() (*rate.Limiter, error) {
	text := r.String(r.spell("limit-rate"))
	if text == "" {
		return nil, nil
	}
	n, err := config.ParseSize(text)
	if err != nil || n <= 0 {
		return nil, usagef("--%s is bytes for each second such as 4M, not %s", r.spell("limit-rate"), api.Shorten(text))
	}
	return rate.NewLimiter(rate.Limit(n), pacedBytes), nil
}

// paced reads no faster than limit allows.
func paced(ctx context.Context, from io.Reader, limit *rate.Limiter) io.Reader {
	if limit == nil {
		return from
	}
	return readerFunc(func(p []byte) (int, error) {
		n, err := from.Read(p[:min(len(p), pacedBytes)])
		if e := limit.WaitN(ctx, n); e != nil {
			return 0, e
		}
		return n, err
	})
}

// sendWhole sends an archive in one request, which closes it.
func (r *call) sendWhole(s api.Service, ask api.StartUpload, body *upload) (api.CodeVersion, error) {
	var v api.CodeVersion
	bar := r.bar(body.size, 0)
	if bar != nil {
		body.Reader = bar.NewProxyReader(body.Reader)
		defer bar.Finish()
	}
	q := url.Values{"filename": {ask.Filename}}
	if ask.Description != "" {
		q.Set("description", ask.Description)
	}
	if ask.Strip {
		q.Set("strip", "true")
	}
	resp, err := r.open(http.MethodPost, servicePath(s)+"/versions?"+q.Encode(), body)
	if err != nil {
		return v, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, fmt.Errorf("read the answer to the upload: %w", err)
	}
	return v, nil
}

// sending is a large file on its way.
type sending struct {
	r    *call
	path string // of the service's uploads
	ask  api.StartUpload
	file *os.File
	rate *rate.Limiter
	up   api.Upload
	bar  *pb.ProgressBar
}

// sendInPieces sends a large file so that neither a lost connection nor a
// director that is started again, nor this program being killed, costs more
// than the last piece.
func (r *call) sendInPieces(s api.Service, ask api.StartUpload, file *os.File, limit *rate.Limiter) (api.CodeVersion, error) {
	var err error
	if ask.SHA256, err = r.digest(file, ask.Bytes); err != nil {
		return api.CodeVersion{}, err
	}
	u := &sending{r: r, path: servicePath(s) + "/uploads", ask: ask, file: file, rate: limit}
	if err := r.send(http.MethodPost, u.path, ask, &u.up); err != nil {
		return api.CodeVersion{}, err
	}
	if u.up.Offset > 0 && !r.g.quiet {
		fmt.Fprintf(r.o.Stderr, "going on with an upload that was broken off at %d %%\n", 100*u.up.Offset/u.up.Bytes)
	}
	u.bar = r.bar(ask.Bytes, u.up.Offset)
	v, err := u.all()
	if u.bar != nil {
		u.bar.Finish()
	}
	if err == nil {
		return v, nil
	}
	const again = "run the same command again: it goes on where it stopped"
	if r.ctx().Err() != nil {
		fmt.Fprintf(r.o.Stderr, "The upload stopped at %d %%; %s.\n", 100*u.up.Offset/max(1, u.up.Bytes), again)
	}
	var e *api.Error
	if errors.As(err, &e) && passing(err) {
		said := *e
		said.Hint = again
		return v, &said
	}
	return v, err
}

// digest reads the file once, so that the director can tell whether all of it
// came, and know it again.
func (r *call) digest(file *os.File, size int64) (string, error) {
	sum := sha256.New()
	n, err := io.Copy(sum, readerFunc(func(p []byte) (int, error) {
		if err := r.ctx().Err(); err != nil {
			return 0, err
		}
		return file.Read(p)
	}))
	if err == nil && n != size {
		err = errors.New("it changes while it is read")
	}
	if err != nil {
		return "", &api.Error{Code: api.CodeInvalid, Op: "upload code", Object: file.Name(), Err: err}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// passing reports whether an error may be over in a moment.
func passing(err error) bool {
	switch api.CodeOf(err) { //nolint:exhaustive // all others stay
	case api.CodeUnavailable, api.CodeDeadline, api.CodeConflict, api.CodeTooMany:
		return true
	}
	return false
}

// all sends what is missing and then asks for the version. As long as
// something moves it does not give up.
func (u *sending) all() (api.CodeVersion, error) {
	delay, moved := pause, time.Now()
	for {
		before := u.up.Offset
		v, err := u.once()
		if err == nil {
			return v, nil
		}
		if u.up.Offset > before {
			delay, moved = pause, time.Now()
		}
		if !passing(err) || u.r.ctx().Err() != nil || time.Since(moved) > patience {
			return v, err
		}
		select {
		case <-u.r.ctx().Done():
			return v, u.r.ctx().Err()
		case <-time.After(delay):
		}
		delay = min(2*delay, longestPause)
		var now api.Upload
		if err := u.r.send(http.MethodGet, u.path+"/"+u.up.ID, nil, &now); err == nil {
			if now.Offset > before { // the last piece came in part, or its answer was lost
				delay, moved = pause, time.Now()
			}
			u.up = now
			u.show(now.Offset)
		}
	}
}

func (u *sending) once() (api.CodeVersion, error) {
	for u.up.Offset < u.up.Bytes {
		if err := u.piece(); err != nil {
			return api.CodeVersion{}, err
		}
	}
	var v api.CodeVersion
	resp, err := u.r.open(http.MethodPost, u.path+"/"+u.up.ID+"/finish", nil)
	if err != nil {
		return v, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return v, &api.Error{Code: api.CodeUnavailable, Op: "upload code", Object: u.ask.Filename, Message: "the answer came incomplete", Err: err}
	}
	return v, nil
}

// piece sends the next bytes.
func (u *sending) piece() error {
	at := u.up.Offset
	n := min(pieceBytes, u.up.Bytes-at)
	ctx, cancel := context.WithCancel(u.r.ctx())
	defer cancel()
	stalled := time.AfterFunc(stallTime, cancel)
	defer stalled.Stop()
	section := paced(ctx, io.NewSectionReader(u.file, at, n), u.rate)
	sent := at
	body := readerFunc(func(p []byte) (int, error) {
		stalled.Reset(stallTime)
		got, err := section.Read(p)
		sent += int64(got)
		u.show(sent)
		return got, err
	})
	if err := u.r.connect(); err != nil {
		return err
	}
	resp, err := u.r.caller().Stream(ctx, http.MethodPatch, "/api/v1"+u.path+"/"+u.up.ID+"?offset="+strconv.FormatInt(at, 10), &upload{Reader: body, size: n})
	if err != nil && ctx.Err() != nil && u.r.ctx().Err() == nil {
		err = &api.Error{Code: api.CodeUnavailable, Op: "upload code", Object: u.ask.Filename, Message: "nothing went over the connection for " + stallTime.String()}
	}
	if err != nil {
		return u.r.explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var now api.Upload
	if err := json.NewDecoder(resp.Body).Decode(&now); err != nil {
		return &api.Error{Code: api.CodeUnavailable, Op: "upload code", Object: u.ask.Filename, Message: "the answer came incomplete", Err: err}
	}
	u.up = now
	return nil
}

func (u *sending) show(at int64) {
	if u.bar != nil {
		u.bar.SetCurrent(at)
	}
}

// bar is a progress bar on the terminal, nil where nobody watches.
func (r *call) bar(size, from int64) *pb.ProgressBar {
	if r.g.quiet || !isTerminal(r.o.Stderr) {
		return nil
	}
	return pb.New64(size).SetCurrent(from).SetTemplate(pb.Full).Set(pb.Bytes, true).SetWriter(r.o.Stderr).Start()
}

func listUploads(r *call, _ api.Application, s api.Service) error {
	var all []api.Upload
	if err := r.get(servicePath(s)+"/uploads", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"upload_id", "filename", "come", "bytes", "expires"}, none: "No unfinished uploads."}
	for _, u := range all {
		t.add(u.ID, u.Filename, fmt.Sprintf("%d %%", 100*u.Offset/max(1, u.Bytes)), strconv.FormatInt(u.Bytes, 10), when(u.Expires))
	}
	return r.show(all, t)
}

func deleteUpload(r *call, _ api.Application, s api.Service) error {
	id := r.arg("upload_id")
	if err := r.send(http.MethodDelete, servicePath(s)+"/uploads/"+escape(id), nil, nil); err != nil {
		return err
	}
	r.say("upload %s deleted", id)
	return nil
}
