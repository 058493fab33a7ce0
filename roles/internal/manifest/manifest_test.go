package manifest

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
)

// conpaas are manifests as its manuals and slides print them, blanks and all.
var conpaas = map[string]string{
	"sudoku": `{ "Description" : "Sudoku example", "Services" : [ { "ServiceName" : "PHP sudoku backend", "Type" : "php", "Start" : 0, "Archive" : "http://www.example.org/sudoku.tar.gz" } ] }`,
	"wordpress": `{"Application": "New WordPress application", "Services": [
		{"Type": "xtreemfs", "ServiceName": "XtreemFS service", "Start": 1, "VolumeStartup": {"volumeName": "data", "owner": "www-data"}, "StartupInstances": {"osd": 1}},
		{"Type": "mysql", "ServiceName": "MySQL service", "Start": 1, "Dump": "http://example.org/wordpress.sql", "Password": "contrail123", "StartupInstances": {"nodes": 2, "glb_nodes": 1}},
		{"Type": "php", "ServiceName": "PHP service", "Start": 1, "Archive": "https://example.org/wordpress.tar.gz", "StartupScript": "https://example.org/mount.sh", "StartupInstances": {"proxy": 1, "web": 1, "backend": "2"}}]}`,
	"generic": `{"Services": [{"Type": "generic", "StartRole": "*", "Cloud": "default", "StartupInstances": {"master": 1, "node": 3, "count": 3}}]}`,
}

