package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func find(t *testing.T, c *Config, key string) Entry {
	t.Helper()
	for _, e := range c.Show() {
		if e.Key == key {
			return e
		}
	}
	t.Fatalf("no entry %s in %v", key, c.Show())
	return Entry{}
}

func TestDefaults(t *testing.T) {
	c, err := Load(Sources{Defaults: map[string]string{"data_dir": "/var/lib/nutshell"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != "/var/lib/nutshell" || c.Upload.MaxBytes != 2<<30 || c.Limits.AgentMemory != 512<<20 || c.Log.Level != "info" || len(c.Clouds) != 0 {
		t.Errorf("got %+v", c)
	}
	for _, e := range c.Show() {
		if e.Origin != "default" || e.Help == "" {
			t.Errorf("%s: origin %q, help %q", e.Key, e.Origin, e.Help)
		}
	}
}

func TestStrongerSourcesWin(t *testing.T) {
	dir := t.TempDir()
	main := write(t, filepath.Join(dir, "nutshell.yaml"), "listen: [\"0.0.0.0:1\", \"[::1]:1\"]\nlimits:\n  agent_memory: 1G\n  agent_cpu: 100\nlog: {level: warn}\nname: a.example\n")
	second := write(t, filepath.Join(dir, "nutshell.d", "20-x.yaml"), "# more\n\nlimits:\n  agent_memory: 2GiB\n  manager_memory: 64m\nclient:\n")
	write(t, filepath.Join(dir, "nutshell.d", "10-x.yaml"), "limits: {agent_memory: 3G}")
	write(t, filepath.Join(dir, "nutshell.d", "README"), "not YAML: [")
	files, err := FilesIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{Files: files, Env: []string{"NUTSHELL_LIMITS_AGENT_CPU=200", "NUTSHELL_LIMITS_MANAGER_MEMORY=128M", "NUTSHELL_NAME=b.example, 10.0.0.1", "HOME=/x", "NUTSHELL_MEMORY=5", "NUTSHELL_MARK=1"},
		Flags: map[string]string{"limits.manager_memory": "256M"}})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]Entry{
		"listen":                 {Value: "0.0.0.0:1, [::1]:1", Origin: main + ":1"},
		"limits.agent_memory":    {Value: "2G", Origin: second + ":4"},
		"limits.agent_cpu":       {Value: "200", Origin: "environment NUTSHELL_LIMITS_AGENT_CPU"},
		"limits.manager_memory":  {Value: "256M", Origin: "flag --limits-manager-memory"},
		"limits.agent_processes": {Value: "512", Origin: "default"},
		"log.level":              {Value: "warn", Origin: main + ":5"},
		"name":                   {Value: "b.example, 10.0.0.1", Origin: "environment NUTSHELL_NAME"},
	} {
		if got := find(t, c, key); got.Value != want.Value || got.Origin != want.Origin {
			t.Errorf("%s: got %s from %s, want %s from %s", key, got.Value, got.Origin, want.Value, want.Origin)
		}
	}
}

func TestClouds(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "n.yaml"), `
default_cloud: far
clouds:
  - name: here
    driver: lxc
  - name: far
    driver: openstack
    options: {region: west, auth_password: hush, Secret_Key: hush, count: 3}
`)
	c, err := Load(Sources{Files: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Cloud{{Name: "here", Driver: "lxc", Options: map[string]string{}},
		{Name: "far", Driver: "openstack", Options: map[string]string{"region": "west", "auth_password": "hush", "Secret_Key": "hush", "count": "3"}}}
	if d := cmp.Diff(want, c.Clouds); d != "" {
		t.Error(d)
	}
	if got := find(t, c, "clouds.far.driver"); got.Value != "openstack" || got.Origin != path+":4" {
		t.Errorf("got %+v", got)
	}
	if got := find(t, c, "clouds.far.options.region"); got.Value != "west" {
		t.Errorf("got %+v", got)
	}
	c, err = Load(Sources{Files: []string{path}, Env: []string{"NUTSHELL_CLOUDS=[{name: far, driver: process}]"}})
	if err != nil || len(c.Clouds) != 1 || c.Clouds[0].Driver != "process" {
		t.Errorf("by environment: got %+v, %v", c, err)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "n.yaml"), "client: {director: 'https://d.example:5555', token: nsh_hush}\nclouds: [{name: x, driver: ec2, options: {secret_access_key: hush}}]")
	c, err := Load(Sources{Files: []string{path}, Env: []string{"NUTSHELL_PASSWORD=hush"}})
	if err != nil {
		t.Fatal(err)
	}
	masked := 0
	for _, e := range c.Show() {
		if strings.Contains(e.Value, "hush") {
			t.Errorf("%s shows its secret", e.Key)
		}
		if e.Value == Masked {
			masked++
		}
	}
	if masked != 3 || c.Client.Token != "nsh_hush" || c.Client.Password != "hush" {
		t.Errorf("%d masked, want 3; client %+v", masked, c.Client)
	}
}

func TestBadFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		line       string // behind the file's name
		want       []string
	}{
		{"unknown-key", "log:\n  level: info\nlisten_on: x", ":3", []string{"listen_on", "no such key"}},
		{"misspelt", "limits:\n  agent_memroy: 1G", ":2", []string{"limits.agent_memroy", "did you mean limits.agent_memory?"}},
		{"wrong-section", "log:\n  max_bytes: 1G", ":2", []string{"did you mean metrics.max_bytes?"}},
		{"misspelt-section", "limit:\n  agent_memory: 1G", ":1", []string{"limit: there is no such key"}},
		{"key-is-emoji", "🥜: 1", ":1", []string{`\U0001f95c`}},
		{"twice", "log: {level: info}\nlog: {format: json}", ":2", []string{"in line 1 already"}},
		{"no-value", "listen:", ":1", []string{"listen: it has no value"}},
		{"list-for-one", "limits: {agent_cpu: [1, 2]}", ":1", []string{"limits.agent_cpu", "not a list"}},
		{"map-for-one", "data_dir: {a: b}", ":1", []string{"expected one value"}},
		{"value-for-section", "limits: 5", ":1", []string{"expected keys with values"}},
		{"list-at-top", "- a\n- b", ":1", []string{"expected keys with values"}},
		{"size", "upload:\n  max_bytes: much", ":2", []string{"upload.max_bytes", `"much"`, "512M"}},
		{"size-zero", "upload: {max_bytes: 0}", ":1", []string{"less than 1"}},
		{"size-negative", "upload: {max_bytes: -1G}", ":1", []string{"is not a size"}},
		{"size-huge", "upload: {max_bytes: 99999999999999T}", ":1", []string{"too large"}},
		{"too-little-memory", "limits: {agent_memory: 512}", ":1", []string{"limits.agent_memory", "at least 32M"}},
		{"number", "limits: {agent_cpu: fast}", ":1", []string{"whole number"}},
		{"negative", "limits: {agent_processes: -1}", ":1", []string{"negative"}},
		{"level", "log:\n\n  level: loud", ":3", []string{`log.level: "loud" is not one of debug, info, warn, error`}},
		{"listen", "listen: everywhere", ":1", []string{"127.0.0.1:5555"}},
		{"listen-port", "listen: 127.0.0.1:99999", ":1", []string{"65535"}},
		{"name", "name: ['a b']", ":1", []string{"host name"}},
		{"relative-path", "data_dir: here", ":1", []string{"absolute"}},
		{"director-url", "client: {director: 'http://x'}", ":1", []string{"https://"}},
		{"clouds-no-list", "clouds: lxc", ":1", []string{"list of clouds"}},
		{"cloud-without-driver", "clouds:\n  - name: x", ":2", []string{"clouds[0].driver", "missing"}},
		{"cloud-without-name", "clouds:\n  - driver: x", ":2", []string{"clouds[0].name", "missing"}},
		{"cloud-name", "clouds: [{name: ../x, driver: lxc}]", ":1", []string{"../x"}},
		{"cloud-key", "clouds:\n  - name: x\n    drivers: lxc", ":3", []string{"clouds[0].drivers"}},
		{"clouds-twice", "clouds:\n  - {name: x, driver: lxc}\n  - {name: x, driver: lxc}", ":3", []string{"two clouds named x"}},
		{"edge-domain", "edge: {https: ':443', domain: 10.0.0.1}", ":1", []string{"edge.domain", "apps.example.org"}},
		{"edge-trusted", "edge:\n  trusted: [10.0.0.0/8, everybody]", ":2", []string{"edge.trusted", "everybody"}},
		{"edge-acme", "edge: {https: ':443', acme_directory: 'http://x'}", ":1", []string{"edge.acme_directory", "https://"}},
		{"edge-email", "edge: {https: ':443', acme_email: 'a b@c'}", ":1", []string{"e-mail"}},
		{"edge-port", "edge: {https: '443'}", ":1", []string{"edge.https"}},
		{"edge-key", "edge: {https: ':443', domain: a.org, chain: /x.pem}", ":1", []string{"edge.key together"}},
		{"default-cloud", "clouds: [{name: x, driver: lxc}]\ndefault_cloud: y", ":2", []string{"default_cloud", "there are x"}},
		{"no-yaml", "a: [", "", []string{"line 1"}},
		{"two-documents", "log: {}\n---\nlog: {}", "", []string{"second"}},
		{"noise", "\x00\x01\x02", "", []string{"file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "nutshell.yaml"), c.text)
			_, err := Load(Sources{Files: []string{path}})
			if api.CodeOf(err) != api.CodeInvalid {
				t.Fatalf("got %v, want code invalid", err)
			}
			for _, want := range append(c.want, path+c.line+":") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

func TestBadEnvironmentAndFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Sources
		want string
	}{
		{"section-right-key-wrong", Sources{Env: []string{"NUTSHELL_LIMITS_AGENT_MEMROY=1G"}}, "NUTSHELL_LIMITS_AGENT_MEMROY"},
		{"one-letter-wrong", Sources{Env: []string{"NUTSHELL_DATADIR=/x"}}, "NUTSHELL_DATA_DIR is data_dir"},
		{"value", Sources{Env: []string{"NUTSHELL_LOG_LEVEL=loud"}}, "environment NUTSHELL_LOG_LEVEL: log.level"},
		{"size", Sources{Env: []string{"NUTSHELL_UPLOAD_MAX_BYTES=x"}}, "environment NUTSHELL_UPLOAD_MAX_BYTES: upload.max_bytes"},
		{"clouds", Sources{Env: []string{"NUTSHELL_CLOUDS=lxc"}}, "list of clouds"},
		{"edge-without-port", Sources{Env: []string{"NUTSHELL_EDGE_DOMAIN=a.org"}}, "edge.https: it is not set"},
		{"flag", Sources{Flags: map[string]string{"limits.agent_memory": "x"}}, "flag --limits-agent-memory: limits.agent_memory"},
		{"unknown-flag", Sources{Flags: map[string]string{"limits.agent": "x"}}, "no such key"},
		{"missing-file", Sources{Files: []string{"/nowhere/nutshell.yaml"}}, "/nowhere/nutshell.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Load(c.s); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want code invalid and %q", err, c.want)
			}
		})
	}
}

