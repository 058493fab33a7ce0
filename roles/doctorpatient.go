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
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"nutshell/appliance"
	"nutshell/cloud"
	"nutshell/imagebuild"
	"nutshell/roles/api"
	"nutshell/roles/client"
	"nutshell/roles/doctor"
	"nutshell/roles/internal/build"
	"nutshell/roles/internal/config"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/store"
)

// subject finds out what this machine is, unless somebody says it.
func (p *Program) subject(said string, c *config.Config) (doctor.Subject, error) {
	if said != "" {
		if s := doctor.Subject(said); slices.Contains(doctor.Subjects(), s) {
			return s, nil
		}
		return "", &api.Error{Code: api.CodeInvalid, Object: "--for " + api.Shorten(said), Message: "there is no such machine", Hint: "director, client, node or instance"}
	}
	var facts appliance.Facts
	if b, err := os.ReadFile(appliance.FactsPath); err == nil && json.Unmarshal(b, &facts) == nil && facts.Profile == appliance.Node {
		return doctor.Node, nil
	}
	there := func(name string) bool { _, err := os.Stat(filepath.Join(c.DataDir, name)); return err == nil }
	switch {
	case there("nutshell.db"):
		return doctor.Director, nil
	case there("identity"):
		return doctor.Instance, nil
	case there("node"):
		return doctor.Node, nil
	}
	if sign, err := client.Known(client.Options{Getenv: besides(c.DataDir)}); err == nil && sign != "" && !strings.HasPrefix(sign, c.DataDir) {
		return doctor.Client, nil
	}
	return doctor.Director, nil
}

// patient puts together what the checks look at.
func (p *Program) patient(x *cli.Context, c *config.Config, of doctor.Subject) *doctor.Patient {
	d := &doctor.Patient{Euid: os.Geteuid(), Now: time.Now, DataDir: c.DataDir, Running: store.Owner(c.DataDir), Mirror: c.Image.Mirror, Subnets: subnets(c),
		EdgeChain: c.Edge.Chain, EdgeKey: c.Edge.Key, Kinds: map[string][]string{}, SecretFiles: secretFiles(c),
		Clouds: map[string]func(context.Context) error{}, Fallback: map[string]string{},
		Database: func(ctx context.Context, dir string) error {
			err := store.Examine(ctx, dir)
			if errors.Is(err, store.ErrUnclean) {
				return errors.Join(doctor.ErrBusy, err)
			}
			return err
		},
		Ask:    func(ctx context.Context) (doctor.Answer, error) { return p.ask(ctx, c.DataDir) },
		Unit:   unitState,
		Listen: tryListen, Firewall: doctor.HasTables, Kept: doctor.ClockKept,
		Statfs: func(path string) (s unix.Statfs_t, err error) { return s, unix.Statfs(path, &s) },
		Lookup: func(ctx context.Context, host string) error {
			_, err := net.DefaultResolver.LookupHost(ctx, host)
			return err
		},
		Program: hasProgram, Run: doctor.RunCommand,
		Nested: func(ctx context.Context) error {
			return doctor.RunCommand(ctx, "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc", "true")
		},
		Helper: func() error {
			if p.Helper == nil {
				return errors.New("this nutshell was built without the lxc helper")
			}
			if _, there := p.Helper(); !there {
				return errors.New("this nutshell was built without the lxc helper")
			}
			return nil
		},
	}
	own := build.Recorded()
	d.Built, _ = time.Parse(time.RFC3339, own.Time)
	for _, k := range p.Services.Kinds() {
		d.Kinds[k.Name] = k.Packages
	}
	ask := d.Ask
	d.Ask = func(ctx context.Context) (doctor.Answer, error) {
		a, err := ask(ctx)
		a.Own = named(own.Version, own.Commit)
		return a, err
	}
	d.Layers = func() ([]string, string, error) { return p.missingLayers(c) }
	switch of { //nolint:exhaustive // a client has none of these
	case doctor.Instance, doctor.Node:
		dir := filepath.Join(c.DataDir, map[doctor.Subject]string{doctor.Instance: "identity", doctor.Node: "node"}[of])
		d.Identity = func() (string, time.Time, error) {
			id, err := pki.Load(dir, time.Now)
			if err != nil {
				return "", time.Time{}, err
			}
			return id.Identity().String(), id.NotAfter(), nil
		}
		d.Ask = nil // instances and nodes have no sign-in: their certificate says whether the director renews it
		if of == doctor.Node {
			p.cloudsOf(c, d, []config.Cloud{{Name: "node", Driver: c.Node.Driver}})
		}
	case doctor.Director:
		p.clouds(c, d)
		d.Ports = ports(c)
	}
	return d
}

