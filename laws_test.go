package main_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The laws of the house. Each is a function from the tree to findings; each
// finding says what is wrong, why that matters, and how to mend it. TestLaws
// applies them to this tree, TestLawsBite to trees that break them.

const module = "nutshell"

// source is one file of the tree. Go files come parsed.
type source struct {
	path string // slash-separated, from the root
	text []byte
	fset *token.FileSet
	ast  *ast.File
}

func newSource(t *testing.T, name string, text []byte) source {
	t.Helper()
	s := source{path: name, text: text}
	if strings.HasSuffix(name, ".go") {
		s.fset = token.NewFileSet()
		file, err := parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s.ast = file
	}
	return s
}

func (s source) dir() string  { return path.Dir(s.path) }
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }
func (s source) lines() int   { return bytes.Count(s.text, []byte("\n")) }

func (s source) imports() []string {
	if s.ast == nil {
		return nil
	}
	list := make([]string, len(s.ast.Imports))
	for i, spec := range s.ast.Imports {
		list[i], _ = strconv.Unquote(spec.Path.Value) // the parser has checked it
	}
	return list
}

// within reports whether p is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

type law struct {
	name  string
	check func([]source) []string
}

var laws = []law{
	{"main-alone-names-clouds-and-kinds", lawMainNames},
	{"imports-follow-the-tree", lawDirections},
	{"api-does-no-io", lawAPI},
	{"one-library-one-folder", lawLibraries},
	{"names-of-packages", lawNames},
	{"short-files", lawFiles},
	{"small-interfaces", lawInterfaces},
	{"no-init", lawInit},
	{"no-mutable-globals", lawGlobals},
	{"one-doc-comment", lawDoc},
	{"top-level", lawTopLevel},
	{"nothing-of-one-machine", lawMachine},
	{"changelog-is-kept", lawChangelog},
	{"links-in-documents", lawLinks},
}

func TestLaws(t *testing.T) {
	tree := readTree(t)
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) {
			for _, finding := range l.check(tree) {
				t.Error(finding)
			}
		})
	}
}

