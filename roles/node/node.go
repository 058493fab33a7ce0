// Package node is the role of a machine that lends its containers: it finds a
// director, asks to join, waits until somebody approves it, and then carries
// out what the director orders of a local cloud. Its containers go on when the
// director is away or this process dies.
//
// It knows no services and decides nothing: which instances run here is the
// director's business.
package node

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
)

// Layers keeps the file systems that instances are made of.
type Layers interface {
	// Find says where a layer lies, fs.ErrNotExist if it is not here.
	Find(digest string) (dir string, err error)
	// Import takes a layer as the director sends it.
	Import(ctx context.Context, digest string, r io.Reader) (dir string, err error)
	// All are the digests of the layers that are here.
	All() ([]string, error)
}

// Config is what Run needs.
type Config struct {
	Dir       string   // of identity and state; the node's own, made if missing
	Runtime   string   // directory of what means nothing after a restart, in memory; empty: Dir
	Directors []string // host, host:port or URL; none: the network is asked
	CASHA256  string   // of the director's CA, in hex; empty: whoever answers is believed, once
	Name      string   // that it would like to have; empty: the host's name
	Listen    string   // host:port for the director's orders
	// Find is where the network is asked for a director: host:port of UDP;
	// empty: the broadcast addresses of all interfaces; none: nowhere.
	Find    string
	Disk    string // a directory of the file system that holds instances
	Version string
	// Driver opens the cloud of this machine for an installation.
	Driver func(installation string) (cloud.Driver, error)
	Layers Layers // nil: the driver needs none
	// SetClock sets the machine's clock; nil: it is left alone.
	SetClock func(time.Time) error
	Now      func() time.Time
	// Turn is called in each turn of the node's loop, at the least every two
	// minutes: who does not hear it knows that the node hangs. nil: nobody asks.
	Turn func()
	Log  *slog.Logger
	Say  io.Writer // the machine's own screen: what people must see there
}

func (c Config) check() error {
	switch {
	case !filepath.IsAbs(c.Dir) || !filepath.IsAbs(c.Disk) || c.Runtime != "" && !filepath.IsAbs(c.Runtime):
		return errors.New("node: Dir, Runtime and Disk must be absolute")
	case c.Driver == nil:
		return errors.New("node: Driver is required")
	case c.Log == nil || c.Now == nil || c.Say == nil:
		return errors.New("node: Log, Now and Say are required")
	}
	for _, d := range c.Directors {
		if _, err := hostPorts(d); err != nil {
			return err
		}
	}
	return nil
}

// Names of files in Dir, the status in Runtime.
const (
	keyFile    = "node.key"
	stateFile  = "node.json"
	statusFile = "status.json"
)

// errRemoved ends a node's work: the director does not want it any more.
var errRemoved = errors.New("the director removed this node")

// node is this machine.
type node struct {
	c           Config
	key         *ecdsa.PrivateKey // made once; people know the machine by it
	csr         []byte
	fingerprint string
	fixed       api.NodeFacts // what does not change while we run
	state       state
	boot        string // this process: two machines that have one key are told apart by it
	contacts    *contacts
	lowPower    time.Time // when the supply had too little voltage last; zero: never
	shown       Status

	creds *pki.Credentials // nil until it has joined
}

// state is what a node keeps beside its key and certificate, so that it goes
// on while the director is away.
type state struct {
	CASHA256  string         `json:"ca_sha256,omitempty"` // of the director that it joined
	Directors []string       `json:"directors,omitempty"` // host:port, where it answered last first
	Orders    api.NodeOrders `json:"orders"`
}

// Run is the node's life: it joins, works until it is removed, and asks again.
// It ends with ctx, or with an error that trying again would not mend.
func Run(ctx context.Context, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Turn == nil {
		c.Turn = func() {}
	}
	if c.Runtime == "" {
		c.Runtime = c.Dir
	}
	n, err := open(c)
	if err != nil {
		return err
	}
	defer n.contacts.close()
	for {
		if n.creds == nil {
			if err := n.join(ctx); err != nil {
				return err
			}
		}
		err := n.work(ctx)
		if !errors.Is(err, errRemoved) {
			return err
		}
		c.Log.Warn("removed by the director; it may be approved again")
		if err := n.leave(); err != nil {
			return err
		}
	}
}

