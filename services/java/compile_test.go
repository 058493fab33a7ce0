package java_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// classes compiles Java sources, by path, with the compiler that Tomcat has
// for pages. Those under stub/ are there to compile against only.
func classes(t *testing.T, sources map[string]string) map[string]string {
	t.Helper()
	var compiler string
	for _, name := range []string{"eclipse-jdt-core.jar", "eclipse-jdt-core-compiler-batch.jar", "ecj.jar"} {
		if _, err := os.Stat("/usr/share/java/" + name); err == nil {
			compiler = "/usr/share/java/" + name
		}
	}
	if compiler == "" {
		t.Fatal("no compiler: is libtomcat10-java installed?")
	}
	dir, out := t.TempDir(), t.TempDir()
	jars, err := filepath.Glob("/usr/share/tomcat10/lib/*.jar")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-XX:TieredStopAtLevel=1", "-cp", compiler, "org.eclipse.jdt.internal.compiler.batch.Main", "-proc:none", "-nowarn", "-17", "-cp", strings.Join(jars, ":"), "-d", out}
	for name, text := range sources {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	if b, err := exec.CommandContext(t.Context(), "java", args...).CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, b)
	}
	made := map[string]string{}
	err = filepath.WalkDir(out, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(out, path)
		if err != nil || strings.HasPrefix(rel, "javax/") {
			return err
		}
		b, err := os.ReadFile(path)
		made["WEB-INF/classes/"+rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// with lays files over others.
func with(all ...map[string]string) map[string]string {
	sum := map[string]string{}
	for _, m := range all {
		for name, text := range m {
			sum[name] = text
		}
	}
	return sum
}
