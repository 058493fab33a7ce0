package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// learnTime bounds the question for kinds that is asked while a command line
// is still being understood.
const learnTime = 5 * time.Second

// kindsFile is where the descriptions of a director's kinds are kept, so that
// help and completion need no director.
func (c *Client) kindsFile(director string) string {
	sum := sha256.Sum256([]byte(director))
	return c.homeFile("XDG_CACHE_HOME", ".cache", "kinds-"+hex.EncodeToString(sum[:6])+".json")
}

// early looks for the address of the director among the arguments before they
// are understood: which words are commands depends on the director's kinds.
func (c *Client) early(args []string) string {
	for i, a := range args {
		name, value, has := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if name = sameName(name); !strings.HasPrefix(a, "-") || (name != "director" && name != "director-url") {
			continue
		}
		if has {
			return value
		}
		if i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// quietly finds the connection without asking or warning anybody.
func (c *Client) quietly(args []string) (connection, bool) {
	look := New(c.o)
	look.o.Stderr = io.Discard
	look.g.director = c.early(args)
	conn, err := look.connection()
	return conn, err == nil
}

func (c *Client) cachedKinds(args []string) []api.Kind {
	conn, ok := c.quietly(args)
	if !ok {
		return nil
	}
	b, err := os.ReadFile(c.kindsFile(conn.URL))
	var kinds []api.Kind
	if err != nil || json.Unmarshal(b, &kinds) != nil {
		return nil
	}
	return kinds
}

// learnKinds asks the director for its kinds and reports whether they are
// other ones than those known so far.
func (c *Client) learnKinds(ctx context.Context, args []string) bool {
	conn, ok := c.quietly(args)
	if !ok || (conn.Token == "" && conn.Password == "") {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, learnTime)
	defer cancel()
	look := New(c.o)
	var kinds []api.Kind
	if look.rpc(conn).Do(ctx, http.MethodGet, "/api/v1/kinds", nil, &kinds) != nil {
		return false
	}
	c.keepKinds(conn.URL, kinds)
	before := c.kinds
	c.kinds = mergeKinds(c.kinds, kinds)
	return fmt.Sprint(before) != fmt.Sprint(c.kinds)
}

// keepKinds stores the descriptions. A cache that cannot be written is no
// reason to fail.
func (c *Client) keepKinds(director string, kinds []api.Kind) {
	if path := c.kindsFile(director); path != "" {
		if b, err := json.Marshal(kinds); err == nil {
			_ = writePrivate(path, b)
		}
	}
}

// mergeKinds joins two lists; what stands in over wins.
func mergeKinds(list, over []api.Kind) []api.Kind {
	all := slices.Clone(over)
	for _, k := range list {
		if !slices.ContainsFunc(all, func(o api.Kind) bool { return o.Name == k.Name }) {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b api.Kind) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (r *call) askKinds() ([]api.Kind, error) {
	var kinds []api.Kind
	if err := r.get("/kinds", &kinds); err != nil {
		return nil, err
	}
	r.keepKinds(r.conn.URL, kinds)
	return kinds, nil
}

func (c *Client) kindVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "the kinds of service", "", func(r *call) error {
			kinds, err := r.askKinds()
			if err != nil {
				return err
			}
			t := &table{columns: []string{"type", "roles", "summary"}, none: "No existing kinds."}
			for _, k := range kinds {
				var parts []string
				for _, p := range k.Parts {
					parts = append(parts, p.Name)
				}
				t.add(k.Name, strings.Join(parts, ","), k.Summary)
			}
			return r.show(kinds, t)
		}),
		c.verb("show", "roles, settings and actions of a kind", "<service_type>", showKind),
	}
}

func showKind(r *call) error {
	var k api.Kind
	if err := r.get("/kinds/"+escape(sameName(r.arg("service_type"))), &k); err != nil {
		return err
	}
	return r.showText(k, func(w io.Writer) {
		pairs(w, "type", k.Name, "title", k.Title, "summary", k.Summary, "code", k.Code.Help, "packages", strings.Join(k.Packages, " "))
		fmt.Fprintln(w)
		parts := &table{columns: []string{"role", "at start", "least", "most", "summary"}, none: "No roles."}
		for _, p := range k.Parts {
			parts.add(p.Name, fmt.Sprint(p.Default), fmt.Sprint(p.Min), fmt.Sprint(p.Max), p.Summary)
		}
		parts.write(w)
		fmt.Fprintln(w)
		settings := &table{columns: []string{"setting", "type", "default", "help"}, none: "No settings."}
		for _, s := range k.Settings {
			kind := s.Type
			if len(s.Enum) > 0 {
				kind = strings.Join(s.Enum, "|")
			}
			settings.add(s.Name, kind, plain(s.Default), s.Help)
		}
		settings.write(w)
		fmt.Fprintln(w)
		actions := &table{columns: []string{"action", "summary"}, none: "No actions."}
		for _, a := range k.Actions {
			actions.add(a.Name, a.Summary)
		}
		actions.write(w)
	})
}
