package php

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
	"nutshell/services/web/session"
)

const checkTime = 20 * time.Second

// agent is the agent half: that of web kinds that share sessions, and what
// the manager half asks of it.
type agent struct {
	*web.SharingAgent
	p *pager
}

// pager makes pages with PHP-FPM; it implements web.Pager.
type pager struct {
	m         services.Machine
	templates *template.Template
	nginx     *web.Nginx
	fpm       *fpm
	made      *web.AccessLog // pages
	sessions  *web.Sessions
}

// pagesData is what the template "pages" gets.
type pagesData struct {
	Proxy       bool // pages may be made elsewhere, as the proxy's state says
	Socket      string
	Store       string // socket of the sessions, where there is another node to ask without them
	ReadTimeout int
}

func newAgent(m services.Machine) services.Agent {
	memory, _ := strconv.ParseInt(os.Getenv("NUTSHELL_MEMORY"), 10, 64) // absent: not limited
	p, err := newPager(m, memory)
	if err == nil {
		var a *web.Agent
		if a, err = web.NewAgent(m, p); err == nil {
			return &agent{&web.SharingAgent{Agent: a, Sessions: p.sessions}, p}
		}
	}
	panic("php: " + err.Error()) // embedded templates do not parse: a bug in the build
}

func newPager(m services.Machine, memory int64) (*pager, error) {
	t, err := web.Templates()
	if err == nil {
		t, err = t.Funcs(template.FuncMap{"join": strings.Join}).ParseFS(files, "*.tmpl")
	}
	if err != nil {
		return nil, err
	}
	p := &pager{m: m, templates: t, nginx: web.NewNginx(m, "nginx-backend", web.BackendPort), fpm: newFPM(m, t, memory),
		made: web.NewAccessLog(web.Backend, filepath.Join(m.Dir("log"), "fpm-access.log"), pageRequest)}
	p.sessions = web.NewSessions(m, "php/session", p.fpm.dir)
	return p, nil
}

// Apply implements web.Pager.
func (p *pager) Apply(ctx context.Context, c web.Config, roots []web.Root, listen bool) error {
	s, err := p.wanted(ctx, c)
	if err != nil {
		return err
	}
	if now, _ := p.fpm.now(); now == "" && listen { // nothing serves yet: both at once
		var wg sync.WaitGroup
		var made error
		wg.Go(func() { made = p.fpm.apply(ctx, s) })
		err = p.listen(ctx, c, roots)
		wg.Wait()
		return errors.Join(made, err)
	}
	if err := p.fpm.apply(ctx, s); err != nil {
		return err
	}
	if !listen {
		return p.nginx.Stop(ctx)
	}
	return p.listen(ctx, c, roots)
}

// listen answers proxies elsewhere.
func (p *pager) listen(ctx context.Context, c web.Config, roots []web.Root) error {
	state := web.State{Trust: c.Proxies, Roots: roots}
	return p.nginx.ServeTemplate(ctx, p.templates, "backend", state, func(f web.Frame) any {
		return struct {
			web.TierData
			Status string
			Pages  pagesData
		}{web.TierData{Frame: f}, p.fpm.alive.Path, pagesData{Store: p.storeSocket(), Socket: p.fpm.link.Path, ReadTimeout: c.ReadTimeout}}
	})
}

// Pages implements web.Pager.
func (p *pager) Pages(c web.Config) (web.Pages, error) {
	var b strings.Builder
	err := p.templates.ExecuteTemplate(&b, "pages", pagesData{Proxy: true, Socket: p.fpm.link.Path, ReadTimeout: c.ReadTimeout})
	return web.Pages{Index: "index.php", Local: strings.TrimRight(b.String(), "\n"), Socket: p.fpm.link.Path}, err
}

