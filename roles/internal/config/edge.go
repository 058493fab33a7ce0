package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"nutshell/roles/api"
)

// Edge is the one address under which the director shows services.
type Edge struct {
	HTTPS          string        `key:"https" help:"address on which services are shown by name, host:port; empty: they are not"`
	HTTP           string        `key:"http" help:"address that leads to the one of edge.https, and where ACME's HTTP challenge is answered, host:port; empty: none"`
	Domain         string        `key:"domain" help:"services are shown as APPLICATION.DOMAIN; empty: only under names that users add"`
	Chain          string        `key:"chain" help:"file with a certificate for *.DOMAIN and those that signed it, PEM; the director's own CA if empty"`
	Key            string        `key:"key" help:"file with the key of edge.chain, PEM"`
	Trusted        []string      `key:"trusted" help:"addresses and networks of load balancers in front, whose X-Forwarded-For is believed"`
	HSTS           time.Duration `key:"hsts" default:"0s" help:"how long browsers shall insist on https after a visit, such as 8760h; 0s: they need not"`
	MaxConnections int           `key:"max_connections" default:"8192" help:"connections at a time; one address gets an eighth of them"`
	ACMEDirectory  string        `key:"acme_directory" help:"URL of the directory of an ACME authority such as Let's Encrypt; empty: no ACME"`
	ACMEEmail      string        `key:"acme_email" help:"e-mail address for the ACME account"`
	ACMECA         string        `key:"acme_ca" help:"file with the root certificate of a private ACME authority, PEM"`
}

// On reports whether there is an edge.
func (e Edge) On() bool { return e.HTTPS != "" }

func checkOptional(check func(string) error, s string) error {
	if s == "" {
		return nil
	}
	return check(s)
}

func checkDomain(s string) error {
	if _, err := netip.ParseAddr(s); err == nil || len(s) > 180 || !namePattern.MatchString(s) {
		return fmt.Errorf("%s is not a domain such as apps.example.org", api.Shorten(s))
	}
	return nil
}

func checkNetwork(s string) error {
	_, err := netip.ParsePrefix(s)
	if err != nil {
		_, err = netip.ParseAddr(s)
	}
	if err != nil {
		return fmt.Errorf("%s is neither an address nor a network such as 10.0.0.0/8", api.Shorten(s))
	}
	return nil
}

func checkEmail(s string) error {
	if at := strings.LastIndexByte(s, '@'); s != "" && (at < 1 || checkHost(s[at+1:]) != nil || strings.ContainsAny(s, " <>,;")) {
		return fmt.Errorf("%s is not an e-mail address", api.Shorten(s))
	}
	return nil
}

// together refuses what means nothing by itself.
func (e Edge) together() (key string, err error) {
	switch {
	case (e.Chain == "") != (e.Key == ""):
		return "edge.chain", errors.New("a certificate needs its key: set edge.chain and edge.key together, or neither")
	case e.Chain != "" && e.Domain == "":
		return "edge.chain", errors.New("it is for the names below edge.domain, which is not set")
	case !e.On() && (e.HTTP != "" || e.Domain != "" || e.ACMEDirectory != ""):
		return "edge.https", errors.New("it is not set, but other keys of edge are; set it, such as to 0.0.0.0:443")
	case e.HTTP != "" && e.HTTP == e.HTTPS && !strings.HasSuffix(e.HTTP, ":0"):
		return "edge.http", errors.New("it is the same as edge.https")
	}
	return "", nil
}
