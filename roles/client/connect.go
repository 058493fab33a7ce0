package client

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"nutshell/roles/api"
)

// connection is where the director is and who asks.
type connection struct {
	URL      string `yaml:"url"`
	CA       string `yaml:"ca_sha256,omitempty"` // fingerprint of the director's root certificate
	User     string `yaml:"user,omitempty"`
	Token    string `yaml:"token,omitempty"`
	TokenID  string `yaml:"token_id,omitempty"`
	Password string `yaml:"-"`
	from     string // where URL came from, for people
	bare     bool   // nobody named a port; URL has the usual one
}

// local reports whether the sign-in is the file that a director writes for its
// own account on its machine: unlike that of login it names no token.
func (s connection) local() bool {
	return s.Token != "" && s.TokenID == "" && s.Password == "" && filepath.Base(s.from) == "client.yaml"
}

// connection joins all sources, weakest first. The strongest that names a
// director decides which one it is; sources that name another director are
// left out, so that no secret goes to a director it was not meant for.
func (c *Client) connection() (connection, error) {
	sources, err := c.sources()
	if err != nil {
		return connection{}, err
	}
	var all connection
	for _, s := range sources {
		if s.URL == "" {
			continue
		}
		u, err := directorURL(s.URL)
		if err != nil {
			return connection{}, fmt.Errorf("%s: %w", s.from, err)
		}
		all.from = s.from
		if !means(s.URL, all.URL) { // a host alone is the director of it that is known
			all.URL, all.bare = u, portless(s.URL)
		}
	}
	if all.URL == "" {
		return connection{}, &api.Error{Code: api.CodeInvalid, Message: "no director is known",
			Hint: "start one here with: nutshell up; or sign in to one with: nutshell login https://HOST:5555"}
	}
	anybodys := false // the password came without a name: the one that follows is meant
	for _, s := range sources {
		if s.URL != "" && !means(s.URL, all.URL) {
			continue
		}
		if s.CA != "" {
			all.CA = cleanFingerprint(s.CA)
		}
		switch {
		case s.Token != "" || s.Password != "":
			// Half of one sign-in must not be mixed with half of another.
			all.Token, all.Password, all.TokenID = s.Token, s.Password, s.TokenID
			anybodys = s.Password != "" && s.User == ""
		case s.User != "" && s.User != all.User && !anybodys:
			all.Token, all.Password, all.TokenID = "", "", ""
		}
		if s.User != "" {
			all.User = s.User
		}
	}
	return all, nil
}

// sources lists what may say something about the connection, weakest first.
func (c *Client) sources() ([]connection, error) {
	var list []connection
	add := func(s connection, err error) error {
		if err == nil {
			list = append(list, s)
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil // another user's director, or none
		}
		return err
	}
	here, named := c.dataDir()
	if here != "" && !named {
		if err := add(readClientFile(filepath.Join(here, "client.yaml"))); err != nil {
			return nil, err
		}
	}
	old := []string{"/etc/cps-tools.conf", "/etc/cps-tools/cps-tools.conf"}
	if home := c.o.Getenv("HOME"); home != "" {
		old = append(old, filepath.Join(home, ".conpaas", "cps-tools.conf"))
	}
	for _, path := range old {
		if err := add(c.readToolsFile(path)); err != nil {
			return nil, err
		}
	}
	if path := c.clientFile(); path != "" {
		if err := add(readClientFile(path)); err != nil {
			return nil, err
		}
	}
	if named { // whoever names a director's directory means that director
		if err := add(readClientFile(filepath.Join(here, "client.yaml"))); err != nil {
			return nil, err
		}
	}
	list = append(list, connection{URL: c.o.Getenv("NUTSHELL_DIRECTOR"), CA: c.o.Getenv("NUTSHELL_CA_SHA256"), User: c.o.Getenv("NUTSHELL_USER"),
		Token: c.o.Getenv("NUTSHELL_TOKEN"), Password: c.o.Getenv("NUTSHELL_PASSWORD"), from: "the environment"})
	if c.g.confFile != "" {
		s, err := c.readToolsFile(c.g.confFile)
		if err != nil {
			return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: c.g.confFile, Err: err}
		}
		list = append(list, s)
	}
	return append(list, connection{URL: c.g.director, CA: c.g.ca, User: c.g.username, Token: c.g.token, Password: c.g.password, from: "the command line"}), nil
}