// readTree reads what git has or would add; without git, all but what is built.
func readTree(t *testing.T) []source {
	t.Helper()
	var names []string
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err == nil {
		names = strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	} else {
		err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && slices.Contains([]string{".git", "node_modules", "dist", "bin"}, d.Name()) {
				return filepath.SkipDir
			}
			if err == nil && d.Type().IsRegular() && name != "nutshell" {
				names = append(names, filepath.ToSlash(name))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var tree []source
	for _, name := range names {
		text, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // removed, but not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		tree = append(tree, newSource(t, name, text))
	}
	if len(tree) < 50 {
		t.Fatalf("found %d files, this cannot be the whole tree", len(tree))
	}
	return tree
}

func lawMainNames(tree []source) (findings []string) {
	shared := []string{"cloud/context", "cloud/cloudtest", "cloud/nft", "cloud/pool", "cloud/routes", "cloud/shelf", "cloud/wire", "services/web", "services/web/session", "services/servicetest"}
	for _, s := range tree {
		if s.dir() == "." || s.isTest() { // a test makes its own registry
			continue
		}
		for _, imp := range s.imports() {
			p := strings.TrimPrefix(imp, module+"/")
			parts := strings.Split(p, "/")
			if p == imp || len(parts) < 2 || parts[0] != "cloud" && parts[0] != "services" || slices.Contains(shared, p) {
				continue
			}
			if plugin := parts[0] + "/" + parts[1]; !within(s.dir(), plugin) {
				findings = append(findings, fmt.Sprintf("%s imports %s: only main.go names concrete clouds and service kinds, so that one can be added or left out in one line; use the registry you are given", s.path, imp))
			}
		}
	}
	return findings
}

// mayImport lists what each part of the tree may import of the module beside
// its own folder. The longest prefix that holds a file counts.
var mayImport = []struct {
	dir     string
	allowed []string
	why     string
}{
	{"roles/api", nil, "roles/api is the vocabulary: everybody imports it, so it imports nobody"},
	{"roles/internal", []string{"roles/api", "services", "cloud/context"}, "roles/internal packages do not import each other: they meet in a role's serve.go through small interfaces"},
	{"roles/director", []string{"roles/api", "roles/internal", "cloud", "services", "embedui"}, "roles do not import each other: they speak over the API"},
	{"roles/manager", []string{"roles/api", "roles/internal", "services"}, "roles do not import each other: they speak over the API"},
	{"roles/agent", []string{"roles/api", "roles/internal", "services"}, "roles do not import each other: they speak over the API"},
	{"roles/node", []string{"roles/api", "roles/internal", "cloud"}, "roles do not import each other: they speak over the API"},
	{"roles/client", []string{"roles/api", "roles/internal"}, "roles do not import each other: they speak over the API"},
	{"roles/join", []string{"roles/api", "roles/internal", "cloud/context"}, "join comes before any role"},
	{"roles", []string{"roles", "cloud", "services", "imagebuild", "appliance", "embedui"}, "roles/ composes all but names nothing concrete"},
	{"services", []string{"services", "roles/api"}, "a service does not know its cloud, nor that there is a database: what it may ask is in services.Host and services.Machine"},
	{"cloud", []string{"cloud"}, "a cloud knows nothing of roles and services: what it needs is in cloud.Spec and cloud.Config"},
	{"imagebuild", []string{"imagebuild", "roles/api"}, "imagebuild is told names of packages and hands out directories, no more"},
	{"appliance", []string{"appliance", "imagebuild", "roles/api"}, "appliance installs files, no more"},
	{"embedui", []string{"embedui"}, "embedui is pages, no more"},
	{"testdata", []string{"testdata", "roles/api"}, "what is in testdata uses the API as any client does"},
}

func lawDirections(tree []source) (findings []string) {
	for _, s := range tree {
		if s.isTest() { // tests put real things together
			continue
		}
		for _, rule := range mayImport {
			if !within(s.dir(), rule.dir) {
				continue
			}
			own := rule.dir
			if rule.dir == "roles/internal" || rule.dir == "cloud" || rule.dir == "services" {
				own = path.Join(strings.Split(s.dir(), "/")[:min(len(strings.Split(rule.dir, "/"))+1, len(strings.Split(s.dir(), "/")))]...)
			}
			for _, imp := range s.imports() {
				p := strings.TrimPrefix(imp, module+"/")
				if p == imp || within(p, own) || slices.ContainsFunc(rule.allowed, func(a string) bool { return within(p, a) }) {
					continue
				}
				findings = append(findings, fmt.Sprintf("%s imports %s: %s", s.path, imp, rule.why))
			}
			break
		}
	}
	return findings
}

func lawAPI(tree []source) (findings []string) {
	for _, s := range tree {
		if s.dir() != "roles/api" || s.isTest() {
			continue
		}
		for _, imp := range s.imports() {
			first, _, _ := strings.Cut(imp, "/")
			if strings.Contains(first, ".") || slices.Contains([]string{"os", "os/exec", "net", "net/http", "database/sql", "io/ioutil", "syscall", "log/slog"}, imp) {
				findings = append(findings, fmt.Sprintf("%s imports %s: roles/api holds words only, so that every part can share it; do the I/O where it is needed", s.path, imp))
			}
		}
	}
	return findings
}

var libraries = map[string][]string{ // import path, also as a prefix → folders
	"database/sql":                         {"roles/internal/store", "services/mysql"},
	"github.com/go-sql-driver/mysql":       {"services/mysql"},
	"filippo.io/age":                       {"roles/director/vault"},
	"modernc.org/sqlite":                   {"roles/internal/store"},
	"github.com/labstack/echo":             {"roles/internal/httpapi"},
	"github.com/danielgtaylor/huma":        {"roles/internal/httpapi"},
	"github.com/lxc/go-lxc":                {"cloud/lxc/helper"},
	"github.com/vishvananda/netlink":       {"cloud/lxc", "cloud/nodes", "cloud/pool", "cloud/routes"},
	"github.com/google/nftables":           {"cloud/lxc", "cloud/nft", "cloud/nodes", "cloud/pool"},
	"github.com/gophercloud/gophercloud":   {"cloud/openstack"},
	"github.com/aws/aws-sdk-go-v2":         {"cloud/ec2"},
	"github.com/caddyserver/certmagic":     {"roles/director/edge"},
	"github.com/mholt/acmez":               {"roles/director/edge"},
	"github.com/letsencrypt/pebble":        {"roles/director/edge"},
	"github.com/gliderlabs/ssh":            {"roles/director/gitserver"},
	"github.com/go-git/go-git":             {"roles/director/gitserver"},
	"github.com/urfave/cli":                {"roles/client", "roles"},
	"github.com/cheggaaa/pb":               {"roles/client", "roles"},
	"github.com/slackhq/nebula":            {"roles/internal/vpn"},
	"github.com/prometheus/prometheus":     {"roles/internal/metrics"},
	"github.com/diskfs/go-diskfs":          {"imagebuild/disk"},
	"github.com/vishvananda/netns":         {"cloud/lxc", "cloud/nodes"},
	"golang.org/x/crypto/argon2":           {"roles/internal/auth"},
	"github.com/coder/websocket":           {"roles/internal/terminal", "roles/director/edge"},             // the edge's tests ask for one
	"github.com/creack/pty":                {"roles/agent/shell", "roles/client", "roles/internal/hidden"}, // tests need terminals
	"github.com/pquerna/otp":               {"roles/internal/auth/totp"},
	"github.com/boombuler/barcode":         {"roles/internal/auth/totp"},
	"github.com/go-webauthn/webauthn":      {"roles/internal/auth/passkey"},
	"github.com/tidwall/redcon":            {"services/web/session"},
	"github.com/hashicorp":                 {}, // no such library is ours
	"github.com/stretchr/testify":          {},
	"github.com/sirupsen/logrus":           {},
	"github.com/spf13/cobra":               {},
	"github.com/mattn/go-sqlite3":          {},
	"github.com/prometheus/client_golang/": {"roles/internal/metrics"},
}

func lawLibraries(tree []source) (findings []string) {
	for _, s := range tree {
		for _, imp := range s.imports() {
			for lib, folders := range libraries {
				if !within(imp, strings.TrimSuffix(lib, "/")) {
					continue
				}
				ok := slices.ContainsFunc(folders, func(f string) bool {
					if f == "roles" { // that folder alone: below it live others
						return s.dir() == f
					}
					return within(s.dir(), f)
				})
				if !ok {
					findings = append(findings, fmt.Sprintf("%s imports %s: a library is used in one folder, so that it can be replaced there; this one belongs to %v", s.path, imp, folders))
				}
			}
		}
	}
	return findings
}

func lawNames(tree []source) (findings []string) {
	bad := []string{"util", "utils", "common", "helpers", "misc", "base", "types", "models"}
	seen := map[string]bool{}
	for _, s := range tree {
		if s.ast == nil || seen[s.dir()] {
			continue
		}
		seen[s.dir()] = true
		if slices.Contains(bad, path.Base(s.dir())) || slices.Contains(bad, s.ast.Name.Name) {
			findings = append(findings, fmt.Sprintf("%s: a package named so collects what nobody owns; a function with one caller lives with it, with three callers it has a noun", s.dir()))
		}
	}
	return findings
}

func lawFiles(tree []source) (findings []string) {
	const limit = 400
	for _, s := range tree {
		switch {
		case s.path == "main.go" && s.lines() >= 60:
			findings = append(findings, fmt.Sprintf("main.go has %d lines: it is a table of contents, under 60", s.lines()))
		case !slices.Contains([]string{".go", ".ts", ".svelte"}, path.Ext(s.path)) || s.isTest():
		case bytes.Contains(s.text[:min(len(s.text), 300)], []byte("Code generated")):
		case s.lines() >= limit:
			findings = append(findings, fmt.Sprintf("%s has %d lines, a file stays under %d: split it by nouns", s.path, s.lines(), limit))
		}
	}
	return findings
}

func lawInterfaces(tree []source) (findings []string) {
	const limit = 8
	for _, s := range tree {
		if s.ast == nil {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if i, ok := n.(*ast.InterfaceType); ok && i.Methods.NumFields() > limit {
				findings = append(findings, fmt.Sprintf("%s has an interface with %d methods, at most %d: what only some can do is an interface of its own", s.fset.Position(i.Pos()), i.Methods.NumFields(), limit))
			}
			return true
		})
	}
	return findings
}

func lawInit(tree []source) (findings []string) {
	for _, s := range tree {
		if s.ast == nil {
			continue
		}
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				findings = append(findings, fmt.Sprintf("%s: init() runs whether or not one wants it; make a value in a constructor and pass it", s.fset.Position(f.Pos())))
			}
		}
	}
	return findings
}

