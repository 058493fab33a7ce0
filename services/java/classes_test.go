package java

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files, and compile the classes that go into Tomcat")

const sumEntry = "META-INF/sources.sha256"

// TestClasses: tomcat/nutshell.jar is made of the sources beside it, by the
// compiler that Tomcat has for pages. It is kept because no machine that runs
// Nutshell needs to have a Java compiler, nor the time to start it.
func TestClasses(t *testing.T) {
	sources, err := filepath.Glob("tomcat/*.java")
	if err != nil || len(sources) == 0 {
		t.Fatal("no sources", err)
	}
	sum := sha256.New()
	for _, s := range sources {
		b, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(b)
	}
	want := hex.EncodeToString(sum.Sum(nil))
	if *update {
		if err := os.WriteFile("tomcat/nutshell.jar", pack(t, compile(t, sources), want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	jar := unpack(t, "tomcat/nutshell.jar")
	if got := string(jar[sumEntry]); got != want {
		t.Fatalf("nutshell.jar was made of other sources (%.8s, now %.8s): go test ./services/java -run TestClasses -update", got, want)
	}
	delete(jar, sumEntry)
	if out, err := exec.CommandContext(t.Context(), "dpkg-query", "-W", "-f", "${Version}", "libeclipse-jdt-core-java").Output(); err != nil || !strings.HasPrefix(string(out), "3.32") {
		t.Skip("another compiler than that of Debian 12, or none: its bytes may differ")
	}
	made := compile(t, sources)
	for name, b := range made {
		if !bytes.Equal(b, jar[name]) {
			t.Errorf("%s is not what its source compiles to: go test ./services/java -run TestClasses -update", name)
		}
		delete(jar, name)
	}
	for name := range jar {
		t.Errorf("%s has no source", name)
	}
}

func compile(t *testing.T, sources []string) map[string][]byte {
	t.Helper()
	jars, _ := filepath.Glob(tomcatHome + "/lib/*.jar")
	if len(jars) == 0 {
		t.Skip("install tomcat10-common to run this test")
	}
	out := t.TempDir()
	args := append([]string{"-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/eclipse-jdt-core.jar", "org.eclipse.jdt.internal.compiler.batch.Main", "-proc:none", "-g:none", "-17",
		"-cp", strings.Join(append(jars, tomcatHome+"/bin/tomcat-juli.jar"), ":"), "-d", out}, sources...)
	if b, err := exec.CommandContext(t.Context(), "java", args...).CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, b)
	}
	found, err := filepath.Glob(out + "/nutshell/*.class")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, f := range found {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all["nutshell/"+filepath.Base(f)] = b
	}
	return all
}

func pack(t *testing.T, classes map[string][]byte, sum string) []byte {
	t.Helper()
	classes[sumEntry] = []byte(sum)
	var names []string
	for n := range classes {
		names = append(names, n)
	}
	slices.Sort(names)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, n := range names {
		w, err := z.Create(n)
		if err == nil {
			_, err = w.Write(classes[n])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t *testing.T, path string) map[string][]byte {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = z.Close() }()
	all := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if all[f.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
	}
	return all
}
