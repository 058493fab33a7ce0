package roles

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"nutshell/cloud"
	"nutshell/imagebuild"
	"nutshell/roles/api"
	"nutshell/roles/director"
	"nutshell/roles/internal/config"
)

const configFlag = "config"

// settingFlags are one flag per key of the configuration.
func settingFlags() []cli.Flag {
	flags := []cli.Flag{&cli.PathFlag{Name: configFlag, Usage: "read this file or directory instead of the usual ones"}}
	defaults, err := config.Load(config.Sources{})
	if err != nil {
		panic("roles: the built-in defaults are wrong: " + err.Error())
	}
	for _, e := range defaults.Show() {
		if strings.HasPrefix(e.Key, "client.") || strings.HasPrefix(e.Key, "node.") || e.Key == "clouds" {
			continue // the client's options have flags of their own; clouds have too many fields for one
		}
		usage := e.Help
		if e.Value != "" {
			usage += " (default " + e.Value + ")"
		}
		if e.List {
			flags = append(flags, &cli.StringSliceFlag{Name: config.Flag(e.Key), Usage: usage})
		} else {
			flags = append(flags, &cli.StringFlag{Name: config.Flag(e.Key), Usage: usage})
		}
	}
	return flags
}

// loadSettings reads the configuration, flags strongest.
func loadSettings(x *cli.Context) (*config.Config, error) {
	sources, err := config.Standard(os.Geteuid(), os.Environ())
	if err != nil {
		return nil, err
	}
	if path := x.Path(configFlag); path != "" {
		sources.Files = []string{path}
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			if sources.Files, err = config.FilesIn(path); err != nil {
				return nil, err
			}
		}
	}
	sources.Flags = map[string]string{}
	defaults, err := config.Load(config.Sources{})
	if err != nil {
		return nil, err
	}
	for _, e := range defaults.Show() {
		name := config.Flag(e.Key)
		switch {
		case !x.IsSet(name) || strings.HasPrefix(e.Key, "client."):
		case e.List: // --name a --name b is --name a,b
			sources.Flags[e.Key] = strings.Join(x.StringSlice(name), ",")
		default:
			sources.Flags[e.Key] = x.String(name)
		}
	}
	c, err := config.Load(sources)
	if err != nil || c.DataDir == "" {
		return c, err
	}
	c.DataDir, err = filepath.Abs(c.DataDir)
	return c, err
}

// makeDataDir makes the data directory. Instances run below it under other
// accounts, who may pass but not look.
func makeDataDir(dir string) error {
	err := os.MkdirAll(dir, 0o711)
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		return &api.Error{Code: api.CodeUnavailable, Op: "make", Object: "data directory " + dir, Err: err, Hint: "choose another by --data-dir"}
	}
	if os.Geteuid() != 0 {
		return nil // everything runs under our own account
	}
	for up := filepath.Dir(dir); up != "/"; up = filepath.Dir(up) {
		if st, err := os.Stat(up); err == nil && st.Mode()&0o001 == 0 {
			return &api.Error{Code: api.CodeInvalid, Op: "use", Object: "data directory " + dir, Message: "the daemons of instances run under other accounts, which may not pass " + up,
				Hint: "choose another by --data-dir, or chmod o+x " + up}
		}
	}
	return nil
}

// configCommand shows the configuration.
func (p *Program) configCommand() *cli.Command {
	show := &cli.Command{Name: "show", Usage: "print each effective value and where it came from", Flags: settingFlags(),
		Description: "Weakest first: built-in default, /etc/nutshell/nutshell.yaml and nutshell.d/*.yaml (~/.config/nutshell for\nan ordinary user), NUTSHELL_… in the environment, flags.\n\nExample: nutshell config show -o json",
		Action: func(x *cli.Context) error {
			c, err := loadSettings(x)
			if err != nil {
				return err
			}
			return p.printEntries(x.String("output"), c.Show())
		}}
	return &cli.Command{Name: "config", Usage: "the configuration of this machine", Category: "this machine", Subcommands: []*cli.Command{show}, HideHelpCommand: true}
}

func (p *Program) printEntries(format string, entries []config.Entry) error {
	if handled, err := p.printData(format, entries); handled {
		return err
	}
	width := 0
	for _, e := range entries {
		width = max(width, len(e.Key))
	}
	for _, e := range entries {
		value := e.Value
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(p.Stdout, "%-*s  %-24s  # %s\n", width, e.Key, value, e.Origin)
	}
	return nil
}

// printData prints for programs; a table is the caller's.
func (p *Program) printData(format string, data any) (handled bool, err error) {
	switch format {
	case "json":
		e := json.NewEncoder(p.Stdout)
		e.SetIndent("", "  ")
		return true, e.Encode(data)
	case "yaml":
		return true, yaml.NewEncoder(p.Stdout).Encode(data)
	}
	return false, nil
}