// lawGlobals finds assignments to package variables. Tables that are never
// written are fine.
func lawGlobals(tree []source) (findings []string) {
	vars := map[string]map[string]bool{} // folder → names
	for _, s := range tree {
		if s.ast == nil || s.isTest() {
			continue
		}
		for _, d := range s.ast.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
				for _, spec := range g.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						if vars[s.dir()] == nil {
							vars[s.dir()] = map[string]bool{}
						}
						vars[s.dir()][name.Name] = true
					}
				}
			}
		}
	}
	for _, s := range tree {
		if s.ast == nil || s.isTest() {
			continue
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			local := localNames(f)
			ast.Inspect(f.Body, func(n ast.Node) bool {
				var written []ast.Expr
				switch n := n.(type) {
				case *ast.AssignStmt:
					if n.Tok != token.DEFINE {
						written = n.Lhs
					}
				case *ast.IncDecStmt:
					written = []ast.Expr{n.X}
				}
				for _, e := range written {
					if name := rootName(e); name != "_" && vars[s.dir()][name] && !local[name] {
						findings = append(findings, fmt.Sprintf("%s writes the package variable %s: two tests or two roles in one process would share it; put it in a struct", s.fset.Position(e.Pos()), name))
					}
				}
				return true
			})
		}
	}
	return findings
}

