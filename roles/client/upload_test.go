package client

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// php makes an application with a php service.
func (w *world) php() {
	w.t.Helper()
	for _, line := range []string{"nutshell application create shop", "nutshell php add shop"} {
		if _, stderr, exit := w.run(w.t.Context(), line); exit != 0 {
			w.t.Fatalf("%s: %s", line, stderr)
		}
	}
	w.take()
}

// big writes a file that goes in pieces.
func (w *world) big(name string) []byte {
	w.t.Helper()
	data := make([]byte, 9<<20)
	_, _ = rand.Read(data)
	if err := os.WriteFile(filepath.Join(w.dir, name), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return data
}

func TestUploadGoesOnAfterALostConnection(t *testing.T) {
	w := newWorld(t)
	w.php()
	data := w.big("site.tar.gz")
	w.cut = 3 << 20
	stdout, stderr, exit := w.run(t.Context(), "nutshell php upload-code shop 1 "+w.dir+"/site.tar.gz --description new")
	if exit != 0 || stdout != "Code version code-big111 uploaded\n" || stderr != "" {
		t.Fatalf("exit %d, %q, %q", exit, stdout, stderr)
	}
	if w.cuts != 1 || len(w.uploads) != 1 || !bytes.Equal(w.uploads[0].data, data) {
		t.Errorf("%d connections were cut, %d uploads came", w.cuts, len(w.uploads))
	}
	if v := w.versions[1][0]; v.Description != "new" || v.Filename != "site.tar.gz" {
		t.Errorf("version: %+v", v)
	}
}

func TestUploadIsFoundAgain(t *testing.T) {
	w := newWorld(t)
	w.php()
	data := w.big("site.tar.gz")
	line := "nutshell php upload-code shop 1 " + w.dir + "/site.tar.gz"
	if _, _, exit := w.run(t.Context(), line); exit != 0 {
		t.Fatal("first upload failed")
	}
	// As if the program had been killed after half of it.
	u := w.uploads[0]
	u.data = u.data[:4<<20]
	u.Offset = int64(len(u.data))
	w.take()
	_, stderr, exit := w.run(t.Context(), line)
	if exit != 0 || stderr != "going on with an upload that was broken off at 44 %\n" {
		t.Errorf("exit %d, %q", exit, stderr)
	}
	if len(w.uploads) != 1 || !bytes.Equal(u.data, data) {
		t.Errorf("%d uploads, %d bytes", len(w.uploads), len(u.data))
	}
	for _, asked := range w.take() {
		if strings.Contains(asked, "PATCH") && !strings.HasSuffix(asked, "?offset=4194304 (5242880 bytes)") {
			t.Errorf("sent again: %s", asked)
		}
	}
}

func TestUploadThatIsRefusedIsNotTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.php()
	w.big("site.tar.gz")
	w.asking = func(*http.Request) {
		for _, u := range w.uploads {
			u.ask.SHA256 = "other"
		}
	}
	_, stderr, exit := w.run(t.Context(), "nutshell php upload-code shop 1 "+w.dir+"/site.tar.gz")
	if exit != api.CodeInvalid.Exit() || stderr != "ERROR: what came is not what was announced\n" {
		t.Errorf("exit %d, %q", exit, stderr)
	}
}

func TestSecretsAreNotTraced(t *testing.T) {
	w := newWorld(t)
	w.php()
	long := strings.Repeat("x", 5000)
	for _, line := range []string{"nutshell php env set shop 1 --secret DB_PASSWORD=horse MODE=stable --debug", "nutshell php env set shop 1 A=horse" + long + " --debug"} {
		_, stderr, exit := w.run(t.Context(), line)
		if exit != 0 || strings.Contains(stderr, "horse") || strings.Contains(stderr, "stable") || !strings.Contains(stderr, "PATCH") {
			t.Errorf("exit %d: %s", exit, stderr)
		}
	}
}

func TestVariableFromStdin(t *testing.T) {
	w := newWorld(t)
	w.php()
	o := w.options()
	var out, errs bytes.Buffer
	o.Stdin, o.Stdout, o.Stderr = strings.NewReader("two\nlines\n"), &out, &errs
	if exit := Main(t.Context(), splitWords("nutshell php env set shop 1 TEXT --secret"), o); exit != 0 {
		t.Fatalf("exit %d: %s", exit, errs.String())
	}
	if asked := w.take(); len(asked) != 1 || asked[0] != `PATCH /applications/1/services/1/environment {"set":[{"name":"TEXT","value":"two\nlines","secret":true}]}` {
		t.Errorf("asked: %q", asked)
	}
}