// clouds says what instances are and how each cloud is checked.
func (p *Program) clouds(c *config.Config, d *doctor.Patient) {
	list := c.Clouds
	if len(list) == 0 {
		list = []config.Cloud{{Name: "default", Driver: "process"}}
		if d.Euid == 0 {
			list[0].Driver = "lxc"
			d.Fallback["default"] = "instances would be plain processes without isolation"
		}
	}
	p.cloudsOf(c, d, list)
}

func (p *Program) cloudsOf(c *config.Config, d *doctor.Patient, list []config.Cloud) {
	for _, k := range list {
		d.Containers = d.Containers || k.Driver == "lxc" || k.Driver == "nodes"
		d.Processes = d.Processes || k.Driver == "process"
		d.Clouds[k.Name] = func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, driverDeadline)
			defer cancel()
			return p.tryCloud(ctx, c, k)
		}
	}
}

// tryCloud opens a driver in a directory of its own and lets it check itself.
func (p *Program) tryCloud(ctx context.Context, c *config.Config, k config.Cloud) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	up := c.DataDir
	for ; up != "/"; up = filepath.Dir(up) { // it is not made for this
		if _, err := os.Stat(up); err == nil {
			break
		}
	}
	dir, err := os.MkdirTemp(up, ".doctor-*")
	if err != nil {
		return fmt.Errorf("%w: it needs a data directory that can be written", doctor.ErrBusy)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	options := map[string]string{}
	for name, value := range k.Options {
		if name != "subnet" { // the running director has it; overlaps are a check of their own
			options[name] = value
		}
	}
	driver, err := p.Clouds.Open(k.Driver, cloud.Config{Name: k.Name, Installation: "doctor00", Dir: dir, Binary: binary, Options: options, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	err = driver.Check(ctx)
	return cmp.Or(err, closeDriver(context.WithoutCancel(ctx), driver)) // what follows from the first is not told besides
}

// missingLayers are the kinds whose layers are not built.
func (p *Program) missingLayers(c *config.Config) (missing []string, suite string, err error) {
	dir := filepath.Join(c.DataDir, "images")
	if _, e := os.Stat(dir); e == nil && unix.Access(dir, unix.W_OK) == nil {
		s, err := imagebuild.New(imagebuild.Config{Dir: dir, Log: slog.New(slog.DiscardHandler), Suite: suiteOf(c), Mirror: c.Image.Mirror})
		if err != nil {
			return nil, "", err
		}
		layers, err := s.List()
		if err != nil {
			return nil, "", err
		}
		have := map[string]bool{}
		for _, l := range layers {
			have[l.Digest], suite = true, l.Suite
		}
		for _, k := range p.Services.Kinds() {
			digests, older, err := s.Standing(k.Name, k.Packages)
			switch {
			case err != nil:
				return nil, "", err
			case older:
				missing = append(missing, k.Name+" (one by an older recipe stands in)")
			case len(digests) == 0 || slices.ContainsFunc(digests, func(d string) bool { return !have[d] }):
				missing = append(missing, k.Name)
			}
		}
		return missing, suite, nil
	}
	for _, k := range p.Services.Kinds() {
		missing = append(missing, k.Name)
	}
	return missing, "", nil
}

// ports are all addresses that a director listens on.
func ports(c *config.Config) (list []doctor.Port) {
	for _, a := range c.Listen {
		list = append(list, doctor.Port{Key: "listen", Address: a})
	}
	g := gitConfig(c)
	for _, a := range g.Listen {
		list = append(list, doctor.Port{Key: "git.listen", Address: a, Optional: g.Optional})
	}
	for _, e := range []doctor.Port{{Key: "edge.https", Address: c.Edge.HTTPS}, {Key: "edge.http", Address: c.Edge.HTTP}} {
		if e.Address != "" {
			list = append(list, e)
		}
	}
	return list
}

func tryListen(ctx context.Context, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// hasProgram looks in root's directories, too: an ordinary user's PATH leaves
// them out.
func hasProgram(name string) bool {
	if _, err := exec.LookPath(name); err == nil {
		return true
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// unitState asks systemd.
func unitState(ctx context.Context, unit string) string {
	cmd := exec.CommandContext(ctx, "systemctl", "show", "--property=ActiveState", "--value", unit)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// secretFiles are the configuration files with a value that is shown masked.
func secretFiles(c *config.Config) (files []string) {
	for _, e := range c.Show() {
		path, _, _ := strings.Cut(e.Origin, ":")
		if e.Value == config.Masked && filepath.IsAbs(path) && !slices.Contains(files, path) {
			files = append(files, path)
		}
	}
	return files
}
