package imagebuild

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"nutshell/imagebuild/rootfs"
	"nutshell/roles/api"
)

// A mirror that answers, sends half of something and then nothing more must end
// a build with an error that says so, and leave nothing.
func TestMirrorThatStops(t *testing.T) {
	if err := rootfs.Tools(); err != nil {
		t.Skipf("images cannot be built here: %v", err)
	}
	conf := filepath.Join(t.TempDir(), "apt.conf")
	if err := os.WriteFile(conf, []byte("Acquire::http::Timeout \"1\";\nAcquire::Retries \"0\";\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APT_CONFIG", conf)
	for _, name := range []string{"http_proxy", "https_proxy"} {
		t.Setenv(name, "")
	}
	var asked atomic.Int32
	end := make(chan struct{})
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write([]byte("-----BEGIN PGP SIGNED MESSAGE-----\n"))
		_ = http.NewResponseController(w).Flush()
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	defer mirror.Close()
	defer close(end)
	s, err := New(Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Suite: "trixie", Mirror: mirror.URL + "/debian"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Layers(t.Context(), "base", nil, nil)
	if api.CodeOf(err) != api.CodeUnavailable || err == nil || !strings.Contains(err.Error(), "build image base") {
		t.Errorf("got %v, want unavailable", err)
	}
	t.Logf("%d requests, then: %v", asked.Load(), err)
	if asked.Load() == 0 {
		t.Error("the mirror was never asked")
	}
	if left, _ := os.ReadDir(s.path("build")); len(left) != 0 {
		t.Errorf("left behind in build: %v", left)
	}
}
