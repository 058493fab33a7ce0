package roles

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"nutshell/appliance"
	"nutshell/appliance/machine"
	"nutshell/roles/api"
	"nutshell/roles/internal/config"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// applianceCommand looks after a machine that was made from one of our images.
func (p *Program) applianceCommand() *cli.Command {
	show := &cli.Command{Name: "show", Usage: "what this machine is, and where it is reached", Flags: []cli.Flag{outputFlag()}, Action: func(x *cli.Context) error {
		f, err := p.machine().Facts()
		if err != nil {
			return err
		}
		if handled, err := p.printData(x.String("output"), f); handled {
			return err
		}
		fmt.Fprintf(p.Stdout, "profile   %s\n", f.Profile)
		if f.Network != nil {
			p.printNetwork(*f.Network)
		}
		return nil
	}}
	upgrade := &cli.Command{Name: "upgrade", Usage: "put another Nutshell in place of the running one; goes back by itself if that does not answer", ArgsUsage: "FILE",
		Description: "Checks that FILE is a Nutshell for this machine and that it starts, saves the database, changes the binary,\nstarts it, and waits until it answers. If it does not, or when the machine loses its power meanwhile, the old\nbinary and the old database come back.\n\nExample: nutshell appliance upgrade /tmp/nutshell",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "undo", Hidden: true, Usage: "go back from one that was broken off, before anything runs; a unit does it"},
			&cli.BoolFlag{Name: "settle", Hidden: true, Usage: "wait for one that goes on, and end it if its process was killed; a unit does it"}},
		Action: func(x *cli.Context) error {
			if x.Bool("undo") {
				if err := needRoot("undo an upgrade"); err != nil {
					return err
				}
				return p.machine().UndoUpgrade()
			}
			if x.Bool("settle") {
				if err := needRoot("end an upgrade"); err != nil {
					return err
				}
				return p.machine().SettleUpgrade(x.Context)
			}
			if x.NArg() != 1 {
				return &api.Error{Code: api.CodeInvalid, Op: "upgrade", Message: "one file is needed", Hint: "nutshell appliance upgrade FILE"}
			}
			if err := needRoot("upgrade this machine"); err != nil {
				return err
			}
			signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE) // the way to this terminal may end with the director
			return p.machine().Upgrade(x.Context, x.Args().First())
		}}
	kernel := &cli.Command{Name: "kernel", Usage: "make a kernel the one that starts, and keep the present one as the second choice", ArgsUsage: "RELEASE", Hidden: true,
		Description: "Debian's package of a kernel calls this. A kernel that does not start, or under which the director does not\nanswer, is left by the next start.\n\nExample: nutshell appliance kernel 6.12.90+deb13-amd64",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "settle", Hidden: true, Usage: "say whether the kernel on trial works; a unit does it"}},
		Action: func(x *cli.Context) error {
			if err := needRoot("change the kernel"); err != nil {
				return err
			}
			if !x.Bool("settle") {
				return p.machine().InstallKernel(x.Context, x.Args().First())
			}
			running, err := os.ReadFile("/proc/sys/kernel/osrelease")
			if err != nil {
				return err
			}
			return p.machine().SettleKernel(x.Context, strings.TrimSpace(string(running)))
		}}
	return &cli.Command{Name: "appliance", Usage: "this machine, when it was made from a Nutshell image: addresses, upgrade", Category: "this machine", HideHelpCommand: true,
		Subcommands: []*cli.Command{show, p.networkCommand(), upgrade, kernel}}
}

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "table, json or yaml", Value: "table"}
}

// machine is the one this process runs on.
func (p *Program) machine() *machine.Machine {
	return &machine.Machine{Root: "/", Health: localHealth, Clash: machine.Clash, Say: func(format string, args ...any) { fmt.Fprintf(p.Stderr, "  "+format+"\n", args...) }}
}

func (p *Program) printNetwork(n appliance.Network) {
	fmt.Fprintf(p.Stdout, "address   %s on %s\n", n.Address, n.Interface)
	if n.Gateway.IsValid() {
		fmt.Fprintf(p.Stdout, "gateway   %s\n", n.Gateway)
	}
	fmt.Fprintf(p.Stdout, "instances %s-%s\ncontainers %s\n", n.First, n.Last, n.Containers)
}

func needRoot(op string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &api.Error{Code: api.CodeForbidden, Op: op, Message: "only root may", Hint: "sudo nutshell …"}
}

// clientFile is what the director writes for the command line of its account.
type clientFile struct {
	URL   string `yaml:"url"`
	CA    string `yaml:"ca_sha256"`
	Token string `yaml:"token"`
}

func readClientFile(dataDir string) (c clientFile, err error) {
	b, err := os.ReadFile(filepath.Join(dataDir, "client.yaml"))
	if err != nil {
		return c, err
	}
	if err := yaml.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read client.yaml: %w", err)
	}
	return c, nil
}

// localClient signs in with the file that the director writes for this account.
func localClient(dataDir string) (*rpc.Client, error) {
	c, err := readClientFile(dataDir)
	if err != nil {
		return nil, err
	}
	client := rpc.NewClient(c.URL, pki.PinnedTLS(c.CA))
	client.HTTP.Transport = bearer{token: c.Token, next: client.HTTP.Transport}
	return client, nil
}

// standardDataDir is where the director of this machine keeps everything.
func standardDataDir() (string, error) {
	sources, err := config.Standard(os.Geteuid(), os.Environ())
	if err != nil {
		return "", err
	}
	c, err := config.Load(sources)
	if err != nil {
		return "", err
	}
	return c.DataDir, nil
}

// localHealth asks this machine's director whether it is there. The file with
// its address may be new since the last time.
func localHealth(ctx context.Context) error {
	dir, err := standardDataDir()
	if err != nil {
		return err
	}
	c, err := localClient(dir)
	if err != nil {
		return err
	}
	defer c.HTTP.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	return c.Do(ctx, http.MethodGet, "/api/v1/health", nil, nil)
}
