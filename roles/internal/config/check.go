package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
)

var (
	namePattern  = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	suitePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	hashPattern  = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
)

// Check refuses values that mean nothing, also where a caller has set them.
func (c *Config) Check() error { return c.check() }

// check looks at values that were read well and mean nothing.
func (c *Config) check() error {
	for _, v := range []struct {
		key string
		err error
	}{
		{"data_dir", checkPath(c.DataDir)},
		{"listen", each(c.Listen, checkListen)},
		{"name", each(c.Name, checkHost)},
		{"default_cloud", c.checkDefaultCloud()},
		{"history.audit", atLeastTime(c.History.Audit, time.Hour)},
		{"history.operations", atLeastTime(c.History.Operations, time.Hour)},
		{"upload.max_bytes", atLeast(int64(c.Upload.MaxBytes), 1)},
		{"credit.enforce", oneOf(c.Credit.Enforce, "users", "everybody", "nobody")},
		{"quota.applications", atLeast(int64(c.Quota.Applications), 0)},
		{"quota.instances", atLeast(int64(c.Quota.Instances), 0)},
		{"quota.volume_bytes", atLeast(int64(c.Quota.VolumeBytes), 0)},
		{"git.listen", checkGitListen(c.Git.Listen)},
		{"git.max_push_bytes", atLeast(int64(c.Git.MaxPushBytes), 1)},
		{"git.max_file_bytes", atLeast(int64(c.Git.MaxFileBytes), 1)},
		{"git.max_repository_bytes", atLeast(int64(c.Git.MaxRepositoryBytes), 1)},
		{"limits.instances_per_application", atLeast(int64(c.Limits.InstancesPerApplication), 1)},
		{"limits.agent_memory", noneOrAtLeast(c.Limits.AgentMemory, 32<<20)},
		{"limits.manager_memory", noneOrAtLeast(c.Limits.ManagerMemory, 32<<20)},
		{"edge.https", checkOptional(checkListen, c.Edge.HTTPS)},
		{"edge.http", checkOptional(checkListen, c.Edge.HTTP)},
		{"edge.domain", checkOptional(checkDomain, c.Edge.Domain)},
		{"edge.chain", checkPath(c.Edge.Chain)},
		{"edge.key", checkPath(c.Edge.Key)},
		{"edge.trusted", each(c.Edge.Trusted, checkNetwork)},
		{"edge.max_connections", atLeast(int64(c.Edge.MaxConnections), 16)},
		{"edge.acme_directory", checkURL(c.Edge.ACMEDirectory, "https")},
		{"edge.acme_email", checkEmail(c.Edge.ACMEEmail)},
		{"edge.acme_ca", checkPath(c.Edge.ACMECA)},
		{"metrics.retention", atLeastTime(c.Metrics.Retention, time.Hour)},
		{"metrics.max_bytes", atLeast(int64(c.Metrics.MaxBytes), 16<<20)},
		{"image.suite", matches(c.Image.Suite, suitePattern, "the name of a Debian release")},
		{"image.mirror", checkURL(c.Image.Mirror, "http", "https", "file")},
		{"nodes.subnets", checkSubnets(c.Nodes.Subnets)},
		{"node.ca_sha256", matches(c.Node.CASHA256, hashPattern, "64 hex digits")},
		{"node.listen", checkListen(c.Node.Listen)},
		{"node.find", checkFind(c.Node.Find)},
		{"client.director", checkURL(c.Client.Director, "https")},
		{"client.ca_sha256", matches(c.Client.CASHA256, hashPattern, "64 hex digits")},
		{"log.level", oneOf(c.Log.Level, "debug", "info", "warn", "error")},
		{"log.format", oneOf(c.Log.Format, "text", "json")},
	} {
		if v.err != nil {
			return wrong(c.Origin(v.key), v.key, "%v", v.err)
		}
	}
	if key, err := c.Edge.together(); err != nil {
		return wrong(c.Origin(key), key, "%v", err)
	}
	return nil
}

func (c *Config) checkDefaultCloud() error {
	if c.DefaultCloud == "" || len(c.Clouds) == 0 || slices.ContainsFunc(c.Clouds, func(p Cloud) bool { return p.Name == c.DefaultCloud }) {
		return nil // without a list, the caller knows which clouds there are
	}
	names := make([]string, len(c.Clouds))
	for i, p := range c.Clouds {
		names[i] = p.Name
	}
	return fmt.Errorf("there is no cloud %s; there are %s", api.Shorten(c.DefaultCloud), strings.Join(names, ", "))
}

func atLeastTime(d, least time.Duration) error {
	if d < least {
		return fmt.Errorf("%v is less than %v", d, least)
	}
	return nil
}

func each(list []string, check func(string) error) error {
	for _, s := range list {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

func checkPath(s string) error {
	if s != "" && !filepath.IsAbs(s) {
		return fmt.Errorf("%s is not an absolute path", api.Shorten(s))
	}
	return nil
}

func checkListen(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%s is not an address with a port, such as 127.0.0.1:5555", api.Shorten(s))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s has no port between 0 and 65535: %d", api.Shorten(s), n)
	}
	if host == "" {
		return nil
	}
	return checkHost(host)
}

// checkGitListen also takes the one word none.
func checkGitListen(list []string) error {
	if len(list) == 1 && list[0] == "none" {
		return nil
	}
	return each(list, checkListen)
}

func checkHost(s string) error {
	if net.ParseIP(s) == nil && (len(s) > 253 || !namePattern.MatchString(s)) {
		return fmt.Errorf("%s is neither a host name nor an IP address", api.Shorten(s))
	}
	return nil
}

func checkURL(s string, schemes ...string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || !slices.Contains(schemes, u.Scheme) || (u.Host == "" && u.Scheme != "file") {
		return fmt.Errorf("%s is not a URL that begins with %s://", api.Shorten(s), schemes[len(schemes)-1])
	}
	return nil
}

func oneOf(s string, allowed ...string) error {
	if !slices.Contains(allowed, s) {
		return fmt.Errorf("%s is not one of %s", api.Shorten(s), strings.Join(allowed, ", "))
	}
	return nil
}

func matches(s string, p *regexp.Regexp, what string) error {
	if s != "" && !p.MatchString(s) {
		return fmt.Errorf("%s is not %s", api.Shorten(s), what)
	}
	return nil
}

func atLeast(n, least int64) error {
	if n < least {
		return fmt.Errorf("%d is less than %d", n, least)
	}
	return nil
}

func noneOrAtLeast(s, least Size) error {
	if s != 0 && s < least {
		return fmt.Errorf("%s is too little to run anything; at least %s, or 0 for no limit", s, least)
	}
	return nil
}

// unknown is an error that says which key was probably meant.
func (l *loader) unknown(origin, key string) error {
	best, d := "", 4
	last := key[strings.LastIndex(key, ".")+1:]
	for known := range l.byKey {
		this := api.Distance(key, known)
		if known[strings.LastIndex(known, ".")+1:] == last {
			this = min(this, 3) // the right word in the wrong section
		}
		if this < d || this == d && known < best {
			best, d = known, this
		}
	}
	e := api.AsError(wrong(origin, shown(key), "there is no such key"))
	e.Hint = "nutshell config show lists all keys"
	if best != "" {
		e.Hint = "did you mean " + best + "? " + e.Hint
	}
	return e
}

func shown(key string) string {
	if len(key) > 60 || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return api.Shorten(key)
	}
	return key
}
