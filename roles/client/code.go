package client

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cheggaaa/pb/v3"
	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) codeVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	versionFlag := &cli.StringFlag{Name: "version", Aliases: []string{"v"}, Usage: "which version (default: the current one)"}
	return []*cli.Command{
		examples(c.ofKind(kind, "upload-code", "upload an archive as a new code version", one+" <filename>", onService(uploadCode),
			&cli.StringFlag{Name: "description", Usage: "a note for the list"},
			&cli.BoolFlag{Name: "strip", Usage: "take off the one directory that everything in the archive stands in"},
			&cli.BoolFlag{Name: "activate", Usage: "activate it at once"}),
			"nutshell "+c.objectName(kind)+" upload-code shop 1 site.tar.gz --activate", "nutshell "+c.objectName(kind)+" upload-code shop 1 release.zip --strip --description 'new look'"),
		c.ofKind(kind, "list-codes", "the code versions; * marks the current one", one, onService(listCodes)),
		c.ofKind(kind, "enable-code", "activate a code version", one+" <code_version>", onService(func(r *call, _ api.Application, s api.Service) error {
			return r.activate(s, r.arg("code_version"))
		})),
		c.ofKind(kind, "rollback", "activate the version before the current one, or the one named", one+" [code_version]", onService(rollback)),
		c.ofKind(kind, "download-code", "write a code version's archive into this directory", one+" [code_version]", onService(downloadCode), versionFlag,
			&cli.StringFlag{Name: "to", Usage: "write it to this file"}),
		c.ofKind(kind, "delete-code", "delete a code version that is not the current one", one+" <code_version>", onService(deleteCode)),
	}
}

// upload is an archive on its way, with the size that the server wants to
// know before it begins.
type upload struct {
	io.Reader
	size int64
	file *os.File
}

// Close closes the file.
func (u *upload) Close() error { return u.file.Close() }

func openArchive(name string) (*upload, error) {
	bad := func(message string, err error) (*upload, error) {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "upload code", Object: name, Message: message, Err: err,
			Hint: "upload a tar, tar.gz, tar.bz2, tar.xz, tar.zst or zip archive"}
	}
	st, err := os.Stat(name)
	switch {
	case err != nil:
		return bad("", err)
	case st.IsDir():
		return bad("it is a directory", nil)
	case !st.Mode().IsRegular():
		return bad("it is not a file", nil)
	case st.Size() == 0:
		return bad("it is empty", nil)
	}
	f, err := os.Open(name)
	if err != nil {
		return bad("", err)
	}
	return &upload{Reader: f, size: st.Size(), file: f}, nil
}

func uploadCode(r *call, _ api.Application, s api.Service) error {
	name := r.arg("filename")
	body, err := openArchive(name)
	if err != nil {
		return err
	}
	bar := r.bar(body.size)
	if bar != nil {
		body.Reader = bar.NewProxyReader(body.file)
	}
	q := url.Values{"filename": {filepath.Base(name)}}
	if d := r.String("description"); d != "" {
		q.Set("description", d)
	}
	if r.Bool("strip") {
		q.Set("strip", "true")
	}
	resp, err := r.open(http.MethodPost, servicePath(s)+"/versions?"+q.Encode(), body)
	if bar != nil {
		bar.Finish()
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var v api.CodeVersion
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		return fmt.Errorf("read the answer to the upload: %w", err)
	}
	if err := r.made(v, v.ID, "Code version %s uploaded", v.ID); err != nil || !r.Bool("activate") {
		return err
	}
	return r.activate(s, v.ID)
}

// bar is a progress bar on the terminal, nil where nobody watches.
func (r *call) bar(size int64) *pb.ProgressBar {
	if r.g.quiet || !isTerminal(r.o.Stderr) {
		return nil
	}
	bar := pb.New64(size).SetTemplate(pb.Full).Set(pb.Bytes, true).SetWriter(r.o.Stderr)
	return bar.Start()
}

func (r *call) versions(s api.Service) ([]api.CodeVersion, error) {
	var all []api.CodeVersion
	err := r.get(servicePath(s)+"/versions", &all)
	return all, err
}

func listCodes(r *call, _ api.Application, s api.Service) error {
	all, err := r.versions(s)
	if err != nil {
		return err
	}
	t := &table{columns: []string{"current", "codeVersionId", "filename", "description"}, id: 1, none: "No existing code versions."}
	for _, v := range all {
		mark := ""
		if v.Current {
			mark = "*"
		}
		t.add(mark, v.ID, v.Filename, v.Description)
	}
	return r.show(all, t)
}

