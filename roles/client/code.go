package client

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) codeVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	versionFlag := &cli.StringFlag{Name: "version", Aliases: []string{"v"}, Usage: "which version (default: the current one)"}
	return []*cli.Command{
		examples(c.ofKind(kind, "upload-code", "upload an archive as a new code version (- is stdin)", one+" <filename>", onService(uploadCode),
			&cli.StringFlag{Name: "description", Usage: "a note for the list"},
			&cli.BoolFlag{Name: "strip", Usage: "take off the one directory that everything in the archive stands in"},
			&cli.BoolFlag{Name: "activate", Usage: "activate it at once"},
			&cli.StringFlag{Name: c.spell("limit-rate"), Usage: "send so many bytes in a second at most, e.g. 4M"},
			&cli.StringFlag{Name: "filename", Usage: "the name it has in the list (default: the file's own; stdin when - is sent)"}),
			"nutshell "+c.objectName(kind)+" upload-code shop 1 site.tar.gz --activate", "nutshell "+c.objectName(kind)+" upload-code shop 1 release.zip --strip --description 'new look'"),
		c.ofKind(kind, "list-codes", "the code versions; * marks the current one", one, onService(listCodes),
			&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "also who made it, when, its size and its SHA-256"}),
		c.ofKind(kind, "enable-code", "activate a code version", one+" <code_version>", onService(func(r *call, _ api.Application, s api.Service) error {
			return r.activate(s, r.arg("code_version"))
		})),
		c.ofKind(kind, "rollback", "activate the version that served before the current one, or the one named", one+" [code_version]", onService(rollback)),
		c.ofKind(kind, "download-code", "write a code version's archive into this directory", one+" [code_version]", onService(downloadCode), versionFlag,
			&cli.StringFlag{Name: "to", Usage: "write it to this file"}),
		c.ofKind(kind, "files", "the files of a code version, as they are unpacked", one+" [code_version]", onService(listFiles)),
		c.ofKind(kind, "diff", "which files differ between a version and another one (default: the current one)", one+" <code_version> [to_version]", onService(diffCode)),
		c.ofKind(kind, "code-options", "show or set how many versions are kept, and whether a push activates the version it makes", one, onService(codeOptions),
			&cli.StringFlag{Name: "keep", Usage: "keep so many of the newest versions, or all"},
			&cli.StringFlag{Name: c.spell("auto-deploy"), Usage: "on or off"}),
		c.ofKind(kind, "list-uploads", "uploads that were broken off and can go on", one, onService(listUploads)),
		c.ofKind(kind, "delete-upload", "give up an upload that was broken off", one+" <upload_id>", onService(deleteUpload)),
		c.ofKind(kind, "delete-code", "delete a code version that is not the current one", one+" <code_version>", onService(deleteCode), nowFlag()),
	}
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
	if r.Bool("long") {
		t.columns = append(t.columns, "by", "created", "bytes", "files", "sha256")
	}
	for _, v := range all {
		mark := ""
		if v.Current {
			mark = "*"
		}
		row := []string{mark, v.ID, v.Filename, v.Description}
		if r.Bool("long") {
			row = append(row, v.By, when(v.Created), strconv.FormatInt(v.Bytes, 10), strconv.Itoa(v.Files), v.SHA256)
		}
		t.add(row...)
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
	var now api.Service
	op, err := r.change(http.MethodPost, servicePath(s)+"/rollback", nil, &now)
	if err != nil {
		return err
	}
	version := now.Version
	if op != nil {
		var b api.Activate
		if err := json.Unmarshal(op.Request, &b); err != nil {
			return fmt.Errorf("read what operation %s does: %w", op.ID, err)
		}
		version = b.Version
	}
	return r.finishSaying(op, version+" is being enabled... ", version+" enabled")
}

