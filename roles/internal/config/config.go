// Package config is the configuration of this program: built-in defaults,
// files, environment and flags, weakest first. It knows of every value where
// it came from. A key that does not exist is an error with its file, line and
// the key that was probably meant, because a misspelt limit is no limit.
package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
)

// Config holds every setting. The tags are key (its name in files), default,
// env (its variable, unless that follows from the key), secret, and help.
type Config struct {
	DataDir      string   `key:"data_dir" help:"where the director keeps everything; /var/lib/nutshell for root, ~/.local/share/nutshell otherwise"`
	Listen       []string `key:"listen" default:"127.0.0.1:5555" help:"addresses that the director listens on, host:port"`
	Name         []string `key:"name" help:"public host names and addresses of the director"`
	Clouds       []Cloud  `key:"clouds" help:"places that can run instances; without any, lxc for root and process otherwise"`
	DefaultCloud string   `key:"default_cloud" help:"cloud of applications that name none; the first one if empty"`
	Limits       Limits   `key:"limits"`
	Upload       Upload   `key:"upload"`
	Credit       Credit   `key:"credit"`
	Quota        Quota    `key:"quota"`
	Bin          Bin      `key:"bin"`
	History      History  `key:"history"`
	Git          Git      `key:"git"`
	Edge         Edge     `key:"edge"`
	Metrics      Metrics  `key:"metrics"`
	Manifests    Manifest `key:"manifests"`
	Image        Image    `key:"image"`
	Nodes        Nodes    `key:"nodes"`
	Node         Node     `key:"node"`
	Client       Client   `key:"client"`
	Log          Log      `key:"log"`

	origins map[string]string // by key
}

// Cloud is one place that can run instances.
type Cloud struct {
	Name    string
	Driver  string
	Options map[string]string // of the driver
}

// Limits bound what instances and applications may use.
type Limits struct {
	ManagerMemory           Size `key:"manager_memory" default:"256M" help:"memory of a manager, 0 for no limit"`
	AgentMemory             Size `key:"agent_memory" default:"512M" help:"memory of an agent's instance, 0 for no limit"`
	AgentCPU                int  `key:"agent_cpu" default:"0" help:"percent of one core that an agent's instance may use, 0 for no limit"`
	AgentProcesses          int  `key:"agent_processes" default:"512" help:"processes in an agent's instance, 0 for no limit"`
	InstancesPerApplication int  `key:"instances_per_application" default:"64" help:"instances that one application may have"`
}

// Credit says what becomes of users whose credit is used up.
type Credit struct {
	Enforce string `key:"enforce" default:"users" help:"whose applications stop when the credit is used up: users (all but administrators), everybody or nobody"`
}

// Quota bounds what one user may have who has no quota of their own.
// Administrators are not bound by it.
type Quota struct {
	Applications int  `key:"applications" default:"0" help:"applications that a user may have, 0 for no bound"`
	Instances    int  `key:"instances" default:"0" help:"instances that a user may have started, managers included, 0 for no bound"`
	VolumeBytes  Size `key:"volume_bytes" default:"0" help:"sum of the sizes of a user's volumes, 0 for no bound"`
}

// Bin is where what was deleted waits.
type Bin struct {
	Keep time.Duration `key:"keep" default:"168h" help:"how long what was deleted can be brought back, 0 to delete at once"`
}

// History says how much of the past is kept.
type History struct {
	Audit      time.Duration `key:"audit" default:"2160h" help:"how long it is kept who asked for which change, at least 1h"`
	Operations time.Duration `key:"operations" default:"720h" help:"how long operations are kept that have ended, at least 1h; the newest 1000 of each application stay longer"`
}

// Upload bounds what users send.
type Upload struct {
	MaxBytes Size `key:"max_bytes" default:"2G" help:"size of one uploaded archive"`
}

// Git is the git server.
type Git struct {
	Listen             []string `key:"listen" help:"addresses of the git server, host:port, or none; port 5522 of each address in listen if empty"`
	MaxPushBytes       Size     `key:"max_push_bytes" default:"2G" help:"size of one push, packed"`
	MaxFileBytes       Size     `key:"max_file_bytes" default:"1G" help:"size of one file in a push"`
	MaxRepositoryBytes Size     `key:"max_repository_bytes" default:"8G" help:"size of one application's repository"`
}

// Manifest says what manifests may name.
type Manifest struct {
	FetchPrivate bool `key:"fetch_private" default:"false" help:"let manifests name URLs at addresses that are not public, which the director then asks; also use the proxy of its environment"`
}

// Metrics says how much of what instances measured is kept.
type Metrics struct {
	Retention time.Duration `key:"retention" default:"720h" help:"how long measurements are kept, at least 1h"`
	MaxBytes  Size          `key:"max_bytes" default:"1G" help:"disk that measurements may use; the oldest go first"`
}

// Image says of what instances are made.
type Image struct {
	Suite  string `key:"suite" default:"trixie" help:"Debian release: trixie (13) or bookworm (12)"`
	Mirror string `key:"mirror" help:"Debian mirror; this machine's apt configuration if empty"`
}

