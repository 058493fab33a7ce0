package director

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// bytesTo sends raw bytes and decodes the answer.
func (c client) bytesTo(method, path string, body io.Reader, out any) (int, *api.Error) {
	c.h.t.Helper()
	resp := c.raw(method, path, body, http.Header{"Content-Type": {"application/octet-stream"}})
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.h.t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		var e api.Error
		if err := json.Unmarshal(b, &e); err != nil {
			c.h.t.Fatalf("%s %s: %s", method, path, b)
		}
		return resp.StatusCode, &e
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			c.h.t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return resp.StatusCode, nil
}

// shopWith makes an application with a service that is not started.
func (c client) shopWith(app string) (path string) {
	c.h.t.Helper()
	c.must("POST", "/applications", api.CreateApplication{Name: app}, nil, 201)
	c.must("POST", "/applications/"+app+"/services", api.CreateService{Kind: "test"}, nil, 201)
	return "/applications/" + app + "/services/test"
}

func TestUploadGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	path := ann.shopWith("shop")
	data := archiveOf(t, map[string]string{"index.html": strings.Repeat("hello ", 1000), "a.txt": "a"})
	ask := api.StartUpload{Filename: "site.tar.gz", Bytes: int64(len(data)), SHA256: sumOf(data), Description: "first"}
	var u, again api.Upload
	ann.must("POST", path+"/uploads", ask, &u, 201)
	if u.Offset != 0 || u.Bytes != ask.Bytes || u.Filename != "site.tar.gz" || time.Until(u.Expires) < 23*time.Hour {
		t.Errorf("begun: %+v", u)
	}
	half := len(data) / 2
	if status, e := ann.bytesTo("PATCH", fmt.Sprintf("%s/uploads/%s?offset=0", path, u.ID), bytes.NewReader(data[:half]), &u); status != 200 || u.Offset != int64(half) {
		t.Fatalf("first half: %d %v %+v", status, e, u)
	}
	h.stopDirector()
	h.start()
	ann.http, ann.h = h.admin.http, h
	ask.Description = "second thoughts"
	ann.must("POST", path+"/uploads", ask, &again, 201)
	if again.ID != u.ID || again.Offset != int64(half) {
		t.Fatalf("begun again: %+v, want %+v", again, u)
	}
	at := fmt.Sprintf("%s/uploads/%s", path, u.ID)
	ann.refused("POST", at+"/finish", nil, api.CodeConflict)
	if status, e := ann.bytesTo("PATCH", at+"?offset=3", bytes.NewReader(data[3:]), nil); status != 409 || !strings.Contains(e.Message, fmt.Sprint(half)) {
		t.Errorf("at a wrong offset: %d %v", status, e)
	}
	if status, e := ann.bytesTo("PATCH", fmt.Sprintf("%s?offset=%d", at, half), bytes.NewReader(data[half:]), &u); status != 200 || u.Offset != u.Bytes {
		t.Fatalf("second half: %d %v %+v", status, e, u)
	}
	var v, same api.CodeVersion
	ann.must("POST", at+"/finish", nil, &v, 201)
	if v.SHA256 != ask.SHA256 || v.Files != 2 || v.By != "ann" || v.Description != "second thoughts" || v.Bytes != ask.Bytes || v.Filename != "site.tar.gz" {
		t.Errorf("version: %+v", v)
	}
	ann.must("POST", at+"/finish", nil, &same, 201) // the answer was lost
	if same != v {
		t.Errorf("asked again: %+v", same)
	}
	ann.refused("GET", at, nil, api.CodeNotFound)
	var all []api.CodeVersion
	ann.must("GET", path+"/versions", nil, &all, 200)
	if len(all) != 2 || all[0] != v {
		t.Errorf("listed: %+v", all)
	}
	if left, err := h.d.code.Unfinished(); err != nil || len(left) != 0 {
		t.Errorf("left on the disk: %v, %v", left, err)
	}
	down := ann.raw("GET", path+"/versions/"+v.ID+"/download", nil, nil)
	got, _ := io.ReadAll(down.Body)
	_ = down.Body.Close()
	if !bytes.Equal(got, data) {
		t.Errorf("downloaded %d bytes that are not the same", len(got))
	}
}

func TestUploadIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, eve := h.user("ann"), h.user("eve")
	path := ann.shopWith("shop")
	begin := func(u api.StartUpload) api.Upload {
		t.Helper()
		var out api.Upload
		ann.must("POST", path+"/uploads", u, &out, 201)
		return out
	}
	for want, u := range map[api.Code][]api.StartUpload{
		api.CodeInvalid: {{Filename: "a.zip"}, {Filename: "a.zip", Bytes: -1}, {Filename: "", Bytes: 5}, {Filename: "a\nb", Bytes: 5}, {Filename: "a.zip", Bytes: 5, SHA256: "beef"},
			{Filename: "a.zip", Bytes: 5, Description: strings.Repeat("x", 1001)}},
		api.CodeTooLarge: {{Filename: "a.zip", Bytes: 2<<30 + 1}, {Filename: "a.zip", Bytes: 1 << 62}},
	} {
		for _, b := range u {
			ann.refused("POST", path+"/uploads", b, want)
		}
	}
	// What is no archive is told after the first piece, and forgotten.
	text := begin(api.StartUpload{Filename: "site.zip", Bytes: 1 << 30})
	if status, e := ann.bytesTo("PATCH", path+"/uploads/"+text.ID, strings.NewReader(strings.Repeat("no archive", 100)), nil); status != 422 || !strings.Contains(e.Message, "not an archive") {
		t.Errorf("text: %d %v", status, e)
	}
	ann.refused("GET", path+"/uploads/"+text.ID, nil, api.CodeNotFound)
	// What is not what was announced is refused in the end, and forgotten.
	data := archiveOf(t, map[string]string{"index.html": "x"})
	other := begin(api.StartUpload{Filename: "site.tar.gz", Bytes: int64(len(data)), SHA256: sumOf([]byte("else"))})
	if status, e := ann.bytesTo("PATCH", path+"/uploads/"+other.ID, bytes.NewReader(data), nil); status != 200 {
		t.Fatalf("%d %v", status, e)
	}
	if e := ann.refused("POST", path+"/uploads/"+other.ID+"/finish", nil, api.CodeInvalid); !slices.Contains(e.Fields, "sha256") {
		t.Errorf("another content: %+v", e)
	}
	ann.refused("GET", path+"/uploads/"+other.ID, nil, api.CodeNotFound)
	// A directory around everything is asked about without another transfer.
	data = archiveOf(t, map[string]string{"site/index.html": "x"})
	ask := api.StartUpload{Filename: "site.tar.gz", Bytes: int64(len(data)), SHA256: sumOf(data)}
	around := begin(ask)
	if status, e := ann.bytesTo("PATCH", path+"/uploads/"+around.ID, bytes.NewReader(data), nil); status != 200 {
		t.Fatalf("%d %v", status, e)
	}
	ann.refused("POST", path+"/uploads/"+around.ID+"/finish", nil, api.CodeInvalid)
	ask.Strip = true
	if again := begin(ask); again.ID != around.ID || again.Offset != again.Bytes {
		t.Errorf("begun again with strip: %+v", again)
	}
	var v api.CodeVersion
	ann.must("POST", path+"/uploads/"+around.ID+"/finish", nil, &v, 201)
	if v.Strip != "site" {
		t.Errorf("version: %+v", v)
	}
	// An upload whose hash is not known is not found again: it is asked at its end.
	nameless := begin(api.StartUpload{Filename: "site.tar.gz", Bytes: int64(len(data))})
	if status, e := ann.bytesTo("PATCH", path+"/uploads/"+nameless.ID, bytes.NewReader(data), nil); status != 200 {
		t.Fatalf("%d %v", status, e)
	}
	if e := ann.refused("POST", path+"/uploads/"+nameless.ID+"/finish", nil, api.CodeInvalid); !slices.Contains(e.Fields, "strip") {
		t.Errorf("a directory around everything: %+v", e)
	}
	v = api.CodeVersion{}
	ann.must("POST", path+"/uploads/"+nameless.ID+"/finish?strip=true", nil, &v, 201)
	if v.Strip != "site" {
		t.Errorf("version: %+v", v)
	}
	// Nobody else sees it, and nobody begins too many.
	one := begin(api.StartUpload{Filename: "1.zip", Bytes: 5})
	for _, m := range []string{"GET", "DELETE"} {
		eve.refused(m, path+"/uploads/"+one.ID, nil, api.CodeNotFound)
	}
	for n := range uploadMost - 1 {
		begin(api.StartUpload{Filename: fmt.Sprint(n, ".zip"), Bytes: 5})
	}
	if e := ann.refused("POST", path+"/uploads", api.StartUpload{Filename: "9.zip", Bytes: 5}, api.CodeQuota); e.Related != one.ID {
		t.Errorf("too many: %+v", e)
	}
	ann.must("DELETE", path+"/uploads/"+one.ID, nil, nil, 204)
	var list []api.Upload
	ann.must("GET", path+"/uploads", nil, &list, 200)
	if len(list) != uploadMost-1 {
		t.Errorf("%d uploads listed", len(list))
	}
}

func TestUploadsExpire(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	path := h.admin.shopWith("shop")
	data := archiveOf(t, map[string]string{"index.html": "x"})
	begin := func() (u api.Upload) {
		h.admin.must("POST", path+"/uploads", api.StartUpload{Filename: "site.tar.gz", Bytes: int64(len(data))}, &u, 201)
		if status, e := h.admin.bytesTo("PATCH", path+"/uploads/"+u.ID, bytes.NewReader(data[:20]), nil); status != 200 {
			t.Fatalf("%d %v", status, e)
		}
		return u
	}
	old, fresh := begin(), begin()
	err := h.d.store.Write(t.Context(), func(tx *store.Tx) error {
		u, err := tx.Upload(t.Context(), 1, 1, old.ID)
		if err != nil {
			return err
		}
		u.Expires = time.Now().Add(-time.Second)
		return tx.SaveUpload(t.Context(), u)
	})
	if err != nil {
		t.Fatal(err)
	}
	h.admin.refused("GET", path+"/uploads/"+old.ID, nil, api.CodeNotFound)
	h.admin.refused("POST", path+"/uploads/"+old.ID+"/finish", nil, api.CodeNotFound)
	h.d.dropUploads(t.Context())
	if left, err := h.d.code.Unfinished(); err != nil || !slices.Equal(left, []string{fresh.ID}) {
		t.Errorf("left: %v, %v; want %s", left, err, fresh.ID)
	}
	h.admin.must("DELETE", path, nil, nil, 202)
	h.eventually("the service is gone", func() bool { status, _ := h.admin.do("GET", path, nil, nil); return status == 404 })
	h.d.dropUploads(t.Context())
	if left, err := h.d.code.Unfinished(); err != nil || len(left) != 0 {
		t.Errorf("left when the service is gone: %v, %v", left, err)
	}
}
