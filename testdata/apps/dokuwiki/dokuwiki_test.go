package dokuwiki

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestWikiServes makes the archive and serves it with PHP's own server: pages,
// styles and scripts come without a complaint in PHP's log, and what is written is read again.
func TestWikiServes(t *testing.T) {
	for _, program := range []string{"php", "apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	var archive, again bytes.Buffer
	if err := errors.Join(Write(t.Context(), &archive), Write(t.Context(), &again)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(archive.Bytes(), again.Bytes()) {
		t.Error("two runs made different archives: each `make run` would upload a new version")
	}
	t.Logf("archive: %.1f MB", float64(archive.Len())/1e6)
	site := t.TempDir()
	unpack(t, &archive, site)
	base, log := serve(t, site)

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	get := func(path string) string {
		t.Helper()
		resp, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: got %s %v\n%.500s", path, resp.Status, err, body)
		}
		return string(body)
	}
	for path, want := range map[string]string{
		"/":                            "It runs",
		"/doku.php?id=wiki:syntax":     "Formatting Syntax",
		"/lib/exe/js.php?t=dokuwiki":   "dw_page",
		"/lib/exe/css.php?t=dokuwiki":  ".dokuwiki",
		"/lib/exe/jquery.php":          "jQuery",
		"/doku.php?id=wiki:x&do=index": "Sitemap",
	} {
		if body := get(path); !strings.Contains(body, want) || strings.Contains(body, "Fatal error") || strings.Contains(body, "<b>Warning</b>") {
			t.Errorf("%s: got %d bytes without %q, or with a complaint of PHP", path, len(body), want)
		}
	}

	edit := get("/doku.php?id=diary&do=edit")
	form := url.Values{"id": {"diary"}, "do[save]": {"1"}, "wikitext": {"Written by a test, with <code php>echo 1;</code>"}, "prefix": {"."}, "suffix": {""}}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="(sectok|rev|date|changecheck|target)" value="([^"]*)"`).FindAllStringSubmatch(edit, -1) {
		form.Set(m[1], m[2])
	}
	resp, err := client.PostForm(base+"/doku.php?id=diary", form)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if body := get("/doku.php?id=diary"); !strings.Contains(body, "Written by a test") {
		t.Errorf("what was written is not there:\n%.2000s", body)
	}
	for line := range strings.Lines(log()) {
		if strings.Contains(line, "PHP Fatal") || strings.Contains(line, "PHP Warning") || strings.Contains(line, "[500]") {
			t.Errorf("PHP complains: %s", line)
		}
	}
}

func unpack(t *testing.T, r io.Reader, dir string) {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			t.Fatalf("the archive holds %q of type %c: only plain files inside", h.Name, h.Typeflag)
		}
		b, err := io.ReadAll(tr)
		name := filepath.Join(dir, h.Name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// serve runs php -S on a free port until the test ends.
func serve(t *testing.T, dir string) (base string, log func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	logFile := filepath.Join(t.TempDir(), "php.log")
	f, err := os.Create(logFile)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "php", "-d", "display_errors=1", "-d", "log_errors=1", "-S", address, "-t", dir)
	cmd.Stdout, cmd.Stderr, cmd.Dir = f, f, dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); f.Close() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(logFile)
			t.Fatalf("php does not listen on %s: %s", address, b)
		}
	}
	return "http://" + address, func() string { b, _ := os.ReadFile(logFile); return string(b) }
}