// Nodes says how a director takes machines in that lend their containers.
type Nodes struct {
	Find    bool   `key:"find" default:"true" help:"answer machines on the director's networks that look for a director to join; never where it listens on loopback only"`
	Subnets string `key:"subnets" default:"10.201.0.0/16" help:"private network of the first node's containers; the next nodes get those behind it"`
}

// Node is what a machine in the role node is told.
type Node struct {
	Director []string `key:"director" help:"where a node's director is: host, host:port or URL; its network is asked if empty"`
	CASHA256 string   `key:"ca_sha256" help:"fingerprint of the CA of a node's director; if empty, the first one that approves the node is believed"`
	Name     string   `key:"name" help:"what a node would like to be called; its host name if empty"`
	Listen   string   `key:"listen" default:":5558" help:"address on which a node takes its director's orders, host:port"`
	Driver   string   `key:"driver" default:"lxc" help:"cloud that a node runs instances in: lxc, or process for trying"`
	Find     string   `key:"find" help:"where a node asks for a director: host:port of UDP, or none; the broadcast addresses of all its networks if empty"`
}

// Client is where the command line finds its director.
type Client struct {
	Director string `key:"director" env:"NUTSHELL_DIRECTOR" help:"URL of the director"`
	User     string `key:"user" env:"NUTSHELL_USER" help:"user name"`
	Password string `key:"password" env:"NUTSHELL_PASSWORD" secret:"true" help:"password"`
	Token    string `key:"token" env:"NUTSHELL_TOKEN" secret:"true" help:"API token, instead of user and password"`
	CASHA256 string `key:"ca_sha256" env:"NUTSHELL_CA_SHA256" help:"fingerprint of the director's CA"`
}

// Log says what is written to the log, and how.
type Log struct {
	Level  string `key:"level" default:"info" help:"debug, info, warn or error"`
	Format string `key:"format" default:"text" help:"text or json"`
}

// Entry is one effective value, for people.
type Entry struct {
	Key    string `json:"key" yaml:"key"`
	Value  string `json:"value" yaml:"value"` // secrets are masked
	Origin string `json:"origin" yaml:"origin"`
	Help   string `json:"help,omitempty" yaml:"help,omitempty"`
	List   bool   `json:"-" yaml:"-"` // several values, with commas between
}

// Masked stands for a secret that is set.
const Masked = "********"

// Origin says where the value of a key came from.
func (c *Config) Origin(key string) string {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return "default"
}

// Show lists every key with its effective value and where that came from.
func (c *Config) Show() []Entry {
	var out []Entry
	for _, f := range fields(c) {
		e := Entry{Key: f.key, Value: text(f.value), Origin: c.Origin(f.key), Help: f.help}
		_, e.List = f.value.Interface().([]string)
		if f.secret && e.Value != "" {
			e.Value = Masked
		}
		if f.key != "clouds" || len(c.Clouds) == 0 {
			out = append(out, e)
			continue
		}
		for _, place := range c.Clouds {
			out = append(out, showCloud(place, e.Origin)...)
		}
	}
	return out
}

func showCloud(p Cloud, origin string) []Entry {
	key := "clouds." + p.Name
	out := []Entry{{Key: key + ".driver", Value: p.Driver, Origin: origin}}
	names := make([]string, 0, len(p.Options))
	for n := range p.Options {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		value := p.Options[n]
		if isSecret(n) && value != "" {
			value = Masked
		}
		out = append(out, Entry{Key: key + ".options." + n, Value: value, Origin: origin})
	}
	return out
}

// isSecret guesses by its name whether a driver's option must not be shown.
// Hiding too much is the lesser harm.
func isSecret(option string) bool {
	return slices.ContainsFunc([]string{"pass", "secret", "token", "key", "credential"}, func(s string) bool {
		return strings.Contains(strings.ToLower(option), s)
	})
}

// field is one key of the configuration.
type field struct {
	key, env, def, help string
	secret              bool
	value               reflect.Value
}

// fields lists all keys in the order of the struct.
func fields(c *Config) []field { return collect(reflect.ValueOf(c).Elem(), "") }

func collect(v reflect.Value, prefix string) []field {
	var out []field
	for i := range v.NumField() {
		f := v.Type().Field(i)
		key := f.Tag.Get("key")
		switch {
		case key == "":
			continue
		case f.Type.Kind() == reflect.Struct:
			out = append(out, collect(v.Field(i), prefix+key+".")...)
			continue
		}
		key = prefix + key
		env := f.Tag.Get("env")
		if env == "" {
			env = "NUTSHELL_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		}
		out = append(out, field{key: key, env: env, def: f.Tag.Get("default"), help: f.Tag.Get("help"), secret: f.Tag.Get("secret") == "true", value: v.Field(i)})
	}
	return out
}

// Flag is the name of the flag for a key, without dashes in front.
func Flag(key string) string { return strings.NewReplacer("_", "-", ".", "-").Replace(key) }

// wrong is an error about one value: where it stands, which key, why.
func wrong(origin, key, format string, args ...any) error {
	return &api.Error{Code: api.CodeInvalid, Op: "read configuration", Object: origin, Message: key + ": " + fmt.Sprintf(format, args...), Fields: []string{key},
		Hint: "nutshell config show lists all keys"}
}