// newDirector makes the director that the configuration describes.
func (p *Program) newDirector(ctx context.Context, c *config.Config, log *slog.Logger) (*director.Director, []director.CloudConfig, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	dir := c.DataDir
	clouds, err := p.chooseClouds(ctx, c, dir, binary, log)
	if err != nil {
		return nil, nil, err
	}
	images, err := imagebuild.New(imagebuild.Config{Dir: filepath.Join(dir, "images"), Log: log, Suite: suiteOf(c), Mirror: c.Image.Mirror})
	if err != nil {
		return nil, nil, err
	}
	d, err := director.New(ctx, director.Config{Dir: dir, Listen: c.Listen, Names: c.Name, Clouds: clouds, DefaultCloud: c.DefaultCloud, Drivers: &p.Clouds, Services: &p.Services,
		Nodes:  nodesOf(c),
		Layers: layersOf(images), Layer: images.Export, Package: packagesOf(images), FetchPrivate: c.Manifests.FetchPrivate, UI: p.UI, Binary: binary, Now: time.Now, Log: log, Metrics: director.MetricsConfig{Retention: c.Metrics.Retention, MaxBytes: int64(c.Metrics.MaxBytes)},
		Git:      gitConfig(c),
		Keep:     director.KeepConfig{Bin: c.Bin.Keep, Audit: c.History.Audit, Operations: c.History.Operations},
		Settings: c.Show(),
		Credit:   director.CreditConfig{Enforce: c.Credit.Enforce, Quota: api.Quota{Applications: c.Quota.Applications, Instances: c.Quota.Instances, VolumeBytes: int64(c.Quota.VolumeBytes)}},
		Edge:     edgeOf(c.Edge),
		Limits: director.Limits{ManagerMemory: int64(c.Limits.ManagerMemory), AgentMemory: int64(c.Limits.AgentMemory), AgentCPU: c.Limits.AgentCPU, Processes: c.Limits.AgentProcesses,
			Instances: c.Limits.InstancesPerApplication, Upload: int64(c.Upload.MaxBytes)}})
	return d, clouds, err
}

// layersOf gives the layers of an architecture, those of an older recipe where
// nothing newer can be had.
func layersOf(images *imagebuild.Store) func(ctx context.Context, arch, kind string, packages, extra []string, progress func(step string, fraction float64)) ([]string, string, error) {
	debian := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}
	return func(ctx context.Context, arch, kind string, packages, extra []string, progress func(step string, fraction float64)) ([]string, string, error) {
		dirs, older, err := images.For(cmp.Or(debian[arch], arch)).LayersOrOlder(ctx, kind, packages, extra, progress)
		if older != nil {
			return dirs, older.String(), err
		}
		return dirs, "", err
	}
}

// packagesOf makes code of Debian packages where this machine has apt.
func packagesOf(images *imagebuild.Store) func(ctx context.Context, name string, layered bool, progress func(step string, fraction float64)) (string, error) {
	if images.PackageTools() != nil {
		return nil
	}
	return images.PackageArchive
}

// gitConfig puts the git server beside the API, unless somebody chose. Where
// nobody did, another program that has the port is no reason not to start.
func gitConfig(c *config.Config) director.GitConfig {
	g := director.GitConfig{Push: int64(c.Git.MaxPushBytes), File: int64(c.Git.MaxFileBytes), Repository: int64(c.Git.MaxRepositoryBytes)}
	switch {
	case len(c.Git.Listen) == 0:
		g.Optional = true
		for _, address := range c.Listen {
			if host, _, err := net.SplitHostPort(address); err == nil {
				g.Listen = append(g.Listen, net.JoinHostPort(host, strconv.Itoa(director.GitPort)))
			}
		}
	case c.Git.Listen[0] != "none":
		g.Listen = c.Git.Listen
	}
	return g
}

func edgeOf(e config.Edge) director.EdgeConfig {
	return director.EdgeConfig{HTTPS: e.HTTPS, HTTP: e.HTTP, Domain: e.Domain, Chain: e.Chain, Key: e.Key, Trusted: e.Trusted, HSTS: e.HSTS,
		MaxConnections: e.MaxConnections, ACMEDirectory: e.ACMEDirectory, ACMEEmail: e.ACMEEmail, ACMECA: e.ACMECA}
}

// suiteOf leaves the choice to the image store unless somebody chose.
func suiteOf(c *config.Config) string {
	if c.Origin("image.suite") == "default" {
		return ""
	}
	return c.Image.Suite
}

// chooseClouds takes the configured clouds, or the local cloud that works
// here: containers for root, processes otherwise.
func (p *Program) chooseClouds(ctx context.Context, c *config.Config, dir, binary string, log *slog.Logger) ([]director.CloudConfig, error) {
	var list []director.CloudConfig
	for _, k := range c.Clouds {
		list = append(list, director.CloudConfig{Name: k.Name, Driver: k.Driver, Options: k.Options})
	}
	if len(list) > 0 {
		return list, nil
	}
	driver := "process"
	if runtime.GOOS == "linux" && os.Geteuid() == 0 {
		err := p.checkDriver(ctx, "lxc", dir, binary, log)
		if err == nil {
			driver = "lxc"
		} else {
			fmt.Fprintln(p.Stderr, "containers cannot be used here, so instances are plain processes without isolation:", err)
		}
	}
	return []director.CloudConfig{{Name: "default", Driver: driver}}, nil
}

func (p *Program) checkDriver(ctx context.Context, name, dir, binary string, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	probe, err := os.MkdirTemp(dir, "check-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(probe) }()
	d, err := p.Clouds.Open(name, cloud.Config{Name: "check", Installation: "check000", Dir: probe, Binary: binary, Log: log})
	if err != nil {
		return err
	}
	return errors.Join(d.Check(ctx), closeDriver(ctx, d))
}

func closeDriver(ctx context.Context, d cloud.Driver) error {
	if c, ok := d.(cloud.Closer); ok {
		return c.Close(ctx)
	}
	return nil
}
