package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// wantsError is the request header by which the director tells in a trailer
// why a file that it gives broke off.
const wantsError = "Nutshell-Wants-Error"

// streamPathOf is where an action takes or gives its file.
func (r *call) streamPathOf(s api.Service, a api.Action) (string, error) {
	args, err := r.actionArgs(a)
	if err != nil {
		return "", err
	}
	return rpc.StreamPath(servicePath(s)+"/streams/"+url.PathEscape(a.Name), args), nil
}

// sendFile sends an action the file that it takes; - is stdin.
func (r *call) sendFile(s api.Service, a api.Action) error {
	path, err := r.streamPathOf(s, a)
	if err != nil {
		return err
	}
	name := r.arg("filename")
	body, err := r.openFile(a, name)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if bar := r.bar(max(body.size, 0), 0); bar != nil {
		body.Reader = bar.NewProxyReader(body.Reader)
		defer bar.Finish()
	}
	resp, err := r.open(http.MethodPost, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var result api.ActResult
	if err := json.NewDecoder(resp.Body).Decode(&result); err != nil {
		return &api.Error{Code: api.CodeUnavailable, Op: a.Name, Object: name, Message: "the answer did not come; the service may have taken the file", Err: err,
			Hint: "see: nutshell operation list"}
	}
	return r.showText(result, func(w io.Writer) {
		if !r.g.quiet {
			writeResult(w, result)
		}
	})
}

func (r *call) openFile(a api.Action, name string) (*upload, error) {
	bad := func(message string, err error) (*upload, error) {
		return nil, &api.Error{Code: api.CodeInvalid, Op: a.Name, Object: name, Message: message, Err: err, Hint: "it takes " + a.Takes}
	}
	if name == stdinName {
		if isTerminal(r.o.Stdin) {
			return bad("stdin is a terminal, not a file", nil)
		}
		return &upload{Reader: r.o.Stdin, size: -1}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return bad("", err)
	}
	st, err := f.Stat()
	if err == nil && st.IsDir() {
		err = errors.New("it is a directory")
	}
	if err != nil {
		_ = f.Close()
		return bad("", err)
	}
	if !st.Mode().IsRegular() {
		return &upload{Reader: f, size: -1, file: f}, nil
	}
	return &upload{Reader: f, size: st.Size(), file: f}, nil
}

// getFile writes the file that an action gives to stdout, or to the file named
// once all of it is there.
func (r *call) getFile(s api.Service, a api.Action) error {
	path, err := r.streamPathOf(s, a)
	if err != nil {
		return err
	}
	name := r.String("to")
	if name == "" || name == stdinName {
		return r.fetch(a, path, r.o.Stdout)
	}
	return r.fetchTo(a, path, name)
}

// fetchTo writes an answer to a file, which appears when all of it has come.
func (r *call) fetchTo(a api.Action, path, name string) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err // the name before it is ours
		}
		return &api.Error{Code: api.CodeInvalid, Op: "write", Object: name, Err: err}
	}
	defer func() { _ = os.Remove(f.Name()) }()
	out := io.Writer(f)
	if bar := r.bar(0, 0); bar != nil {
		out = bar.NewProxyWriter(f)
		defer bar.Finish()
	}
	err = r.fetch(a, path, out)
	if e := f.Sync(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return err
	}
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	r.say("%s: %s written", name, sizeOf(st.Size()))
	return nil
}

// fetch copies an answer that must not end early.
func (r *call) fetch(a api.Action, path string, w io.Writer) error {
	resp, err := r.open(http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(w, resp.Body)
	if r.ctx().Err() != nil {
		return r.ctx().Err()
	}
	var cause error
	if text := resp.Trailer.Get(rpc.ErrorTrailer); text != "" {
		var e api.Error
		if json.Unmarshal([]byte(text), &e) != nil || e.Message == "" {
			e = api.Error{Message: text}
		}
		cause = &e
	}
	if err == nil {
		err = cause
	}
	if err == nil {
		return nil
	}
	return &api.Error{Code: api.CodeUnavailable, Op: a.Name, Message: "broken off: what came is not the whole", Err: err, Hint: "try it again"}
}

// streamVerb makes the verb of an action that takes or gives a file.
func (c *Client) streamVerb(kind *api.Kind, a api.Action, args string, flags []cli.Flag) *cli.Command {
	summary, object := a.Summary, "nutshell "+c.objectName(kind)+" "+c.spell(a.Name)+" shop "+kind.Name
	if summary == "" {
		summary = a.Title
	}
	if a.Takes != "" {
		v := c.ofKind(kind, a.Name, summary, args+" <filename>", onService(func(r *call, _ api.Application, s api.Service) error { return r.sendFile(s, a) }), flags...)
		return examples(v, object+" FILE", "gunzip -c FILE.gz | "+object+" -")
	}
	flags = append(flags, &cli.StringFlag{Name: "to", Aliases: []string{"o"}, Usage: "write it to this file when all of it has come (default: stdout)"})
	v := c.ofKind(kind, a.Name, summary, args, onService(func(r *call, _ api.Application, s api.Service) error { return r.getFile(s, a) }), flags...)
	return examples(v, object+" --to "+a.Gives, object+" | gzip > "+a.Gives+".gz", fmt.Sprintf("%s | less", strings.TrimSpace(object)))
}