// open reads what this machine is, and makes its key at the first start.
func open(c Config) (*node, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	n := &node{c: c, boot: api.NewID(16), contacts: newContacts(c.CASHA256)}
	path := filepath.Join(c.Dir, keyFile)
	var err error
	if n.key, err = pki.LoadKey(path); errors.Is(err, fs.ErrNotExist) {
		if n.key, err = pki.NewKey(); err == nil {
			err = pki.SaveKey(path, n.key)
		}
	}
	if err != nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "read the key of this node from", Object: path, Err: err, Hint: "remove it: the node then asks to join as a new machine"}
	}
	if n.csr, err = pki.CSR(n.key); err != nil {
		return nil, err
	}
	if n.fingerprint, err = pki.Fingerprint(n.key); err != nil {
		return nil, err
	}
	n.fixed = gatherFixed(c)
	if err := cloud.LoadState(filepath.Join(c.Dir, stateFile), &n.state); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Log.Warn("what was kept of the director cannot be read, it is asked again", "error", err)
	}
	n.loadIdentity()
	return n, nil
}

// loadIdentity takes the certificate of an earlier life, if it fits.
func (n *node) loadIdentity() {
	creds, err := pki.Load(n.c.Dir, n.c.Now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		n.c.Log.Warn("saved certificate cannot be used", "error", err)
		return
	case n.c.CASHA256 != "" && !sameHash(creds.RootSHA256(), n.c.CASHA256):
		n.c.Log.Warn("saved certificate is of another director than the configuration says", "saved", creds.RootSHA256(), "configured", n.c.CASHA256)
		return
	case creds.Identity().Role != api.RoleNode:
		n.c.Log.Warn("saved certificate is not a node's", "identity", creds.Identity().String())
		return
	}
	n.creds = creds
	n.state.CASHA256 = creds.RootSHA256()
}

// leave forgets the director and keeps the key: the same machine may be
// approved again.
func (n *node) leave() error {
	n.creds, n.state = nil, state{}
	var errs []error
	for _, name := range []string{"identity.pem", stateFile} {
		if err := os.Remove(filepath.Join(n.c.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (n *node) saveState() {
	if err := cloud.SaveState(filepath.Join(n.c.Dir, stateFile), n.state); err != nil {
		n.c.Log.Error("state not kept", "error", err)
	}
}

// Status is what the machine's own screen shows, also in the file status.json.
type Status struct {
	State       string    `json:"state"` // looking, waiting, joined, away
	ID          string    `json:"id,omitempty"`
	Name        string    `json:"name"`
	Model       string    `json:"model,omitempty"`
	Serial      string    `json:"serial,omitempty"`
	Fingerprint string    `json:"fingerprint"`
	Director    string    `json:"director,omitempty"`
	CASHA256    string    `json:"ca_sha256,omitempty"`
	Problem     string    `json:"problem,omitempty"`
	Since       time.Time `json:"since"`
}

// States of Status.
const (
	looking = "looking" // for a director
	waiting = "waiting" // to be approved
	joined  = "joined"
	away    = "away" // the director does not answer; containers go on
)

// show tells people in front of the machine what has changed.
func (n *node) show(s Status) {
	s.Fingerprint, s.Model, s.Serial = n.fingerprint, n.fixed.Model, n.fixed.Serial
	if s.Name == "" {
		s.Name = n.fixed.Name
	}
	s.Since = n.shown.Since
	if s == n.shown {
		return
	}
	if s.State != n.shown.State {
		s.Since = n.c.Now().UTC().Truncate(time.Second)
	}
	n.shown = s
	if err := cloud.SaveRuntime(filepath.Join(n.c.Runtime, statusFile), s); err != nil {
		n.c.Log.Warn("status not written", "error", err)
	}
	line := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(n.c.Say, "  %-12s %s\n", name, value)
		}
	}
	_, _ = fmt.Fprintf(n.c.Say, "\nNutshell node %s: %s\n", s.Name, map[string]string{looking: "looks for a director", waiting: "wants to join, and waits to be approved",
		joined: "has joined", away: "goes on without its director, which does not answer"}[s.State])
	line("machine", n.fixed.Model)
	line("serial", n.fixed.Serial)
	line("fingerprint", spaced(s.Fingerprint))
	line("director", s.Director)
	line("its CA", spaced(s.CASHA256))
	line("problem", s.Problem)
	if s.State == waiting {
		line("approve by", "nutshell node approve "+s.ID+" --fingerprint "+s.Fingerprint[:16]+", or on the page Nodes")
	}
}

// spaced makes a hash readable aloud.
func spaced(hash string) string {
	out := ""
	for i := 0; i < len(hash); i += 4 {
		if i > 0 {
			out += " "
		}
		out += hash[i:min(i+4, len(hash))]
	}
	return out
}
