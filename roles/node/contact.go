package node

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

const callTime = 15 * time.Second

// hostPorts reads how people name a director: a host, with a port or not, or
// its URL. It returns where to try, as host:port.
func hostPorts(text string) ([]string, error) {
	bad := func() ([]string, error) {
		return nil, &api.Error{Code: api.CodeInvalid, Object: "director " + api.Shorten(text), Message: "this is neither a host, nor host:port, nor a URL of https", Fields: []string{"director"}}
	}
	if strings.Contains(text, "://") {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			return bad()
		}
		text = u.Host
	}
	host, port, err := net.SplitHostPort(text)
	ports := []string{port}
	if err != nil { // who names none means where directors listen by default, or where appliances do
		host, ports = strings.Trim(text, "[]"), []string{strconv.Itoa(api.DirectorPort), "443"}
	}
	var list []string
	for _, port := range ports {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil || host == "" || strings.ContainsAny(host, " /?#@[]") {
			return bad()
		}
		list = append(list, net.JoinHostPort(host, port))
	}
	return list, nil
}

// addresses are host:port of the directors that people named, each once.
func addresses(directors []string) []string {
	var list []string
	for _, d := range directors {
		these, _ := hostPorts(d) // checked when they were given
		for _, a := range these {
			if !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return list
}

func sameHash(a, b string) bool { return strings.EqualFold(a, b) }

// contacts are directors as a machine without a certificate speaks to them:
// each is held to the CA that it showed first, or to the one that was given.
type contacts struct {
	pinned string
	known  map[string]contact // by host:port
}

type contact struct {
	ca        string
	challenge string
	client    *rpc.Client
}

func newContacts(pinned string) *contacts {
	return &contacts{pinned: strings.ToLower(pinned), known: map[string]contact{}}
}

// get connects to a director the first time.
func (c *contacts) get(ctx context.Context, address string) (contact, error) {
	if k, ok := c.known[address]; ok {
		return k, nil
	}
	k := contact{ca: c.pinned}
	if k.ca == "" {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		var err error
		if _, k.ca, err = pki.FetchRoot(ctx, address); err != nil {
			return k, err
		}
	}
	k.client = rpc.NewClient("https://"+address, pki.PinnedTLS(k.ca))
	c.keep(address, k)
	return k, nil
}

func (c *contacts) keep(address string, k contact) {
	if len(c.known) > 64 { // somebody answers for many
		c.close()
	}
	c.known[address] = k
}

// drop forgets a director that did not answer: it may come back as another.
func (c *contacts) drop(address string) {
	if k, ok := c.known[address]; ok {
		k.client.HTTP.CloseIdleConnections()
		delete(c.known, address)
	}
}

func (c *contacts) close() {
	for address := range c.known {
		c.drop(address)
	}
}
