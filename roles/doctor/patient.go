package doctor

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Patient is the machine as the checks see it. The fields that are functions
// are what cannot be read from files below Root; a nil one is not asked.
type Patient struct {
	Root    string // before each path of the system; "" is this machine
	Euid    int
	Now     func() time.Time
	Built   time.Time // when the binary's commit was made; zero: not known
	DataDir string
	Running int // process id of the director that has the data directory; 0: none

	Settings    error    // what is wrong with the configuration
	SecretFiles []string // configuration files that hold secrets
	Mirror      string   // of image.mirror
	Ports       []Port   // that a director listens on
	Subnets     []Subnet
	Containers  bool // instances are containers of this machine
	Processes   bool // instances are processes of this machine
	Kinds       map[string][]string
	EdgeChain   string // files of edge.chain and edge.key
	EdgeKey     string

	Helper   func() error                                     // nil error: this binary has the program that drives containers
	Clouds   map[string]func(ctx context.Context) error       // the check of each driver, by cloud; an error of one in Fallback is a warning
	Fallback map[string]string                                // cloud → what is used in its place
	Database func(ctx context.Context, dir string) error      // nil: sound; fs.ErrNotExist: none yet; ErrBusy: cannot be told now
	Layers   func() (missing []string, suite string, e error) // kinds without a built layer
	Identity func() (who string, until time.Time, e error)    // of an instance or a node
	Ask      func(ctx context.Context) (Answer, error)        // the director that this machine uses
	Unit     func(ctx context.Context, unit string) string    // state of a systemd unit; empty: there is none

	Statfs   func(path string) (unix.Statfs_t, error)
	Listen   func(ctx context.Context, address string) error
	Lookup   func(ctx context.Context, host string) error
	Kept     func() (bool, error)                            // whether a time service keeps the clock
	Firewall func() error                                    // whether the kernel has nf_tables
	Program  func(name string) bool                          // whether there is such a program
	Nested   func(ctx context.Context) error                 // whether a container could have a /proc of its own
	Run      func(ctx context.Context, argv ...string) error // runs a command; nil: Mend runs none
}

// Port is an address that a director listens on.
type Port struct {
	Key, Address string // key of the configuration, host:port
	Optional     bool   // the director starts without it
}

// Subnet is a network that a cloud gives addresses of.
type Subnet struct{ Cloud, Network string }

// Answer is what a director said of itself.
type Answer struct {
	URL, From string // From: where the URL is written down
	Version   string
	Time      time.Time         // its clock; zero: not told
	Own       string            // our version
	Problems  map[string]string // cloud → why it does not work; only for those who are signed in
	SignedIn  bool
}

func (p *Patient) path(name string) string { return filepath.Join(p.Root, name) }

func (p *Patient) read(name string) string {
	b, err := os.ReadFile(p.path(name))
	if err != nil {
		return ""
	}
	return string(b)
}

func (p *Patient) exists(name string) bool {
	_, err := os.Stat(p.path(name))
	return err == nil
}

// existing is the directory itself, or the nearest one above that is there.
func existing(dir string) string {
	for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return dir
}