// Check implements web.Pager: the health page of a version must not fail.
// That it is missing is allowed, because not every application has a page
// there.
func (p *pager) Check(ctx context.Context, _ web.Config, root web.Root) error {
	name, s := p.fpm.now()
	u, err := url.ParseRequestURI(s.Path)
	if err != nil {
		return api.Invalidf("health_path: %v", err)
	}
	if top, err := p.m.Code(root.Version); err == nil {
		if err := checkRoot(root.Version, top, s.DocumentRoot); err != nil {
			return err
		}
	}
	script, info := resolve(root.Dir, u.Path)
	if script == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.Patience())
	defer cancel()
	a, err := ask(ctx, p.fpm.socket(name), map[string]string{
		"REQUEST_METHOD": "GET", "SCRIPT_FILENAME": filepath.Join(root.Dir, script), "SCRIPT_NAME": script, "PATH_INFO": info, "DOCUMENT_ROOT": root.Dir, "DOCUMENT_URI": script,
		"REQUEST_URI": s.Path, "QUERY_STRING": u.RawQuery, "SERVER_PROTOCOL": "HTTP/1.1", "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_SCHEME": "http",
		"HTTP_HOST": p.m.Address(), "SERVER_NAME": p.m.Address(), "SERVER_ADDR": p.m.Address(), "SERVER_PORT": strconv.Itoa(p.m.Port(web.ProxyPort)),
		"REMOTE_ADDR": p.m.Address(), "HTTP_USER_AGENT": "Nutshell health check", "REDIRECT_STATUS": "200",
	})
	problem := ""
	switch {
	case ctx.Err() != nil:
		problem = fmt.Sprintf("it did not answer within %v", s.Patience())
	case err != nil:
		problem = err.Error()
	case !s.Good(a.status):
		problem = fmt.Sprintf("it answers with status %d", a.status)
	case s.DisplayErrors && fatal(a.body): // PHP says 200 when it shows the error
		problem = "it ends with a fatal error"
	default:
		return nil
	}
	tail := lastLines(strings.TrimSpace(a.stderr), 10)
	if b, err := os.ReadFile(filepath.Join(p.m.Dir("log"), "php-errors.log")); err == nil {
		tail = append(tail, lastLines(strings.TrimSpace(string(b)), 10)...)
	}
	return &api.Error{Code: api.CodeInvalid, Op: "check", Object: "version " + root.Version + ", page " + s.Path, Message: problem, LogTail: tail,
		Hint: "mend the application, or set health_path to a page that works without further set-up"}
}

func fatal(body []byte) bool {
	text := string(body)
	return strings.Contains(text, "<b>Fatal error</b>") || strings.Contains(text, "<b>Parse error</b>")
}

func lastLines(text string, n int) []string {
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(len(lines)-n, 0):]
}

// resolve finds the script for a path as the proxy does; none means that no
// PHP is involved.
func resolve(root, asked string) (script, info string) {
	asked = path.Clean("/" + asked)
	is := func(name string) bool {
		st, err := os.Stat(filepath.Join(root, name))
		return err == nil && st.Mode().IsRegular()
	}
	if i := strings.Index(asked+"/", ".php/"); i >= 0 && is(asked[:i+4]) {
		return asked[:i+4], asked[i+4:]
	}
	if is(asked) || is(path.Join(asked, "index.html")) || is(path.Join(asked, "index.htm")) {
		return "", ""
	}
	for _, index := range []string{path.Join(asked, "index.php"), "/index.php"} {
		if is(index) {
			return index, ""
		}
	}
	return "", ""
}

// Observe implements web.Pager.
func (p *pager) Observe(ctx context.Context) (any, error) {
	name, _ := p.fpm.now()
	s, err := p.fpm.status(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%s does not answer: %w", name, err)
	}
	if !p.sessions.Store.Running() {
		return observation{status: s}, nil
	}
	kept, err := p.sessions.Store.Status(ctx)
	if err != nil {
		return nil, err
	}
	return observation{s, &kept}, nil
}

// observation is what a backend tells of itself.
type observation struct {
	status
	Sessions *session.Status `json:"sessions,omitempty"`
}

// Stop implements web.Pager.
func (p *pager) Stop(ctx context.Context) error {
	if err := p.nginx.Stop(ctx); err != nil {
		return err
	}
	if err := p.fpm.stop(ctx); err != nil {
		return err
	}
	return p.sessions.End(ctx)
}
