package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/api"
)

// This part of the fake director takes uploads in pieces and keeps
// environments and weights.

// fakeUpload is an upload under way.
type fakeUpload struct {
	api.Upload
	ask  api.StartUpload
	data []byte
}

// receive takes a piece, and breaks the connection after f.cut bytes.
func (f *fake) receive(r *http.Request) []byte {
	if f.cut == 0 || r.Method != http.MethodPatch || !strings.Contains(r.URL.Path, "/uploads/") {
		body, _ := io.ReadAll(r.Body)
		return body
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, f.cut))
	if u := f.upload(r.URL.Path); u != nil && fmt.Sprint(u.Offset) == r.URL.Query().Get("offset") {
		u.take(body)
	}
	f.cut, f.cuts = 0, f.cuts+1
	panic(http.ErrAbortHandler)
}

func (f *fake) upload(path string) *fakeUpload {
	i := slices.IndexFunc(f.uploads, func(u *fakeUpload) bool { return strings.Contains(path, u.ID) })
	if i < 0 {
		return nil
	}
	return f.uploads[i]
}

func (u *fakeUpload) take(b []byte) {
	u.data = append(u.data, b...)
	u.Offset = int64(len(u.data))
}

func (f *fake) answerUploads(r *http.Request, s *api.Service, p []string, body []byte) (int, any, error) {
	if p[2] == "" {
		if r.Method == "GET" {
			list := []api.Upload{}
			for _, u := range f.uploads {
				list = append(list, u.Upload)
			}
			return 200, list, nil
		}
		var ask api.StartUpload
		_ = json.Unmarshal(body, &ask)
		for _, u := range f.uploads {
			if u.ask.SHA256 == ask.SHA256 && u.ask.Filename == ask.Filename {
				return 201, u.Upload, nil
			}
		}
		u := &fakeUpload{ask: ask, Upload: api.Upload{ID: fmt.Sprintf("upload%010d", len(f.uploads)), Filename: ask.Filename, Bytes: ask.Bytes, Expires: fakeTime}}
		f.uploads = append(f.uploads, u)
		return 201, u.Upload, nil
	}
	u := f.upload(p[2])
	if u == nil {
		return 0, nil, api.NotFoundf("there is no such upload")
	}
	switch r.Method {
	case "GET":
		return 200, u.Upload, nil
	case "DELETE":
		f.uploads = slices.DeleteFunc(f.uploads, func(o *fakeUpload) bool { return o == u })
		return 204, nil, nil
	case "PATCH":
		if at, _ := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64); at != u.Offset {
			return 0, nil, api.Conflictf("%d bytes have come", u.Offset)
		}
		u.take(body)
		return 200, u.Upload, nil
	}
	if sum := sha256.Sum256(u.data); hex.EncodeToString(sum[:]) != u.ask.SHA256 || u.Offset != u.Bytes {
		return 0, nil, api.Invalidf("what came is not what was announced")
	}
	v := api.CodeVersion{ID: "code-big111", Filename: u.Filename, Description: u.ask.Description, Bytes: u.Bytes, SHA256: u.ask.SHA256, Created: fakeTime}
	f.versions[s.ID] = append([]api.CodeVersion{v}, f.versions[s.ID]...)
	return 201, v, nil
}

func (f *fake) answerOptions(r *http.Request, a *api.Application, s *api.Service, p []string, read func(any)) (int, any, error) {
	switch r.Method + " " + p[1] {
	case "GET environment":
		return 200, []api.Variable{{Name: "DB_PASSWORD", Secret: true}, {Name: "MODE", Value: "production"}, {Name: "TEXT", Value: "one\ntwo"}}, nil
	case "PATCH environment":
		return 200, s, nil
	case "PUT weights":
		return f.operation("service.weights", "change the weights of "+s.Name, a.ID, s.ID, nil)
	case "POST rollback":
		all := f.versions[s.ID]
		i := slices.IndexFunc(all, func(v api.CodeVersion) bool { return v.Current })
		if i < 0 || i+1 == len(all) {
			return 0, nil, &api.Error{Code: api.CodeConflict, Op: "roll back", Object: "service " + s.Name, Message: "there is no version before the current one"}
		}
		status, out, err := f.activate(a, s, all[i+1].ID)
		if op, ok := out.(api.Operation); ok {
			op.Request = json.RawMessage(`{"version":"` + all[i+1].ID + `"}`)
			out = op
		}
		return status, out, err
	}
	return 0, nil, api.NotFoundf("no route %s %s", r.Method, r.URL.Path)
}
