package web

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed" // nutshell.lua
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/api"
)

//go:embed nutshell.lua
var script []byte

// State is what an nginx is told while it runs. All of it takes effect at
// once, for every request that begins later, and without a reload.
type State struct {
	Version        string   // that visitors see; empty on nodes behind proxies
	Roots          []Root   // where versions lie
	Trust          []string // addresses of proxies, on nodes behind them
	Self           string   // the instance's id
	Webs, Backends []Peer   // that may be asked; empty: what is needed is here
	Sticky         string   // cookie whose value ends in a dot and the id of a visitor's backend
}

// text is what nutshell.lua reads: lines of words, escaped as in a URL. Its
// serial tells whether it has arrived.
func (s State) text() (serial, text string) {
	var b strings.Builder
	line := func(words ...any) {
		for i, w := range words {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(strings.ReplaceAll(url.PathEscape(fmt.Sprint(w)), "+", "%2B"))
		}
		b.WriteByte('\n')
	}
	for _, r := range s.Roots {
		line("root", r.Version, r.Site)
		if r.Here != "" {
			line("here", r.Version, r.Here)
		}
		for _, d := range r.Denied {
			line("denied", r.Version, d)
		}
	}
	for _, t := range s.Trust {
		line("trust", t)
	}
	if s.Version != "" {
		line("version", s.Version)
		line("self", s.Self)
	}
	if s.Sticky != "" {
		line("sticky", s.Sticky)
	}
	for _, tier := range []struct {
		name, what string
		peers      []Peer
	}{{"webs", "webs", s.Webs}, {"backends", "pages", s.Backends}} {
		if len(tier.peers) > 0 {
			line(tier.what, "remote")
		}
		for _, p := range tier.peers {
			weight := p.Weight
			if weight < 1 {
				weight = DefaultWeight
			}
			line("node", tier.name, p.Instance, p.Address, p.Port, weight)
		}
	}
	sum := sha256.Sum256([]byte(b.String()))
	serial = hex.EncodeToString(sum[:6])
	return serial, "serial " + serial + "\n" + b.String()
}

// Seen is what an nginx tells of itself.
type Seen struct {
	Revision string         // of its configuration
	Serial   string         // of its state
	Version  string         // that visitors see
	Down     string         // nodes that do not answer, as it was told
	Busy     map[string]int // requests under way by what they use: a version, here:INSTANCE, webs:INSTANCE, backends:INSTANCE
}

// see asks nginx what it runs, or tells it something first.
func (n *Nginx) see(ctx context.Context, method, path, body string) (Seen, error) {
	var s Seen
	req, err := http.NewRequestWithContext(ctx, method, "http://"+net.JoinHostPort(n.m.Address(), strconv.Itoa(n.port))+path, strings.NewReader(body))
	if err != nil {
		return s, err
	}
	req.Host = statusHost
	if method == http.MethodPost {
		token, err := os.ReadFile(n.tokenFile())
		if err != nil {
			return s, err
		}
		req.Header.Set("X-Nutshell-Token", strings.TrimSpace(string(token)))
	}
	resp, err := n.ask.Do(req)
	if err != nil {
		return s, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // what arrived of it
		return s, fmt.Errorf("%s answers %s: %s", n.name, resp.Status, strings.TrimSpace(string(b)))
	}
	return n.read(resp.Body)
}

// read reads what nutshell.lua's status says. Counts of workers that have
// died are not of requests under way.
func (n *Nginx) read(r io.Reader) (Seen, error) {
	s := Seen{Busy: map[string]int{}}
	live := n.workers()
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		what, rest, _ := strings.Cut(scan.Text(), " ")
		switch what {
		case "revision":
			s.Revision = rest
		case "serial":
			s.Serial = rest
		case "version":
			s.Version = rest
		case "down":
			s.Down = rest
		case "n": // pid, version, instance | tier, instance; count
			f := strings.Fields(rest)
			if len(f) < 3 {
				continue
			}
			pid, err := strconv.Atoi(f[0])
			count, err2 := strconv.Atoi(f[len(f)-1])
			if err != nil || err2 != nil || count == 0 || !slices.Contains(live, pid) {
				continue
			}
			switch first := f[1]; first {
			case "webs", "backends":
				s.Busy[first+":"+f[2]] += count
			default:
				s.Busy[first] += count
				if len(f) == 4 {
					s.Busy["here:"+f[2]] += count
				}
			}
		}
	}
	return s, scan.Err()
}

func (n *Nginx) stateFile() string { return filepath.Join(n.m.Dir("etc"), n.name+".state") }
func (n *Nginx) tokenFile() string { return filepath.Join(n.m.Dir("etc"), n.name+".token") }

// tell makes a running nginx go by a state, and the next start too.
func (n *Nginx) tell(ctx context.Context, s State) error {
	serial, text := s.text()
	before, err := os.ReadFile(n.stateFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if string(before) == text {
		if seen, err := n.see(ctx, http.MethodGet, "/state", ""); err == nil && seen.Serial == serial {
			return nil
		}
	}
	if err := writeAtomic(n.stateFile(), []byte(text), 0o600); err != nil {
		return err
	}
	seen, err := n.see(ctx, http.MethodPost, "/state", text)
	if err == nil && seen.Serial != serial {
		err = errors.New("it goes by another state")
	}
	if err == nil {
		return nil
	}
	err = &api.Error{Code: api.CodeUnavailable, Op: "switch", Object: n.name, Message: "nginx did not take what it was told", Err: err, Hint: "see its log " + n.name + "-error.log"}
	if len(before) > 0 { // a start must not find what a running one refused
		return errors.Join(err, writeAtomic(n.stateFile(), before, 0o600))
	}
	return err
}

// remember writes what a start needs: the script, the token and the state.
func (n *Nginx) remember(s State) error {
	_, text := s.text()
	if err := writeAtomic(n.stateFile(), []byte(text), 0o600); err != nil {
		return err
	}
	return n.equip()
}

// equip writes the script and makes the token, unless they are there.
func (n *Nginx) equip() error {
	if b, err := os.ReadFile(n.scriptFile()); err != nil || string(b) != string(script) {
		if err := writeAtomic(n.scriptFile(), script, 0o644); err != nil {
			return err
		}
	}
	if _, err := os.Stat(n.tokenFile()); err == nil {
		return nil
	}
	return writeAtomic(n.tokenFile(), []byte(rand.Text()+"\n"), 0o600)
}

func (n *Nginx) scriptFile() string { return filepath.Join(n.m.Dir("etc"), "nutshell.lua") }