func TestSecretsAreNotInErrors(t *testing.T) {
	if _, err := Load(Sources{Env: []string{"NUTSHELL_TOKEN=hush\nhush"}}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v", err)
	}
}

func TestStandard(t *testing.T) {
	home := t.TempDir()
	path := write(t, filepath.Join(home, ".config", "nutshell", "nutshell.yaml"), "")
	s, err := Standard(1000, []string{"HOME=" + home})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{path}, s.Files); d != "" {
		t.Error(d)
	}
	c, err := Load(s)
	if err != nil || c.DataDir != filepath.Join(home, ".local", "share", "nutshell") {
		t.Errorf("got %v, %v", c.DataDir, err)
	}
	if s, err = Standard(1000, []string{"HOME=" + home, "XDG_CONFIG_HOME=" + t.TempDir()}); err != nil || len(s.Files) != 0 {
		t.Errorf("XDG_CONFIG_HOME: got %v, %v", s.Files, err)
	}
	if s, err = Standard(0, nil); err != nil || s.Defaults["data_dir"] != "/var/lib/nutshell" {
		t.Errorf("root: got %v, %v", s.Defaults, err)
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		text, shown string
		want        Size
		ok          bool
	}{
		{"0", "0", 0, true}, {"512", "512", 512, true}, {"1K", "1K", 1024, true}, {"1.5g", "1536M", 3 << 29, true}, {"2 GiB", "2G", 2 << 30, true},
		{"10MB", "10M", 10 << 20, true}, {"1025", "1025", 1025, true}, {"3T", "3T", 3 << 40, true},
		{"", "", 0, false}, {"M", "", 0, false}, {"-1", "", 0, false}, {"1X", "", 0, false}, {"1e9", "", 0, false}, {"9999999999G", "", 0, false},
	} {
		t.Run("size-"+c.text, func(t *testing.T) {
			got, err := ParseSize(c.text)
			if (err == nil) != c.ok || got != c.want || c.ok && got.String() != c.shown {
				t.Errorf("got %d (%s), %v, want %d (%s)", got, got, err, c.want, c.shown)
			}
		})
	}
}

func FuzzFile(f *testing.F) {
	f.Add("limits: {agent_memory: 1G}\nclouds: [{name: a, driver: b, options: {c: d}}]")
	f.Add("a: &a [*a]\nlisten: *a")
	f.Add("? {a: b}\n: c")
	f.Add("<<: {log: {level: info}}")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := Load(Sources{Files: []string{path}}); err != nil && api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("got %v, want code invalid", err)
		} else if err == nil {
			c.Show()
		}
	})
}
