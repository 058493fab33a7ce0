package main_test

import (
	"strings"
	"testing"
)

// TestLawsBite breaks each law once, and keeps it once, in a tree of few files.
func TestLawsBite(t *testing.T) {
	long := "// Package x is long.\npackage x\n" + strings.Repeat("\n", 400)
	for _, c := range []struct {
		name  string
		check func([]source) []string
		files map[string]string
		want  string // part of the one finding; empty: none
	}{
		{"role-names-cloud", lawMainNames, map[string]string{"roles/director/d.go": "package director\nimport _ \"nutshell/cloud/lxc\""}, "only main.go names"},
		{"role-names-kind", lawMainNames, map[string]string{"roles/agent/a.go": "package agent\nimport _ \"nutshell/services/php\""}, "only main.go names"},
		{"main-names-cloud", lawMainNames, map[string]string{"main.go": "package main\nimport _ \"nutshell/cloud/lxc\""}, ""},
		{"test-names-cloud", lawMainNames, map[string]string{"roles/director/d_test.go": "package director\nimport _ \"nutshell/cloud/process\""}, ""},
		{"role-uses-context", lawMainNames, map[string]string{"roles/join/j.go": "package join\nimport _ \"nutshell/cloud/context\""}, ""},

		{"role-imports-role", lawDirections, map[string]string{"roles/manager/m.go": "package manager\nimport _ \"nutshell/roles/director\""}, "speak over the API"},
		{"role-imports-role-below", lawDirections, map[string]string{"roles/manager/m.go": "package manager\nimport _ \"nutshell/roles/director/codestore\""}, "speak over the API"},
		{"role-imports-own-child", lawDirections, map[string]string{"roles/manager/m.go": "package manager\nimport _ \"nutshell/roles/manager/place\""}, ""},
		{"internal-imports-internal", lawDirections, map[string]string{"roles/internal/httpapi/h.go": "package httpapi\nimport _ \"nutshell/roles/internal/store\""}, "meet in a role's serve.go"},
		{"service-imports-cloud", lawDirections, map[string]string{"services/php/p.go": "package php\nimport _ \"nutshell/cloud\""}, "does not know its cloud"},
		{"service-imports-store", lawDirections, map[string]string{"services/php/p.go": "package php\nimport _ \"nutshell/roles/internal/store\""}, "does not know its cloud"},
		{"service-imports-contract", lawDirections, map[string]string{"services/php/p.go": "package php\nimport (\n_ \"nutshell/services\"\n_ \"nutshell/services/web\"\n_ \"nutshell/roles/api\")"}, ""},
		{"cloud-imports-api", lawDirections, map[string]string{"cloud/lxc/l.go": "package lxc\nimport _ \"nutshell/roles/api\""}, "knows nothing of roles"},
		{"imagebuild-imports-services", lawDirections, map[string]string{"imagebuild/i.go": "package imagebuild\nimport _ \"nutshell/services\""}, "names of packages"},

		{"api-opens-files", lawAPI, map[string]string{"roles/api/a.go": "package api\nimport _ \"os\""}, "words only"},
		{"api-uses-library", lawAPI, map[string]string{"roles/api/a.go": "package api\nimport _ \"github.com/google/uuid\""}, "words only"},
		{"api-uses-json", lawAPI, map[string]string{"roles/api/a.go": "package api\nimport _ \"encoding/json\""}, ""},

		{"sql-outside-store", lawLibraries, map[string]string{"roles/manager/m.go": "package manager\nimport _ \"database/sql\""}, "belongs to [roles/internal/store services/mysql]"},
		{"lxc-in-driver", lawLibraries, map[string]string{"cloud/lxc/l.go": "package lxc\nimport _ \"github.com/lxc/go-lxc\""}, "belongs to [cloud/lxc/helper]"},
		{"versioned-library", lawLibraries, map[string]string{"roles/director/d.go": "package director\nimport _ \"github.com/labstack/echo/v4/middleware\""}, "belongs to [roles/internal/httpapi]"},
		{"sql-in-store", lawLibraries, map[string]string{"roles/internal/store/s.go": "package store\nimport _ \"database/sql\""}, ""},

		{"package-util", lawNames, map[string]string{"roles/util/u.go": "package util"}, "collects what nobody owns"},
		{"hidden-common", lawNames, map[string]string{"roles/shared/u.go": "package common"}, "collects what nobody owns"},

		{"long-go", lawFiles, map[string]string{"cloud/x.go": long}, "stays under 400"},
		{"long-svelte", lawFiles, map[string]string{"embedui/src/App.svelte": strings.Repeat("\n", 400)}, "stays under 400"},
		{"long-test", lawFiles, map[string]string{"cloud/x_test.go": long}, ""},
		{"long-main", lawFiles, map[string]string{"main.go": "package main\n" + strings.Repeat("\n", 60)}, "table of contents"},

		{"wide-interface", lawInterfaces, map[string]string{"cloud/c.go": "package cloud\ntype D interface{ A(); B(); C(); D(); E(); F(); G(); H(); I() }"}, "9 methods"},
		{"narrow-interface", lawInterfaces, map[string]string{"cloud/c.go": "package cloud\ntype D interface{ A(); B(); C(); D(); E(); F(); G(); H() }"}, ""},

		{"init", lawInit, map[string]string{"cloud/c.go": "package cloud\nfunc init() {}"}, "init() runs"},
		{"method-init", lawInit, map[string]string{"cloud/c.go": "package cloud\ntype T int\nfunc (T) init() {}"}, ""},

		{"written-global", lawGlobals, map[string]string{"cloud/c.go": "package cloud\nvar n int\nfunc F() { n++ }"}, "package variable n"},
		{"written-map", lawGlobals, map[string]string{"cloud/c.go": "package cloud\nvar m = map[string]int{}", "cloud/d.go": "package cloud\nfunc F() { m[\"a\"] = 1 }"}, "package variable m"},
		{"read-table", lawGlobals, map[string]string{"cloud/c.go": "package cloud\nvar m = map[string]int{\"a\": 1}\nfunc F() int { return m[\"a\"] }"}, ""},
		{"local-of-same-name", lawGlobals, map[string]string{"cloud/c.go": "package cloud\nvar n int\nfunc F(n int) { n = 2 }"}, ""},

		{"no-doc", lawDoc, map[string]string{"cloud/c.go": "package cloud"}, "no package comment"},
		{"two-docs", lawDoc, map[string]string{"cloud/c.go": "// Package cloud is.\npackage cloud", "cloud/d.go": "// Package cloud is too.\npackage cloud"}, "2 package comments"},
		{"one-doc", lawDoc, map[string]string{"cloud/c.go": "// Package cloud is.\npackage cloud", "cloud/d.go": "package cloud"}, ""},

		{"new-top-folder", lawTopLevel, map[string]string{"scripts/x": ""}, "top level is fixed"},
		{"code-in-docs", lawTopLevel, map[string]string{"docs/x.sh": ""}, "docs/ has no code"},
		{"dot-file", lawTopLevel, map[string]string{".golangci.yml": ""}, ""},

		{"mirror", lawMachine, map[string]string{"docs/a.md": "one\nhttp://deb.debian" + ".org/debian"}, "docs/a.md:2"},
		{"lock-file", lawMachine, map[string]string{"embedui/package-lock.json": "\"resolved\": \"https://registry." + "npmjs.org/x\""}, "take mirrors from"},
		{"dead-link", lawLinks, map[string]string{"docs/a.md": "see [b](b.md) and [c](https://example.org/c)"}, "docs/b.md, which is not there"},
		{"live-links", lawLinks, map[string]string{"docs/a.md": "[b](../roles/b.md#top) [folder](../roles/) [here](#x)", "roles/b.md": ""}, ""},
		{"no-unreleased", lawChangelog, map[string]string{"CHANGELOG.md": "# Changes\n"}, "Unreleased"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tree []source
			for name, text := range c.files {
				tree = append(tree, newSource(t, name, []byte(text)))
			}
			got := c.check(tree)
			if c.want == "" && len(got) > 0 {
				t.Errorf("got %v, want no finding", got)
			}
			if c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %v, want one finding with %q", got, c.want)
			}
		})
	}
}
