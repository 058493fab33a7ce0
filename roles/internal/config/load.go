package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"nutshell/roles/api"
)

// Sources are where values come from, weakest first.
type Sources struct {
	Defaults map[string]string // by key, in place of the built-in ones
	Files    []string          // each must exist; later ones are stronger
	Env      []string          // as os.Environ gives it
	Flags    map[string]string // by key; only those that were given
}

// Standard are the sources of this machine: for root those in /etc/nutshell,
// for others those in ~/.config/nutshell. The caller adds flags.
func Standard(euid int, env []string) (Sources, error) {
	s := Sources{Env: env, Defaults: map[string]string{"data_dir": "/var/lib/nutshell"}}
	dir := "/etc/nutshell"
	if euid != 0 {
		home := lookup(env, "HOME")
		dir, s.Defaults["data_dir"] = "", ""
		if x := lookup(env, "XDG_CONFIG_HOME"); x != "" {
			dir = filepath.Join(x, "nutshell")
		} else if home != "" {
			dir = filepath.Join(home, ".config", "nutshell")
		}
		if home != "" {
			s.Defaults["data_dir"] = filepath.Join(home, ".local", "share", "nutshell")
		}
	}
	var err error
	s.Files, err = FilesIn(dir)
	return s, err
}

// FilesIn lists the files of a configuration directory: nutshell.yaml, then
// nutshell.d/*.yaml by name. Those that are missing are left out.
func FilesIn(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	var files []string
	main := filepath.Join(dir, "nutshell.yaml")
	switch _, err := os.Stat(main); {
	case err == nil:
		files = append(files, main)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "nutshell.d")) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") && !strings.HasPrefix(e.Name(), ".") {
			files = append(files, filepath.Join(dir, "nutshell.d", e.Name()))
		}
	}
	return files, nil
}

// Load reads all sources and checks the result. A list in a stronger source
// takes the place of the whole list.
func Load(s Sources) (*Config, error) {
	c := &Config{origins: map[string]string{}}
	l := &loader{config: c, byKey: map[string]field{}}
	for _, f := range fields(c) {
		l.byKey[f.key] = f
		def := f.def
		if d, ok := s.Defaults[f.key]; ok {
			def = d
		}
		if def == "" {
			continue
		}
		if err := set(f.value, def); err != nil {
			return nil, wrong("the built-in defaults", f.key, "%v", err)
		}
	}
	for _, path := range s.Files {
		if err := l.file(path); err != nil {
			return nil, err
		}
	}
	if err := l.environment(s.Env); err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(s.Flags))
	for k := range s.Flags {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if err := l.set(k, s.Flags[k], "flag --"+Flag(k)); err != nil {
			return nil, err
		}
	}
	return c, c.check()
}

type loader struct {
	config *Config
	byKey  map[string]field
}

func (l *loader) set(key, value, origin string) error {
	f, ok := l.byKey[key]
	if !ok {
		return l.unknown(origin, key)
	}
	if key == "clouds" {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(value), &n); err != nil || len(n.Content) != 1 {
			return wrong(origin, key, "this is not YAML")
		}
		return l.clouds(n.Content[0], func(*yaml.Node) string { return origin })
	}
	if err := set(f.value, value); err != nil {
		if f.secret {
			err = errors.New("the value cannot be used") // and is not repeated in a log
		}
		return wrong(origin, key, "%v", err)
	}
	l.config.origins[key] = origin
	return nil
}

// environment takes the variables that are named after keys. Others that
// begin with NUTSHELL_ are used between our own processes, so only those that
// look like a misspelt key are errors.
func (l *loader) environment(env []string) error {
	byEnv := map[string]string{}
	for _, f := range l.byKey {
		byEnv[f.env] = f.key
	}
	env = slices.Clone(env)
	slices.Sort(env)
	for _, pair := range env {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" || !strings.HasPrefix(name, "NUTSHELL_") {
			continue // set to nothing is not set, as in a shell
		}
		if key, known := byEnv[name]; known {
			if err := l.set(key, value, "environment "+name); err != nil {
				return err
			}
			continue
		}
		if section := strings.SplitN(name, "_", 3); len(section) == 3 && l.isSection(strings.ToLower(section[1])) {
			return l.unknown("environment "+name, strings.ToLower(section[1]+"."+section[2]))
		}
		for known, key := range byEnv {
			if api.Distance(name, known) == 1 {
				return wrong("environment "+name, strings.ToLower(strings.TrimPrefix(name, "NUTSHELL_")), "there is no such key; %s is %s", known, key)
			}
		}
	}
	return nil
}

func (l *loader) isSection(name string) bool {
	for key := range l.byKey {
		if strings.HasPrefix(key, name+".") {
			return true
		}
	}
	return false
}

const maxFile = 1 << 20

func (l *loader) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return wrong(path, "file", "%v", err)
	}
	defer f.Close()
	d := yaml.NewDecoder(io.LimitReader(f, maxFile))
	var doc, more yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // empty, or comments only
	case err != nil:
		return wrong(path, "file", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return wrong(path, "file", "there is a second YAML document in it")
	}
	at := func(n *yaml.Node) string { return fmt.Sprintf("%s:%d", path, n.Line) }
	root := doc.Content[0]
	if isNull(root) {
		return nil
	}
	return l.mapping(root, "", at)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func (l *loader) mapping(n *yaml.Node, prefix string, at func(*yaml.Node) string) error {
	name := strings.TrimSuffix(prefix, ".")
	if n = resolve(n); n.Kind != yaml.MappingNode {
		if name == "" {
			name = "file"
		}
		return wrong(at(n), name, "expected keys with values")
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolve(n.Content[i+1])
		key := prefix + k.Value
		if line, twice := seen[key]; twice {
			return wrong(at(k), key, "it is in line %d already", line)
		}
		seen[key] = k.Line
		if err := l.pair(k, v, key, prefix == "", at); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) pair(k, v *yaml.Node, key string, top bool, at func(*yaml.Node) string) error {
	f, known := l.byKey[key]
	switch {
	case top && l.isSection(key) && isNull(v):
		return nil // a section whose keys are all commented out
	case top && l.isSection(key):
		return l.mapping(v, key+".", at)
	case !known:
		return l.unknown(at(k), key)
	case isNull(v):
		return wrong(at(k), key, "it has no value")
	case key == "clouds":
		return l.clouds(v, at)
	case v.Kind == yaml.SequenceNode:
		return l.list(f, v, at)
	case v.Kind != yaml.ScalarNode:
		return wrong(at(v), key, "expected one value")
	}
	return l.set(key, v.Value, at(v))
}

func (l *loader) list(f field, v *yaml.Node, at func(*yaml.Node) string) error {
	p, ok := f.value.Addr().Interface().(*[]string)
	if !ok {
		return wrong(at(v), f.key, "expected one value, not a list")
	}
	*p = nil
	for _, item := range v.Content {
		if item = resolve(item); item.Kind != yaml.ScalarNode || isNull(item) {
			return wrong(at(item), f.key, "expected a list of words")
		}
		*p = append(*p, item.Value)
	}
	l.config.origins[f.key] = at(v)
	return nil
}

// resolve follows a YAML alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func lookup(env []string, name string) string {
	for _, pair := range env {
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			return v
		}
	}
	return ""
}
