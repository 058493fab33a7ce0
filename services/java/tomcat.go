package java

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
)

const (
	tomcatPrefix = "tomcat-"
	tomcatLog    = "catalina.log"
	accessLog    = "tomcat-access.log"
	tomcatHome   = "/usr/share/tomcat10"
	stopTime     = 20 // seconds for an application to end in order
)

// tomcats are the Tomcat processes of an instance, one for each version that
// is needed. Changed settings start another one beside the one that runs; it
// is used when it answers, and the first ends when it has finished its
// requests. So nothing is cut, and nothing of an old version stays in memory.
type tomcats struct {
	m         services.Machine
	templates *template.Template
	memory    int64  // of the instance, 0: not limited
	dir       string // of sockets
	former    web.Retirement

	mu      sync.Mutex
	current map[string]server // by version
}

// server is one Tomcat.
type server struct {
	Name, Version, Code string
	App                 string // directory of the application: the code, or what was migrated of it
	Store, Route        string // socket of the session store, or empty; what ends session ids
}

// tomcatData is what the templates get.
type tomcatData struct {
	settings
	Name, Socket, Status, Base, Log, Route, Sessions, BodyMax string
	Threads, Spare, Cache                                     int
	Types                                                     []mimeType
}

// seen is what a Tomcat tells of itself.
type seen struct {
	Available bool  `json:"available"` // the application has started
	Busy      int   `json:"busy"`      // requests in it
	Requests  int64 `json:"requests"`
	Sessions  int64 `json:"sessions"` // in its memory
	Working   int   `json:"working"`  // threads
	Threads   int   `json:"threads"`
	Heap      int64 `json:"heap"`
	HeapMax   int64 `json:"heap_max"`
}

func newTomcats(m services.Machine, t *template.Template, memory int64) *tomcats {
	all := &tomcats{m: m, templates: t, memory: memory, dir: m.Dir("sockets"), current: map[string]server{}}
	all.former = web.Retirement{Busy: all.busy, End: all.end, Grace: time.Minute, Log: m.Log()}
	return all
}

func (t *tomcats) base(name string) string   { return filepath.Join(t.m.Dir("data"), "tomcat", name) }
func (t *tomcats) socket(name string) string { return filepath.Join(t.dir, "j", name+".sock") }
func (t *tomcats) status(name string) string { return filepath.Join(t.dir, "j", name+"-agent.sock") }

// ensure runs a version and returns when it answers.
func (t *tomcats) ensure(ctx context.Context, s server, conf settings, env []api.Variable) (server, error) {
	program, err := t.m.Program("java", "default-jre-headless")
	if err != nil {
		return s, err
	}
	classes, err := t.classPath()
	if err != nil {
		return s, err
	}
	if err := t.prepare(); err != nil {
		return s, err
	}
	d := tomcatData{settings: conf, Log: t.m.Dir("log"), Route: s.Route, Sessions: s.Store, BodyMax: conf.bodyMax(), Threads: conf.threads(t.memory), Types: mimeTypes()}
	d.Spare, d.Cache = min(d.Threads, 4), int(min(max(conf.heap(t.memory)>>20/16, 4), 32))<<10
	// Settings of proxies alone do not need another Tomcat.
	d.RequestTimeout, d.StartTimeout, d.Health, d.Snippets, d.Javax = 0, 0, web.Health{}, web.Snippets{}, ""
	if s.Name, err = t.name(s, d, env); err != nil {
		return s, err
	}
	d.Name, d.Base, d.Socket, d.Status = s.Name, t.base(s.Name), t.socket(s.Name), t.status(s.Name)
	// Before anything is written: an end under way removes it.
	if err := t.former.Spare(ctx, s.Name); err != nil {
		return s, err
	}
	if err := t.write(s, d); err != nil {
		return s, err
	}
	before := t.logEnd()
	p := services.Process{Name: s.Name, Argv: append([]string{"/bin/sh", "-c", `rm -f "$1" "$2"; shift 2; exec "$@"`, "sh", d.Socket, d.Status, program}, t.arguments(d, classes)...),
		Env: t.environment(d.Base, env), Dir: d.Base, User: true, Log: tomcatLog, Describe: "output of Tomcat and of the application", Grace: stopTime,
		Ready: func(ctx context.Context) error { _, err := t.look(ctx, s.Name); return err }}
	start, cancel := context.WithTimeout(ctx, time.Duration(conf.StartTimeout)*time.Second)
	defer cancel()
	err = t.m.Supervisor().Ensure(start, p)
	if err == nil {
		var now seen
		if now, err = t.look(ctx, s.Name); err == nil && !now.Available {
			err = &api.Error{Code: api.CodeInvalid, Op: "start", Object: "version " + s.Version, Message: "the application does not start"}
		}
	}
	if err != nil {
		return s, t.failed(ctx, s, before, err)
	}
	t.mu.Lock()
	t.current[s.Version] = s
	t.mu.Unlock()
	return s, nil
}

// name tells Tomcats apart that would not do the same.
func (t *tomcats) name(s server, d tomcatData, env []api.Variable) (string, error) {
	b, err := json.Marshal([]any{d.settings, d.Log, d.Route, d.Sessions, d.Threads, d.Cache, s.App, t.memory, env})
	if err != nil {
		return "", err
	}
	jar, err := files.ReadFile("tomcat/nutshell.jar")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(b, jar...))
	return tomcatPrefix + s.Version + "-" + hex.EncodeToString(sum[:3]), nil
}

