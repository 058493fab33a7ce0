package php

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
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

const fpmPrefix = "php-fpm-"

// fpm keeps one PHP-FPM running with the settings wanted. Changed settings
// start a second one beside it; a link moves new requests over, and the first
// ends when it has finished its own. So nothing is cut or has to wait, which a
// reload by signal would do while a slow page runs.
type fpm struct {
	m         services.Machine
	templates *template.Template
	memory    int64    // of the instance, 0: not limited
	dir       string   // of sockets
	debian    string   // root of the file system with PHP's packages
	link      web.Link // to the socket that takes requests
	alive     web.Link // and to the one that tells how it is
	former    web.Retirement

	mu       sync.Mutex
	settings settings
	current  string // name of the process
}

// wanted is all that makes one PHP-FPM another one.
type wanted struct {
	settings
	environment []api.Variable
	handler     string // of sessions
	savePath    string
}

// fpmData is what fpm.conf.tmpl gets.
type fpmData struct {
	Name, Run, Log, User, Group, Socket, Status, Uploads string
	SessionHandler, SessionPath                          string
	Children, Start, MinSpare, MaxSpare, Slow            int
	Env                                                  []string // names
	Made                                                 []string // what else it depends on, as comments
	S                                                    settings
}

// status is what PHP-FPM tells of itself.
type status struct {
	Active     int `json:"active processes"`
	Idle       int `json:"idle processes"`
	Queue      int `json:"listen queue"`
	Accepted   int `json:"accepted conn"`
	MaxReached int `json:"max children reached"`
	Slow       int `json:"slow requests"`
}

func newFPM(m services.Machine, t *template.Template, memory int64) *fpm {
	f := &fpm{m: m, templates: t, memory: memory, dir: m.Dir("sockets"), debian: "/"}
	f.link.Path, f.alive.Path = filepath.Join(f.dir, "fpm.sock"), filepath.Join(f.dir, "alive.sock")
	f.former = web.Retirement{Busy: f.busy, End: f.end, Grace: 10 * time.Second, Log: m.Log()}
	return f
}

func (f *fpm) socket(name string) string       { return filepath.Join(f.dir, name+".sock") }
func (f *fpm) statusSocket(name string) string { return filepath.Join(f.dir, name+"-status.sock") }
func (f *fpm) file(name string) string         { return filepath.Join(f.m.Dir("etc"), name+".conf") }
func (f *fpm) scanDir(name string) string      { return filepath.Join(f.m.Dir("etc"), name+".d") }

// apply makes what is wanted run and returns when it does.
func (f *fpm) apply(ctx context.Context, s wanted) error {
	if err := f.prepare(); err != nil {
		return err
	}
	program, err := f.m.Program("php-fpm*", "php-fpm")
	if err != nil {
		return err
	}
	loaded, err := loadedExtensions(f.debian, s.Extensions)
	if err != nil {
		return err
	}
	flags := f.flags(s.settings)
	name, text, err := f.render(s, append(flags, loaded...))
	if err != nil {
		return err
	}
	if err := f.former.Spare(ctx, name); err != nil {
		return err
	}
	if err := errors.Join(f.write(name, text), writeScanDir(f.scanDir(name), loaded)); err != nil {
		return err
	}
	p := services.Process{Name: name, Argv: append([]string{program, "-F", "-y", f.file(name)}, flags...), Env: f.environ(name, s.environment), Log: "php-fpm.log", Describe: "output of PHP-FPM",
		// PHP-FPM takes over the sockets that it is told of, so that requests
		// wait while it is started again.
		Sockets: []services.Socket{{Path: f.socket(name), User: true}, {Path: f.statusSocket(name), User: true}},
		Stop:    "QUIT", Grace: s.RequestTimeout + 5,
		Ready: web.Soon(func(ctx context.Context) error { _, err := f.status(ctx, name); return err })}
	if err = f.m.Supervisor().Ensure(ctx, p); err != nil {
		if f.link.Get() == f.socket(name) {
			return err
		}
		// A new one that does not come up; the old one serves.
		ctx := context.WithoutCancel(ctx)
		return errors.Join(f.refused(ctx, p, err), f.end(ctx, name))
	}
	if err := errors.Join(f.link.Set(f.socket(name)), f.alive.Set(f.statusSocket(name))); err != nil {
		return err
	}
	f.mu.Lock()
	f.current, f.settings = name, s.settings
	f.mu.Unlock()
	for _, p := range f.m.Supervisor().Processes() {
		if strings.HasPrefix(p.Name, fpmPrefix) && p.Name != name {
			f.former.Retire(p.Name, time.Duration(s.RequestTimeout)*time.Second) //nolint:contextcheck // whoever asked does not wait for it
		}
	}
	return nil
}

