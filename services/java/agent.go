package java

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
)

// pager makes pages with Tomcat; it implements web.Pager, web.Publisher,
// web.Maker and web.Settler.
type pager struct {
	m         services.Machine
	templates *template.Template
	nginx     *web.Nginx
	tomcats   *tomcats
	known     known
	memory    int64
	made      *web.AccessLog // pages
	sessions  *web.Sessions
}

func newAgent(m services.Machine) services.Agent {
	memory, _ := strconv.ParseInt(os.Getenv("NUTSHELL_MEMORY"), 10, 64) // absent: not limited
	p, err := newPager(m, memory)
	if err == nil {
		var a *web.Agent
		if a, err = web.NewAgent(m, p); err == nil {
			return &web.SharingAgent{Agent: a, Sessions: p.sessions}
		}
	}
	panic("java: " + err.Error()) // embedded templates do not parse: a bug in the build
}

func newPager(m services.Machine, memory int64) (*pager, error) {
	t, err := web.Templates()
	if err == nil {
		t, err = t.Funcs(template.FuncMap{"xml": xmlText}).ParseFS(files, "*.tmpl")
	}
	if err != nil {
		return nil, err
	}
	p := &pager{m: m, templates: t, nginx: web.NewNginx(m, "nginx-backend", web.BackendPort), tomcats: newTomcats(m, t, memory), known: known{m.Dir("public")}, memory: memory,
		made: web.NewAccessLog(web.Backend, filepath.Join(m.Dir("log"), accessLog), pageRequest)}
	p.sessions = web.NewSessions(m, "java/session", p.tomcats.dir)
	return p, nil
}

// Publish implements web.Publisher.
func (p *pager) Publish(code string) (string, error) {
	_, dir, err := p.known.of(code)
	return dir, err
}

// Apply implements web.Pager.
func (p *pager) Apply(ctx context.Context, c web.Config, roots []web.Root, listen bool) error {
	s, err := parseSettings(c.Settings)
	if err != nil {
		return err
	}
	store, err := p.ensureStore(ctx, s)
	if err != nil {
		return err
	}
	env, err := web.Environment(p.m, c.Environment)
	if err != nil {
		return err
	}
	for _, version := range c.Live {
		i := slices.IndexFunc(roots, func(r web.Root) bool { return r.Version == version })
		if i < 0 {
			return fmt.Errorf("code version %s is not on this instance", version)
		}
		app, err := p.application(ctx, roots[i], s)
		if err != nil {
			return err
		}
		if _, err := p.tomcats.ensure(ctx, server{Version: version, Code: roots[i].Dir, App: app, Store: store, Route: p.route()}, s, env); err != nil {
			return err
		}
	}
	if !listen {
		return p.nginx.Stop(ctx)
	}
	state := web.State{Trust: c.Proxies, Roots: web.Made(p, roots)}
	return p.nginx.ServeTemplate(ctx, p.templates, "backend", state, func(f web.Frame) any {
		return struct {
			web.TierData
			ReadTimeout int
		}{web.TierData{Frame: f}, c.ReadTimeout}
	})
}

// Settle implements web.Settler: nobody here sends requests to former
// Tomcats any more.
func (p *pager) Settle(ctx context.Context, c web.Config, roots []web.Root) error {
	s, err := parseSettings(c.Settings)
	if err != nil {
		return err
	}
	p.tomcats.keep(ctx, c.Live, time.Duration(s.RequestTimeout)*time.Second)
	return errors.Join(p.known.keep(roots), p.keepMigrated(roots))
}

// Here implements web.Maker.
func (p *pager) Here(version string) string {
	if s, ok := p.tomcats.of(version); ok {
		return p.tomcats.socket(s.Name)
	}
	return ""
}

// Pages implements web.Pager.
func (p *pager) Pages(web.Config) (web.Pages, error) {
	var local, outside strings.Builder
	err := errors.Join(p.templates.ExecuteTemplate(&local, "pages", nil), p.templates.ExecuteTemplate(&outside, "here", nil))
	return web.Pages{Local: strings.TrimRight(local.String(), "\n"), Outside: strings.Trim(outside.String(), "\n"), Sticky: "JSESSIONID"}, err
}

// Check implements web.Pager: the health page of a version must not fail.
func (p *pager) Check(ctx context.Context, c web.Config, root web.Root) error {
	s, err := parseSettings(c.Settings)
	if err != nil {
		return err
	}
	if _, err := url.ParseRequestURI(s.Path); err != nil {
		return api.Invalidf("health_path: %v", err)
	}
	now, ok := p.tomcats.of(root.Version)
	if !ok {
		return api.NotFoundf("version %s does not run on this instance", root.Version)
	}
	before := p.tomcats.logEnd()
	ctx, cancel := context.WithTimeout(ctx, s.Patience())
	defer cancel()
	problem := ""
	status, err := p.tomcats.page(ctx, now.Name, s)
	switch {
	case ctx.Err() != nil:
		problem = fmt.Sprintf("it did not answer within %v", s.Patience())
	case err != nil:
		problem = err.Error()
	case !s.Good(status):
		problem = fmt.Sprintf("it answers with status %d", status)
	default:
		return nil
	}
	cause, lines := rootCause(p.tomcats.logSince(before))
	if cause != "" {
		problem += ": " + brief(cause)
	}
	return &api.Error{Code: api.CodeInvalid, Op: "check", Object: "version " + root.Version + ", page " + s.Path, Message: problem, LogTail: lines,
		Hint: "mend the application, or set health_path to a page that works without further set-up"}
}

// page asks a Tomcat for the health page, by a way that is not counted: a page
// that hangs must not keep its Tomcat.
func (t *tomcats) page(ctx context.Context, name string, s settings) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.m.Address()+s.Path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "Nutshell health check")
	req.Header.Set("X-Real-IP", t.m.Address())
	resp, err := over(t.status(name), s.Patience()).Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<20))
	return resp.StatusCode, err
}

// Observe implements web.Pager.
func (p *pager) Observe(ctx context.Context) (any, error) {
	told := map[string]seen{}
	var problems []error
	for _, s := range p.tomcats.all() {
		now, err := p.tomcats.look(ctx, s.Name)
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("tomcat of version %s does not answer: %w", s.Version, err))
		case !now.Available:
			problems = append(problems, fmt.Errorf("the application of version %s has not started; see the log %s", s.Version, tomcatLog))
		}
		told[s.Version] = now
	}
	return told, errors.Join(problems...)
}

// Stop implements web.Pager.
func (p *pager) Stop(ctx context.Context) error {
	if err := p.nginx.Stop(ctx); err != nil {
		return err
	}
	return errors.Join(p.tomcats.stop(ctx), p.sessions.End(ctx))
}

func (p *pager) migrated() string { return filepath.Join(p.m.Dir("data"), "migrated") }