// dataDir is where a director of this user on this machine keeps its things,
// and whether the environment names it.
func (c *Client) dataDir() (dir string, named bool) {
	if d := c.o.Getenv("NUTSHELL_DATA_DIR"); d != "" {
		return d, true
	}
	if os.Geteuid() == 0 {
		return "/var/lib/nutshell", false
	}
	if home := c.o.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "share", "nutshell"), false
	}
	return "", false
}

// clientFile is where login keeps the sign-in; "" if there is no home.
func (c *Client) clientFile() string { return c.homeFile("XDG_CONFIG_HOME", ".config", "client.yaml") }

func (c *Client) homeFile(variable, dir, name string) string {
	if d := c.o.Getenv(variable); filepath.IsAbs(d) {
		return filepath.Join(d, "nutshell", name)
	}
	if home := c.o.Getenv("HOME"); home != "" {
		return filepath.Join(home, dir, "nutshell", name)
	}
	return ""
}

func readClientFile(path string) (connection, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return connection{}, err
	}
	s := connection{from: path}
	if err := yaml.Unmarshal(b, &s); err != nil {
		return connection{}, &api.Error{Code: api.CodeInvalid, Op: "read", Object: path, Err: err, Hint: "delete the file and sign in again with: nutshell login URL"}
	}
	return s, nil
}

// writeClientFile stores a sign-in so that only its user can read it.
func writeClientFile(path string, s connection) error {
	b, err := yaml.Marshal(s)
	if err != nil {
		return err
	}
	return writePrivate(path, b)
}

// writePrivate replaces a file in one step.
func writePrivate(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// readToolsFile reads ConPaaS's cps-tools.conf. As there, what is not known
// is only warned of.
func (c *Client) readToolsFile(path string) (connection, error) {
	f, err := os.Open(path)
	if err != nil {
		return connection{}, err
	}
	defer func() { _ = f.Close() }()
	s := connection{from: path}
	section := ""
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case line[0] == '[':
			section = strings.Trim(line, "[] ")
			continue
		}
		i := strings.IndexAny(line, "=:")
		if i < 0 || section != "cps-tools" {
			c.warn("%s:%d: not understood, left out", path, n)
			continue
		}
		value := strings.TrimSpace(line[i+1:])
		switch key := strings.TrimSpace(line[:i]); key {
		case "director_url":
			s.URL = value
		case "username":
			s.User = value
		case "password":
			s.Password = value
		case "debug":
			c.g.debug = c.g.debug || strings.EqualFold(value, "true")
		default:
			c.warn("%s:%d: unknown option %s, left out", path, n, api.Shorten(key))
		}
	}
	return s, lines.Err()
}

func (c *Client) warn(format string, args ...any) {
	fmt.Fprintf(c.o.Stderr, "warning: "+format+"\n", args...)
}

// portless tells whether an address leaves the port to us.
func portless(address string) bool {
	full, err := directorURL(address)
	given := strings.ToLower(strings.TrimRight(strings.TrimSpace(address), "/"))
	return err == nil && !strings.HasSuffix(full, strings.TrimPrefix(given, "https://"))
}

// means tells whether an address is that of the director at full.
func means(address, full string) bool {
	u, err := directorURL(address)
	if err != nil || u == full || !portless(address) {
		return err == nil && u == full
	}
	a, err1 := url.Parse(u)
	b, err2 := url.Parse(full)
	return err1 == nil && err2 == nil && a.Hostname() == b.Hostname()
}

// directorURL completes an address: https and port 5555 need not be written.
func directorURL(s string) (string, error) {
	bad := func(why string) (string, error) {
		return "", &api.Error{Code: api.CodeInvalid, Object: "director address " + api.Shorten(s), Message: why, Hint: "write it as https://HOST:5555"}
	}
	text := strings.TrimRight(strings.TrimSpace(s), "/")
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), " \t"):
		return bad("it is not an address")
	case u.Scheme != "https":
		return bad("the director speaks https only")
	case u.User != nil:
		return bad("name and password do not belong into an address")
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return bad("there must be nothing behind host and port")
	}
	port := u.Port()
	if port == "" {
		port = strconv.Itoa(api.DirectorPort)
	}
	return "https://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port), nil
}