// localNames are all names that a function declares, wherever it does.
func localNames(f *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	add := func(e ast.Expr) {
		if id, ok := e.(*ast.Ident); ok {
			names[id.Name] = true
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, id := range n.Names {
				add(id)
			}
		case *ast.ValueSpec:
			for _, id := range n.Names {
				add(id)
			}
		case *ast.RangeStmt:
			add(n.Key)
			add(n.Value)
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, e := range n.Lhs {
					add(e)
				}
			}
		}
		return true
	})
	return names
}

func rootName(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return ""
		}
	}
}

func lawDoc(tree []source) (findings []string) {
	docs, folders := map[string][]string{}, map[string]bool{}
	for _, s := range tree {
		if s.ast == nil || s.isTest() {
			continue
		}
		folders[s.dir()] = true
		if s.ast.Doc != nil && len(strings.TrimSpace(s.ast.Doc.Text())) > 0 {
			docs[s.dir()] = append(docs[s.dir()], s.path)
		}
	}
	for dir := range folders {
		switch len(docs[dir]) {
		case 1:
		case 0:
			findings = append(findings, fmt.Sprintf("%s has no package comment: say in one file what its job is, and what it does not do", dir))
		default:
			findings = append(findings, fmt.Sprintf("%s has %d package comments (%v): keep one, so that readers find it", dir, len(docs[dir]), docs[dir]))
		}
	}
	slices.Sort(findings)
	return findings
}

func lawTopLevel(tree []source) (findings []string) {
	allowed := []string{"main.go", "roles", "cloud", "services", "embedui", "imagebuild", "appliance", "testdata", "go.mod", "go.sum",
		"Makefile", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "docs"}
	for _, s := range tree {
		top, _, _ := strings.Cut(s.path, "/")
		if !slices.Contains(allowed, top) && !strings.HasPrefix(top, ".") && (s.dir() != "." || !s.isTest()) {
			findings = append(findings, fmt.Sprintf("%s: the top level is fixed (%v); find the folder it belongs to", s.path, allowed))
		}
		if top == "docs" && slices.Contains([]string{".go", ".ts", ".js", ".py", ".sh"}, path.Ext(s.path)) {
			findings = append(findings, fmt.Sprintf("%s: docs/ has no code, because nobody would run it", s.path))
		}
	}
	return findings
}

func lawMachine(tree []source) (findings []string) {
	// Put together, so that this file does not break its own law.
	hosts := []string{"deb." + "debian.org", "security." + "debian.org", "registry." + "npmjs.org", "proxy." + "golang.org", "sum." + "golang.org",
		"pypi" + ".org", "registry.yarnpkg" + ".com", "docker" + ".io", "ghcr" + ".io", "quay" + ".io"}
	paths := []string{"/wo" + "rk/", "/home/" + "runner"}
	patterns := make([]string, 0, len(hosts)+len(paths))
	for _, p := range append(hosts, paths...) {
		patterns = append(patterns, regexp.QuoteMeta(p))
	}
	found := regexp.MustCompile(strings.Join(patterns, "|"))
	for _, s := range tree {
		if bytes.IndexByte(s.text[:min(len(s.text), 8000)], 0) >= 0 || s.path == "LICENSE" {
			continue
		}
		for i, line := range bytes.Split(s.text, []byte("\n")) {
			if hit := found.Find(line); hit != nil {
				findings = append(findings, fmt.Sprintf("%s:%d names %s: the tree must build and run anywhere; take mirrors from the machine's own configuration and paths from flags", s.path, i+1, hit))
			}
		}
	}
	return findings
}

func lawChangelog(tree []source) []string {
	for _, s := range tree {
		if s.path == "CHANGELOG.md" && bytes.Contains(s.text, []byte("\n## Unreleased\n")) {
			return nil
		}
	}
	return []string{"CHANGELOG.md needs a section \"## Unreleased\": who changes something that users notice adds a line there"}
}

// lawLinks follows the links of our documents to other files of the tree.
func lawLinks(tree []source) (findings []string) {
	exists := map[string]bool{}
	for _, s := range tree {
		for p := s.path; p != "."; p = path.Dir(p) {
			exists[p] = true
		}
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, s := range tree {
		if path.Ext(s.path) != ".md" {
			continue
		}
		for _, m := range link.FindAllSubmatch(s.text, -1) {
			target, _, _ := strings.Cut(string(m[1]), "#")
			if target == "" || strings.Contains(target, ":") {
				continue
			}
			if p := path.Join(s.dir(), target); !exists[p] {
				findings = append(findings, fmt.Sprintf("%s links to %s, which is not there: readers would stop trusting the rest", s.path, p))
			}
		}
	}
	return findings
}
