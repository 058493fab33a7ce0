package roles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/imagebuild"
	"nutshell/roles/api"
	"nutshell/roles/director"
	"nutshell/roles/internal/build"
	"nutshell/roles/internal/config"
	"nutshell/roles/internal/logfile"
	"nutshell/roles/node"
)

// nodeHangs is how long a node may be without a turn of its loop. One that
// removes its containers takes two minutes at most.
const nodeHangs = 3 * time.Minute

// nodeFlags are the settings of a node, without the word node before them.
func nodeFlags() []cli.Flag {
	flag := func(name, usage string) cli.Flag { return &cli.StringFlag{Name: name, Usage: usage} }
	return []cli.Flag{
		&cli.PathFlag{Name: configFlag, Usage: "read this file or directory instead of the usual ones"},
		flag("data-dir", "where the node keeps its key, its containers and its images (default /var/lib/nutshell)"),
		&cli.StringSliceFlag{Name: "director", Usage: "where the director is: host, host:port or URL; the network is asked if it is not given"},
		flag("ca-sha256", "fingerprint of the director's CA; if it is not given, the first director that approves this machine is believed"),
		flag("name", "what this machine would like to be called (default: its host name)"),
		flag("listen", "address on which it takes the director's orders, host:port (default :5558)"),
		flag("driver", "cloud that it runs instances in: lxc, or process for trying (default lxc)"),
		flag("find", "where it asks for a director: host:port of UDP, or none (default: the broadcast addresses of all its networks)"),
		flag("log-level", "debug, info, warn or error (default info)"),
	}
}

// nodeCommand lends this machine's containers to a director.
func (p *Program) nodeCommand() *cli.Command {
	return &cli.Command{Name: "node", Usage: "lend this machine's containers to a director", Flags: nodeFlags(), Action: func(x *cli.Context) error {
		c, err := loadNodeSettings(x)
		if err != nil {
			return err
		}
		err = p.runNode(x.Context, c)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}}
}

// loadNodeSettings reads the configuration; the flags of a node are the keys
// below node.
func loadNodeSettings(x *cli.Context) (*config.Config, error) {
	c, err := loadSettings(x)
	if err != nil {
		return nil, err
	}
	set := func(name string, to *string) {
		if x.IsSet(name) {
			*to = x.String(name)
		}
	}
	set("ca-sha256", &c.Node.CASHA256)
	set("name", &c.Node.Name)
	set("listen", &c.Node.Listen)
	set("driver", &c.Node.Driver)
	set("find", &c.Node.Find)
	if x.IsSet("director") {
		c.Node.Director = x.StringSlice("director")
	}
	return c, c.Check()
}

func (p *Program) runNode(ctx context.Context, c *config.Config) error {
	if err := makeDataDir(c.DataDir); err != nil {
		return err
	}
	own, err := logfile.Open(filepath.Join(c.DataDir, "log", "node.log"), logfile.MaxBytes)
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		return err
	}
	log := own.Logger(nil, level)
	images, err := imagebuild.New(imagebuild.Config{Dir: filepath.Join(c.DataDir, "images"), Log: log})
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	open := func(installation string) (cloud.Driver, error) {
		dir := filepath.Join(c.DataDir, "clouds", "node")
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, err
		}
		d, err := p.Clouds.Open(c.Node.Driver, cloud.Config{Name: "node", Installation: installation, Dir: dir, Binary: binary, Ports: nil, Log: log.With("cloud", c.Node.Driver)})
		if err != nil {
			return nil, &api.Error{Code: api.CodeInvalid, Op: "open", Object: "cloud " + c.Node.Driver, Err: err, Hint: "mend node.driver in the configuration"}
		}
		return d, nil
	}
	var turned atomic.Int64 // of the clock that only goes forward
	began := time.Now()
	turn := func() { turned.Store(int64(time.Since(began))) }
	if err := notify("READY=1"); err != nil {
		log.Warn("systemd not told that this node works", "error", err)
	}
	go watched(ctx, func(context.Context) error {
		if silent := time.Since(began) - time.Duration(turned.Load()); silent > nodeHangs {
			return fmt.Errorf("the node has done nothing for %v", silent)
		}
		return nil
	})
	go func() {
		if err := letGo(ctx); err != nil {
			log.Warn("memory of the start not given back", "error", err)
		}
	}()
	return node.Run(ctx, node.Config{Dir: filepath.Join(c.DataDir, "node"), Runtime: os.Getenv("RUNTIME_DIRECTORY"), Directors: c.Node.Director, CASHA256: c.Node.CASHA256, Name: c.Node.Name, Listen: c.Node.Listen, Find: c.Node.Find,
		Disk: c.DataDir, Version: build.Version(), Driver: open, Layers: images, SetClock: setClock, Now: time.Now, Turn: turn, Log: log, Say: p.Stdout})
}

// setClock sets the clock of this machine, which is for root. In a container
// it fails, and the node goes on by what the director says.
func setClock(to time.Time) error {
	ts := unix.NsecToTimespec(to.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return &fs.PathError{Op: "set", Path: "clock", Err: err}
	}
	return nil
}

// nodesOf says how the director takes nodes in. One that only this machine
// reaches does not answer those that look for one.
func nodesOf(c *config.Config) director.NodesConfig {
	n := director.NodesConfig{}
	n.Subnets, _ = netip.ParsePrefix(c.Nodes.Subnets) // checked when it was read
	for _, address := range c.Listen {
		host, _, err := net.SplitHostPort(address)
		if ip := net.ParseIP(host); err == nil && c.Nodes.Find && (ip == nil || !ip.IsLoopback()) && host != "localhost" {
			n.Find = net.JoinHostPort("0.0.0.0", strconv.Itoa(api.FindPort))
		}
	}
	return n
}