// classPath is Tomcat's: with all on the loader of the virtual machine there
// is one less between it and the application.
func (t *tomcats) classPath() (string, error) {
	jars, err := filepath.Glob(tomcatHome + "/lib/*.jar")
	if err != nil || len(jars) == 0 {
		return "", &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "Tomcat", Message: "it is not installed on this machine", Hint: "install Debian's package tomcat10-common: apt-get install tomcat10-common"}
	}
	b, err := files.ReadFile("tomcat/nutshell.jar")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	own := filepath.Join(t.m.Dir("etc"), "nutshell-"+hex.EncodeToString(sum[:4])+".jar")
	if _, err := os.Stat(own); err != nil {
		if err := writeAtomic(own, b, 0o644); err != nil {
			return "", err
		}
	}
	return strings.Join(append([]string{tomcatHome + "/bin/bootstrap.jar", tomcatHome + "/bin/tomcat-juli.jar", own}, jars...), ":"), nil
}

// prepare makes the directory of sockets, which Tomcat makes as its own account.
func (t *tomcats) prepare() error {
	if err := os.MkdirAll(filepath.Join(t.dir, "j"), 0o700); err != nil { // Tomcat wants it as closed as its sockets
		return err
	}
	access := filepath.Join(t.m.Dir("log"), accessLog)
	t.m.Supervisor().AddLog(accessLog, "requests answered by Tomcat: the common format, then milliseconds", access)
	file, err := os.OpenFile(access, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, uid, gid, drops := t.m.User()
	if drops {
		err = errors.Join(file.Chown(uid, gid), os.Chown(filepath.Join(t.dir, "j"), uid, gid))
	}
	return errors.Join(err, file.Close())
}

// write makes Tomcat's own directory. What it may write belongs to its account.
func (t *tomcats) write(s server, d tomcatData) error {
	_, uid, gid, drops := t.m.User()
	for _, sub := range []string{"conf/Catalina/app", "webapps", "work", "tmp"} {
		dir := filepath.Join(d.Base, sub)
		if err := os.MkdirAll(dir, 0o755); err != nil { // its account reads it
			return err
		}
		if drops && (sub == "work" || sub == "tmp") {
			if err := os.Chown(dir, uid, gid); err != nil {
				return err
			}
		}
	}
	for name, template := range map[string]string{"server.xml": "server.xml.tmpl", "context.xml": "context.xml.tmpl", "web.xml": "web.xml.tmpl", "logging.properties": "logging.properties.tmpl"} {
		var b bytes.Buffer
		if err := t.templates.ExecuteTemplate(&b, template, d); err != nil {
			return fmt.Errorf("render %s: %w", name, err)
		}
		if err := writeAtomic(filepath.Join(d.Base, "conf", name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	// No loaders of Tomcat's own: see classPath. All libraries of the application are looked at.
	const loaders = "common.loader=\nserver.loader=\nshared.loader=\ntomcat.util.scan.StandardJarScanFilter.jarsToSkip=\ntomcat.util.scan.StandardJarScanFilter.jarsToScan=\n"
	if err := writeAtomic(filepath.Join(d.Base, "conf", "catalina.properties"), []byte(loaders), 0o644); err != nil {
		return err
	}
	root := filepath.Join(d.Base, "webapps", "ROOT")
	if now, err := os.Readlink(root); err == nil && now == s.App {
		return nil
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(s.App, root)
}

func (t *tomcats) arguments(d tomcatData, classes string) []string {
	heap := d.heap(t.memory)
	args := []string{fmt.Sprintf("-Xmx%dm", heap>>20), "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8", "-Djava.security.egd=file:/dev/urandom", "-XX:+ExitOnOutOfMemoryError"}
	if heap <= 1<<30 {
		args = append(args, "-XX:+UseSerialGC") // the smallest and, for little memory, the fastest
	}
	if slices.ContainsFunc(d.JavaOptions, func(o string) bool { return strings.HasPrefix(o, "-XX:+Use") && strings.HasSuffix(o, "GC") }) {
		args = slices.DeleteFunc(args, func(a string) bool { return a == "-XX:+UseSerialGC" })
	}
	args = append(args, d.JavaOptions...)
	for _, p := range []string{"java.base/java.lang", "java.base/java.io", "java.base/java.util", "java.base/java.util.concurrent", "java.rmi/sun.rmi.transport"} {
		args = append(args, "--add-opens="+p+"=ALL-UNNAMED") // as Tomcat's own start script
	}
	return append(args, "-Dcatalina.home="+tomcatHome, "-Dcatalina.base="+d.Base, "-Djava.io.tmpdir="+d.Base+"/tmp",
		"-Djava.util.logging.config.file="+d.Base+"/conf/logging.properties", "-Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager",
		"-cp", classes, "org.apache.catalina.startup.Bootstrap", "start")
}

// environment is the application's. Options that Java would read from it
// could take the place of ours.
func (t *tomcats) environment(base string, env []api.Variable) []string {
	list := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + base + "/tmp", "LANG=C.UTF-8"}
	for _, v := range env {
		switch v.Name {
		case "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH":
			continue
		}
		list = append(list, v.Name+"="+v.Value)
	}
	return list
}

func (t *tomcats) of(version string) (server, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.current[version]
	return s, ok
}

// all are the Tomcats that are needed now.
func (t *tomcats) all() []server {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.current))
}

func writeAtomic(path string, b []byte, mode os.FileMode) error {
	if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, b) {
		return nil
	}
	if err := os.WriteFile(path+".new", b, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func xmlText(s string) (string, error) {
	var b bytes.Buffer
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
