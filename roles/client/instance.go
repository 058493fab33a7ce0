package client

import (
	"encoding/json"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// instanceVerbs are what one does with a single instance.
func (c *Client) instanceVerbs() []*cli.Command {
	const node = argApp + " " + argServ + " <agent_id>"
	return []*cli.Command{
		examples(c.verb("list-files", "what a directory of an instance holds", node+" [path]", onService(listInstanceFiles)),
			"nutshell instance list-files shop php a1-s1-abcdef", "nutshell instance list-files shop php a1-s1-abcdef /etc"),
		examples(c.verb("get-file", "a file of an instance", node+" <path>", onService(getInstanceFile),
			&cli.StringFlag{Name: "to", Usage: "write it to this file when all of it has come; - is stdout (default: its own name, here)"}),
			"nutshell instance get-file shop php a1-s1-abcdef /etc/nginx/nginx.conf", "nutshell instance get-file shop php a1-s1-abcdef /proc/meminfo --to -"),
		examples(c.verb("put-file", "write a file of an instance", node+" <filename> <path>", onService(putInstanceFile)),
			"nutshell instance put-file shop php a1-s1-abcdef dump.sql /tmp/dump.sql", "gzip -c big | nutshell instance put-file shop php a1-s1-abcdef - /tmp/big.gz"),
	}
}

func filesPath(r *call, s api.Service, way, file string) string {
	return servicePath(s) + "/instances/" + escape(r.arg("agent_id")) + way + "?" + url.Values{"path": {file}}.Encode()
}

func listInstanceFiles(r *call, _ api.Application, s api.Service) error {
	var d api.Directory
	if err := r.get(filesPath(r, s, "/files", r.arg("path")), &d); err != nil {
		return err
	}
	t := &table{columns: []string{"mode", "size", "modified", "name"}, none: d.Path + " is empty."}
	for _, e := range d.Entries {
		name := e.Name
		switch {
		case e.Type == "directory":
			name += "/"
		case e.Target != "":
			name += " -> " + e.Target
		}
		t.add(e.Mode, sizeOf(e.Bytes), e.Modified.Format("2006-01-02 15:04:05"), name)
	}
	if d.More {
		r.warn("%s holds more than is listed", printable(d.Path))
	}
	return r.show(d, t)
}

func getInstanceFile(r *call, _ api.Application, s api.Service) error {
	file := r.arg("path")
	to := r.String("to")
	if to == "" {
		to = path.Base(file)
		if _, err := os.Stat(to); err == nil {
			return &api.Error{Code: api.CodeConflict, Op: "write", Object: to, Message: "there is one already", Hint: "name another with --to"}
		}
	}
	act := api.Action{Name: "get-file"}
	from := filesPath(r, s, "/files/content", file)
	if to == stdinName {
		return r.fetch(act, from, r.o.Stdout)
	}
	return r.fetchTo(act, from, to)
}

func putInstanceFile(r *call, _ api.Application, s api.Service) error {
	to := r.arg("path")
	body := r.o.Stdin
	if name := r.arg("filename"); name != stdinName {
		f, err := os.Open(name)
		if err != nil {
			return &api.Error{Code: api.CodeInvalid, Op: "read", Object: name, Err: err}
		}
		defer func() { _ = f.Close() }()
		st, err := f.Stat()
		if err == nil && !st.Mode().IsRegular() {
			return &api.Error{Code: api.CodeInvalid, Op: "read", Object: name, Message: "it is no file"}
		}
		body = f
		if err == nil {
			if bar := r.bar(st.Size(), 0); bar != nil {
				body = bar.NewProxyReader(f)
				defer bar.Finish()
			}
		}
		if strings.HasSuffix(to, "/") {
			to += filepath.Base(name)
		}
	}
	resp, err := r.open("PUT", filesPath(r, s, "/files/content", to), io.NopCloser(body))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var e api.Entry
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return &api.Error{Code: api.CodeUnavailable, Op: "write", Object: to, Message: "the connection broke off", Err: err, Hint: "send it again"}
	}
	r.say("%s: %s written", to, sizeOf(e.Bytes))
	return nil
}