// listFiles shows what a version unpacks to.
func listFiles(r *call, _ api.Application, s api.Service) error {
	v, err := r.pickedVersion(s, r.arg("code_version"))
	if err != nil {
		return err
	}
	var files []api.File
	if err := r.sendFor(longCall, http.MethodGet, servicePath(s)+"/versions/"+escape(v.ID)+"/files", nil, &files); err != nil {
		return err
	}
	t := &table{columns: []string{"mode", "bytes", "file"}, id: 2, none: "No files."}
	for _, f := range files {
		name := f.Path
		if f.Link != "" {
			name += " -> " + f.Link
		}
		t.add(f.Mode, strconv.FormatInt(f.Bytes, 10), name)
	}
	return r.show(files, t)
}

// longCall bounds calls for which the director reads archives through.
const longCall = 10 * time.Minute

func diffCode(r *call, _ api.Application, s api.Service) error {
	to, err := r.pickedVersion(s, r.arg("to_version"))
	if err != nil {
		return err
	}
	var d api.Difference
	if err := r.sendFor(longCall, http.MethodGet, servicePath(s)+"/versions/"+escape(to.ID)+"/diff/"+escape(r.arg("code_version")), nil, &d); err != nil {
		return err
	}
	return r.showText(d, func(w io.Writer) {
		count := map[string]int{}
		for _, f := range d.Files {
			count[f.Change]++
			switch f.Change {
			case "added":
				fmt.Fprintf(w, "+ %s (%d bytes)\n", printable(f.Path), f.After)
			case "removed":
				fmt.Fprintf(w, "- %s (%d bytes)\n", printable(f.Path), f.Before)
			default:
				fmt.Fprintf(w, "* %s (%d to %d bytes)\n", printable(f.Path), f.Before, f.After)
			}
		}
		if d.Omitted > 0 {
			fmt.Fprintf(w, "… and %d more\n", d.Omitted)
		}
		if !r.g.quiet {
			fmt.Fprintf(w, "from %s to %s: %d added, %d removed, %d changed, %d alike\n", d.From, d.To, count["added"], count["removed"], count["changed"], d.Same)
		}
	})
}

// codeOptions shows or changes what becomes of a service's versions.
func codeOptions(r *call, _ api.Application, s api.Service) error {
	var b api.ChangeService
	switch text := strings.ToLower(r.String(r.spell("auto-deploy"))); text {
	case "":
	case "on", "off":
		on := text == "on"
		b.AutoDeploy = &on
	default:
		return usagef("--%s is on or off, not %s", r.spell("auto-deploy"), api.Shorten(text))
	}
	if text := r.String("keep"); text != "" {
		n, err := strconv.Atoi(text)
		if text == "all" {
			n, err = 0, nil
		}
		if err != nil {
			return usagef("--keep is a number of versions or all, not %s", api.Shorten(text))
		}
		b.KeepVersions = &n
	}
	if b.AutoDeploy != nil || b.KeepVersions != nil {
		if err := r.send(http.MethodPatch, servicePath(s), b, &s); err != nil {
			return err
		}
	}
	return r.showText(map[string]any{"auto_deploy": s.AutoDeploy, "keep_versions": s.Keep}, func(w io.Writer) {
		kept, deploy := "all", "off"
		if s.Keep > 0 {
			kept = strconv.Itoa(s.Keep)
		}
		if s.AutoDeploy {
			deploy = "on"
		}
		pairs(w, "auto-deploy", deploy, "keep", kept)
	})
}

func deleteCode(r *call, _ api.Application, s api.Service) error {
	v := r.arg("code_version")
	if err := r.send(http.MethodDelete, servicePath(s)+"/versions/"+escape(v)+r.deletion(), nil, nil); err != nil {
		return err
	}
	r.say("%s deleted", v)
	return nil
}

// pickedVersion finds a version, the current one for "".
func (r *call) pickedVersion(s api.Service, version string) (api.CodeVersion, error) {
	all, err := r.versions(s)
	if err != nil {
		return api.CodeVersion{}, err
	}
	return pickVersion(all, version)
}

func downloadCode(r *call, _ api.Application, s api.Service) error {
	version := r.arg("code_version")
	if version == "" {
		version = r.String("version")
	}
	v, err := r.pickedVersion(s, version)
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
	if bar := r.bar(resp.ContentLength, 0); bar != nil {
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
