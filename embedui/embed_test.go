package embedui

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

func TestFS(t *testing.T) {
	page, err := fs.ReadFile(FS(), "index.html")
	if err != nil {
		t.Fatalf("index.html cannot be read: %v", err)
	}
	want := `<div id="app">`
	if !Built() {
		want = "make ui"
	}
	if !strings.Contains(string(page), want) {
		t.Errorf("index.html does not contain %q", want)
	}
}

func TestPlaceholder(t *testing.T) {
	for _, c := range []struct{ name, open, want string }{
		{"index-is-the-placeholder", "index.html", "how to build"},
		{"other-files-stay", "icon.svg", "<svg>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := fstest.MapFS{"placeholder.html": {Data: []byte("how to build")}, "icon.svg": {Data: []byte("<svg>")}}
			got, err := fs.ReadFile(placeholder{files}, c.open)
			if err != nil || string(got) != c.want {
				t.Errorf("%s = %q, %v; want %q", c.open, got, err, c.want)
			}
		})
	}
}

// TestNoInlineCode keeps the pages servable under a policy that forbids
// inline scripts and styles, and without any request to another host.
func TestNoInlineCode(t *testing.T) {
	if !Built() {
		t.Skip("the pages are not built; run make ui")
	}
	page, err := fs.ReadFile(FS(), "index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<style", " style=", "<script>", " onclick=", "https://", "http://"} {
		if strings.Contains(string(page), bad) {
			t.Errorf("index.html contains %q, which the content security policy forbids", bad)
		}
	}
}