// activate makes a version the current one.
func (r *call) activate(s api.Service, version string) error {
	op, err := r.change(http.MethodPost, servicePath(s)+"/activate", api.Activate{Version: version}, &api.Service{})
	if err != nil {
		return err
	}
	return r.finishSaying(op, version+" is being enabled... ", version+" enabled")
}

func rollback(r *call, _ api.Application, s api.Service) error {
	if v := r.arg("code_version"); v != "" {
		return r.activate(s, v)
	}
	all, err := r.versions(s)
	if err != nil {
		return err
	}
	for i, v := range all { // newest first
		if v.Current && i+1 < len(all) {
			return r.activate(s, all[i+1].ID)
		}
	}
	return &api.Error{Code: api.CodeConflict, Op: "roll back", Object: "service " + s.Name, Message: "there is no version before the current one"}
}

func deleteCode(r *call, _ api.Application, s api.Service) error {
	v := r.arg("code_version")
	if err := r.send(http.MethodDelete, servicePath(s)+"/versions/"+escape(v), nil, nil); err != nil {
		return err
	}
	r.say("%s deleted", v)
	return nil
}

func downloadCode(r *call, _ api.Application, s api.Service) error {
	version := r.arg("code_version")
	if version == "" {
		version = r.String("version")
	}
	all, err := r.versions(s)
	if err != nil {
		return err
	}
	v, err := pickVersion(all, version)
	if err != nil {
		return err
	}
	resp, err := r.open(http.MethodGet, servicePath(s)+"/versions/"+escape(v.ID)+"/download", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	to := r.String("to")
	if to == "" {
		to = archiveName(resp.Header.Get("Content-Disposition"), v)
	}
	if err := r.save(resp, to); err != nil {
		return err
	}
	r.say("%s downloaded to %s", v.ID, to)
	return nil
}

func pickVersion(all []api.CodeVersion, version string) (api.CodeVersion, error) {
	var ids []string
	for _, v := range all {
		if v.ID == version || (version == "" && v.Current) {
			return v, nil
		}
		ids = append(ids, v.ID)
	}
	if version == "" {
		return api.CodeVersion{}, api.NotFoundf("no code version is current; name one with --version")
	}
	return api.CodeVersion{}, &api.Error{Code: api.CodeNotFound, Message: "Unknown code version " + api.Shorten(version) + didYouMean(version, ids), Hint: "there are: " + orDash(shortList(ids))}
}

// archiveName is the file's original name, of which only the last part
// counts: the server must not choose where it is written.
func archiveName(disposition string, v api.CodeVersion) string {
	_, params, err := mime.ParseMediaType(disposition)
	for _, name := range []string{params["filename"], v.Filename} {
		name = filepath.Base(filepath.Clean("/" + strings.ReplaceAll(name, "\\", "/")))
		if err == nil && name != "/" && !strings.HasPrefix(name, ".") && printable(name) == name {
			return name
		}
		err = nil // the header may be missing or wrong, the list's name is there all the same
	}
	return v.ID
}

// save writes an archive to a file that appears only when it is complete.
func (r *call) save(resp *http.Response, to string) error {
	fail := func(err error) error { return &api.Error{Code: api.CodeInvalid, Op: "write", Object: to, Err: err} }
	f, err := os.CreateTemp(filepath.Dir(to), ".download-*")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer func() { _ = f.Close() }()
	var from io.Reader = resp.Body
	if bar := r.bar(resp.ContentLength); bar != nil {
		from = bar.NewProxyReader(from)
		defer bar.Finish()
	}
	n, err := io.Copy(f, from)
	switch {
	case err != nil && r.ctx().Err() != nil:
		return r.ctx().Err()
	case err != nil:
		return &api.Error{Code: api.CodeUnavailable, Op: "download", Object: to, Err: err}
	case resp.ContentLength >= 0 && n != resp.ContentLength:
		return &api.Error{Code: api.CodeUnavailable, Op: "download", Object: to, Message: "the archive came incomplete"}
	}
	if err := f.Chmod(0o644); err != nil {
		return fail(err)
	}
	if err := f.Close(); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), to); err != nil {
		return fail(err)
	}
	return nil
}