// prepare makes the directories and files that PHP writes.
func (f *fpm) prepare() error {
	_, uid, gid, drops := f.m.User()
	for _, d := range []string{f.files(), f.uploads()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
		if drops {
			if err := os.Chown(d, uid, gid); err != nil {
				return err
			}
		}
	}
	for _, l := range []struct{ name, what string }{{"fpm-access.log", "pages made by PHP"}, {"fpm-error.log", "errors of PHP-FPM"}, {"fpm-slow.log", "where pages were that took longer than slow_seconds"}, {"php-errors.log", "errors of PHP pages"}} {
		path := filepath.Join(f.m.Dir("log"), l.name)
		f.m.Supervisor().AddLog(l.name, l.what, path)
		if l.name != "php-errors.log" {
			continue
		}
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return err
		}
		if drops {
			err = file.Chown(uid, gid) // PHP opens it as its own account
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (f *fpm) files() string   { return filepath.Join(f.m.Dir("data"), "sessions") }
func (f *fpm) uploads() string { return filepath.Join(f.m.Dir("tmp"), "php") }

// flags are settings that PHP takes at its start only.
func (f *fpm) flags(s settings) []string {
	opcache := int64(s.OpcacheMemory)
	if opcache == 0 {
		opcache = 128
		if f.memory > 0 {
			opcache = min(max(f.memory>>20/6, 32), 128)
		}
	}
	watch := 0
	if s.OpcacheWatch {
		watch = 1
	}
	flags := []string{"-d", fmt.Sprintf("opcache.memory_consumption=%d", opcache), "-d", "opcache.max_accelerated_files=20000", "-d", fmt.Sprintf("opcache.validate_timestamps=%d", watch),
		"-d", "realpath_cache_size=4M"}
	if _, _, _, ok := f.m.User(); !ok && os.Geteuid() == 0 {
		flags = append(flags, "-R") // root without an account to fall back to
	}
	return flags
}

// environ is the environment of PHP-FPM itself. The service's variables are
// in it under other names, so that they mean nothing to PHP-FPM; its
// configuration gives them to pages by their own. So no value, whatever is in
// it, is ever written to a file or quoted.
func (f *fpm) environ(name string, variables []api.Variable) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LANG=C.UTF-8",
		"PHP_INI_SCAN_DIR=" + f.scanDir(name), fmt.Sprintf("FPM_SOCKETS=%s=3,%s=4", f.socket(name), f.statusSocket(name))}
	for _, v := range variables {
		env = append(env, "NUTSHELL_SET_"+v.Name+"="+v.Value)
	}
	return env
}

func (f *fpm) render(s wanted, made []string) (name, text string, err error) {
	user, _, _, _ := f.m.User()
	n := children(s.settings, f.memory)
	d := fpmData{Run: f.m.Dir("run"), Log: f.m.Dir("log"), User: user, Group: user, SessionHandler: s.handler, SessionPath: s.savePath, Uploads: f.uploads(),
		Children: n, Start: min(n, 4), MinSpare: min(n, 2), MaxSpare: min(n, 6), Slow: min(s.SlowSeconds, s.RequestTimeout), Made: made, S: s.settings}
	values := sha256.New()
	for _, v := range s.environment {
		d.Env = append(d.Env, v.Name)
		fmt.Fprintf(values, "%s\x00%s\x00", v.Name, v.Value)
	}
	execute := func() (string, error) {
		var b bytes.Buffer
		err := f.templates.ExecuteTemplate(&b, "fpm.conf.tmpl", d)
		return b.String(), err
	}
	if text, err = execute(); err != nil {
		return "", "", fmt.Errorf("render php-fpm's configuration: %w", err)
	}
	sum := sha256.Sum256(values.Sum([]byte(text)))
	d.Name = fpmPrefix + hex.EncodeToString(sum[:3])
	d.Socket, d.Status = f.socket(d.Name), f.statusSocket(d.Name)
	text, err = execute()
	return d.Name, text, err
}

func (f *fpm) write(name, text string) error {
	if b, err := os.ReadFile(f.file(name)); err == nil && string(b) == text {
		return nil
	}
	if err := os.WriteFile(f.file(name)+".new", []byte(text), 0o644); err != nil { // no secret in it
		return err
	}
	return os.Rename(f.file(name)+".new", f.file(name))
}

// refused is why php-fpm did not start: its configuration, or what was seen.
// It is not asked before a start, which is the same check: reading the
// configuration takes php-fpm as long as starting, for its extensions.
func (f *fpm) refused(ctx context.Context, p services.Process, seen error) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Argv[0], append(slices.Clone(p.Argv[1:]), "-t")...)
	cmd.Env = slices.DeleteFunc(slices.Clone(p.Env), func(v string) bool { return strings.HasPrefix(v, "FPM_SOCKETS=") })
	out, err := cmd.CombinedOutput()
	if err == nil {
		return seen
	}
	return &api.Error{Code: api.CodeInternal, Op: "check configuration", Object: "php-fpm", Message: "php-fpm refuses it", Err: err, LogTail: strings.Split(strings.TrimSpace(string(out)), "\n")}
}

// stop ends every PHP-FPM of the instance.
func (f *fpm) stop(ctx context.Context) error {
	var err error
	for _, p := range f.m.Supervisor().Processes() {
		if strings.HasPrefix(p.Name, fpmPrefix) {
			err = errors.Join(err, f.end(ctx, p.Name))
		}
	}
	return err
}

// status asks on a socket of its own, which answers even when all children
// are busy: a loaded PHP-FPM is not a dead one.
func (f *fpm) status(ctx context.Context, name string) (status, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var s status
	a, err := ask(ctx, f.statusSocket(name), map[string]string{"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/status", "SCRIPT_FILENAME": "/status", "QUERY_STRING": "json"})
	if err != nil {
		return s, err
	}
	if a.status != 200 {
		return s, fmt.Errorf("php-fpm answers with status %d", a.status)
	}
	return s, json.Unmarshal(a.body, &s)
}

func (f *fpm) now() (name string, s settings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current, f.settings
}