func TestConPaaSManifests(t *testing.T) {
	for name, text := range conpaas {
		m, err := Parse([]byte(text))
		if err == nil {
			err = m.Complete()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := Parse([]byte(conpaas["sudoku"]))
	if err != nil || m.Complete() != nil {
		t.Fatal(err)
	}
	if m.Application != "sudoku-example" || m.Services[0].Started() || SourceOf(m.Services[0].Archive).Kind != SourceURL {
		t.Errorf("sudoku: %+v", m)
	}
	if m, _ = Parse([]byte(conpaas["wordpress"])); m.Services[2].StartupInstances["backend"] != 2 || Role("mysql", "glb_nodes") != "glb" || m.Services[0].VolumeStartup.VolumeName != "data" {
		t.Errorf("wordpress: %+v", m)
	}
}

const whole = `
Description: A shop
Application: shop
Cloud: default
Services:
  - Type: php
    ServiceName: web
    Start: true
    StartupScript: |
      #!/bin/sh
      echo "hello: world"
    StartupInstances: {backend: 2}
    Archive: web/code.tar.gz
    Files:
      conf/site.php: "<?php // 'quotes' \"too\"\n"
    Settings: {memory_limit: 256M, children: 4, display_errors: true, extensions: [imagick]}
    Environment:
      MODE: production
      PORT: 8080
      EMPTY: ""
      KEY: {secret: "pa\"ss: word"}
      SALT: {random: 64}
      GONE: {secret: null}
    Bind: [db]
    Sites: [shop.example.org]
    AutoDeploy: 0
    KeepVersions: 5
  - Type: mysql
    ServiceName: db
    Start: 1
    Dump: debian:mediawiki/sql/tables.sql
    Password: "'; DROP"
    Databases: [one, two]
  - Type: generic
    ServiceName: generic
    Volumes:
      - {Name: data, Size: 1024}
      - {Name: more, Size: 2G, Node: 0}
`

// TestRoundTrip writes what was read and reads it again.
func TestRoundTrip(t *testing.T) {
	m, err := Parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	forget := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Line" }, cmp.Ignore())
	for _, format := range []string{"yaml", "json"} {
		out, err := m.Format(format, "a note\nof two lines")
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("%s: %v in\n%s", format, err, out)
		}
		if diff := cmp.Diff(m, again, forget); diff != "" {
			t.Errorf("%s: %s\n%s", format, diff, out)
		}
	}
	s := m.Services[0]
	if !s.Environment["GONE"].Left || s.Environment["SALT"].Random != 64 || s.Environment["PORT"].Value != "8080" || s.Deploys() || SourceOf(s.StartupScript).Kind != SourceText {
		t.Errorf("web: %+v", s)
	}
	if v := m.Services[2].Volumes; v[0].Size != 1<<30 || v[1].Size != 2<<30 || *v[1].Node != 0 {
		t.Errorf("volumes: %+v", v)
	}
	if diff := cmp.Diff([]string{"web/code.tar.gz"}, m.Needs()); diff != "" {
		t.Error(diff)
	}
}

func TestRefused(t *testing.T) {
	one := func(lines string) string {
		return "Services:\n  - Type: php\n    " + strings.ReplaceAll(lines, "\n", "\n    ")
	}
	laughs := "a0: &a0 [x, x]\n"
	for i := 1; i < 40; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":              {"  \n", "it is empty"},
		"no-text":            {"\xff\xfe\x00", "this is no text"},
		"control-character":  {"Services: []\n# \x1b[2J", "line 2: it has the control character U+001B"},
		"no-yaml":            {"Services: [", "this is no YAML"},
		"no-json":            {`{"Services": [}`, "this is no JSON"},
		"cut-json":           {"{\n\"Services\": [", "line 2: this is no JSON: it ends too early"},
		"more-json":          {`{"Services": []} {}`, "more behind the end"},
		"two-documents":      {"Services: []\n---\nServices: []", "second document"},
		"a-list":             {"[1]", "a manifest is a set of fields"},
		"unknown-field":      {one("Archvie: x"), `line 3: Services[1] has no field "Archvie"`},
		"unknown-top":        {`{"services": []}`, "did you mean Services?"},
		"duplicate-yaml":     {one("Start: 1\nStart: 0"), "twice"},
		"duplicate-json":     {"{\"Services\": [{\"Type\": \"php\",\n\"Type\": \"java\"}]}", "line 2: \"Type\" stands here twice"},
		"laughs":             {laughs + "Services: []", "too many values"},
		"cycle-of-aliases":   {"a: &a [*a]\nServices: []", ""},
		"deep":               {`{"Services": ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}", "too many values"},
		"no-type":            {"Services: [{ServiceName: x}]", "service 1 has no Type"},
		"same-name":          {"Services: [{Type: php, ServiceName: x}, {Type: java, ServiceName: x}]", "two services are called"},
		"bad-name":           {one("ServiceName: a/b"), "ServiceName"},
		"start-two":          {one("Start: 2"), "neither 0 nor 1"},
		"negative-count":     {one("StartupInstances: {backend: -1}"), "whole number"},
		"fraction":           {one("StartupInstances: {backend: 1.5}"), "whole number"},
		"bind-itself":        {one("ServiceName: a\nBind: [a]"), "bound to itself"},
		"bind-unknown":       {one("ServiceName: a\nBind: [b]"), "there is no service"},
		"left-out":           {one("Environment: {A: {secret: }}"), "left out"},
		"short-random":       {one("Environment: {A: {random: 2}}"), "8 to 1024"},
		"variable-list":      {one("Environment: {A: [1]}"), "no value of a variable"},
		"file-outside":       {one("Archive: ../../etc/passwd"), "neither"},
		"file-absolute":      {one("Archive: /etc/passwd"), "neither"},
		"overlay-outside":    {one("Files: {../x: y}"), "cannot be a file"},
		"url-with-password":  {one("Archive: https://ann:secret@example.org/x"), "password"},
		"url-without-host":   {one("Archive: 'https:///x'"), "this is no URL"},
		"package-option":     {one("Archive: 'debian:--help'"), "no name of a Debian package"},
		"package-file":       {one("Archive: debian:wordpress/x"), "whole package"},
		"package-no-file":    {one("Dump: debian:wordpress"), "names no file"},
		"volume-size":        {one("Volumes: [{Name: a, Size: -5}]"), "no size"},
		"volume-name":        {one("Volumes: [{Name: 'a b', Size: 5}]"), "cannot be the name of a volume"},
		"volume-twice":       {one("Volumes: [{Name: a, Size: 5}, {Name: a, Size: 6}]"), "two volumes"},
		"volume-overflow":    {one("Volumes: [{Name: a, Size: 99999999999999T}]"), "no size"},
		"merge-key":          {"x: &x {}\nServices:\n- <<: *x\n  Type: php", "no plain name"},
		"binary-tag":         {one("Archive: !!binary aGVsbG8="), "not taken"},
		"services-as-object": {`{"Services": {"Type": "php"}}`, "Services is a list"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Parse([]byte(c.text))
			if err == nil {
				err = m.Complete()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// spent is the processor time of this process: the machine may have other work.
func spent(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestLargeTextsAreQuick holds for what hostile texts do with lines and names.
func TestLargeTextsAreQuick(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"Services": [{"Type": "php", "Environment": {`)
	for i := range 90_000 {
		fmt.Fprintf(&b, "\n\"V%d\": \"%s\",", i, strings.Repeat("x", 60))
	}
	b.WriteString(`"LAST": "1"}}]}`)
	began := spent(t)
	if _, err := Parse([]byte(b.String())); err != nil {
		t.Fatal(err)
	}
	if took := spent(t) - began; took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := Parse(make([]byte, MaxBytes+1)); api.CodeOf(err) != api.CodeTooLarge {
		t.Errorf("a text that is too large: %v", err)
	}
}

func TestSchemaIsJSON(t *testing.T) {
	b, err := json.Marshal(Schema([]Kind{{Name: "mysql", Parts: []string{"mysql", "glb"}, Settings: map[string]any{"routing": map[string]any{"type": "string"}}}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"const":"mysql"`, `"slaves"`, `"routing"`, `"additionalProperties":false`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the schema has no %s: %s", want, b)
		}
	}
	for _, f := range Fields() {
		if f.Help == "" {
			t.Errorf("%s.%s has no help", f.Level, f.Name)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range conpaas {
		f.Add([]byte(text))
	}
	f.Add([]byte(whole))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			if api.CodeOf(err) == api.CodeInternal {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		out, err := m.Format("yaml", "")
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatalf("%q became %q: %v", text, out, err)
		}
		for _, x := range []*Manifest{&m, &again} {
			for i := range x.Services {
				x.Services[i].Line = 0
			}
		}
		if diff := cmp.Diff(m, again); diff != "" && !strings.Contains(diff, "nil") {
			t.Errorf("%q became %q: %s", text, out, diff)
		}
	})
}
