package roles

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"nutshell/appliance"
	"nutshell/appliance/machine"
	"nutshell/roles/api"
	"nutshell/roles/internal/config"
)

// networkCommand shows and changes an appliance's addresses.
func (p *Program) networkCommand() *cli.Command {
	set := &cli.Command{Name: "set", Usage: "give this machine and its instances other addresses; they go back unless confirmed within 60 s",
		Description: "Options that are left out keep their value. What would overlap with another network of this machine is refused.\n" +
			"Afterwards, reach the machine at its new address and say `nutshell appliance network confirm`, there or at\nits console. Without that, or when it is switched off before, everything is as it was.\n\n" +
			"Example: nutshell appliance network set --address 192.168.60.2/24 --range 192.168.60.10-192.168.60.99",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "address", Usage: "of this machine, with the length of its network, such as 192.168.60.2/24"},
			&cli.StringFlag{Name: "range", Usage: "of the instances, such as 192.168.60.10-192.168.60.99"},
			&cli.StringFlag{Name: "interface", Usage: "on which both are"},
			&cli.StringFlag{Name: "gateway", Usage: "router of this network, where it leads to the Internet; none takes it away"},
			&cli.StringFlag{Name: "dns", Usage: "name servers, with commas between"},
			&cli.StringFlag{Name: "containers", Usage: "network behind this machine, such as 10.200.0.0/16"},
			&cli.StringFlag{Name: "name", Usage: "host names under which people reach it, with commas between"},
		},
		Action: func(x *cli.Context) error {
			if err := needRoot("change addresses"); err != nil {
				return err
			}
			m := p.machine()
			f, err := m.Facts()
			if err != nil {
				return err
			}
			if f.Network == nil {
				return m.SetNetwork(x.Context, appliance.Network{}, nil) // it says why not
			}
			n, err := changedNetwork(*f.Network, x.String)
			if err != nil {
				return err
			}
			return p.setNetwork(x, m, n)
		}}
	show := &cli.Command{Name: "show", Usage: "the addresses, and whether a change waits to be confirmed", Flags: []cli.Flag{outputFlag()}, Action: func(x *cli.Context) error {
		m := p.machine()
		f, err := m.Facts()
		if err != nil {
			return err
		}
		if handled, err := p.printData(x.String("output"), f.Network); handled {
			return err
		}
		if f.Network != nil {
			p.printNetwork(*f.Network)
		}
		old, pending, err := m.Pending()
		switch {
		case errors.Is(err, fs.ErrPermission):
			fmt.Fprintln(p.Stderr, "Whether a change waits to be confirmed only root can see: sudo nutshell appliance network show")
			return nil
		case pending:
			fmt.Fprintf(p.Stdout, "not confirmed yet; otherwise it goes back to %s\n", old)
		}
		return err
	}}
	confirm := &cli.Command{Name: "confirm", Usage: "keep the addresses that were set", Action: func(x *cli.Context) error {
		if err := needRoot("confirm addresses"); err != nil {
			return err
		}
		return p.machine().Confirm(x.Context)
	}}
	revert := &cli.Command{Name: "revert", Usage: "go back to the addresses before the last change, while it is not confirmed",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "boot", Hidden: true, Usage: "change files only: nothing has read them yet"}}, Action: func(x *cli.Context) error {
			if err := needRoot("change addresses"); err != nil {
				return err
			}
			return p.machine().Revert(x.Context, !x.Bool("boot"))
		}}
	return &cli.Command{Name: "network", Usage: "addresses of this machine and its instances", HideHelpCommand: true, Subcommands: []*cli.Command{show, set, confirm, revert}}
}

// setNetwork changes the addresses, also when the terminal that asked for it
// goes away with the old ones.
func (p *Program) setNetwork(x *cli.Context, m *machine.Machine, n appliance.Network) error {
	used, err := machine.Used(n.Interface)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	return m.SetNetwork(x.Context, n, used)
}

// changedNetwork is n with what value says; a name without a value stays.
func changedNetwork(n appliance.Network, value func(name string) string) (appliance.Network, error) {
	wrong := func(name string, err error) error {
		return &api.Error{Code: api.CodeInvalid, Op: "read", Object: "--" + name + " " + api.Shorten(value(name)), Err: err, Hint: "nutshell appliance network set --help has examples"}
	}
	var err error
	if v := value("interface"); v != "" {
		n.Interface = v
		if _, e := os.Stat("/sys/class/net/" + v); e != nil || strings.ContainsAny(v, "/.") {
			return n, &api.Error{Code: api.CodeNotFound, Op: "use", Object: "interface " + api.Shorten(v), Message: "this machine has none of that name", Hint: "`ip link` shows them"}
		}
	}
	if v := value("address"); v != "" {
		if n.Address, err = netip.ParsePrefix(v); err != nil {
			return n, wrong("address", err)
		}
	}
	if v := value("range"); v != "" {
		first, last, _ := strings.Cut(v, "-")
		if n.First, err = netip.ParseAddr(strings.TrimSpace(first)); err != nil {
			return n, wrong("range", err)
		}
		if n.Last, err = netip.ParseAddr(strings.TrimSpace(last)); err != nil {
			return n, wrong("range", err)
		}
	}
	switch v := value("gateway"); v {
	case "":
	case "none":
		n.Gateway = netip.Addr{}
	default:
		if n.Gateway, err = netip.ParseAddr(v); err != nil {
			return n, wrong("gateway", err)
		}
	}
	if v := value("containers"); v != "" {
		if n.Containers, err = netip.ParsePrefix(v); err != nil {
			return n, wrong("containers", err)
		}
	}
	if v := value("dns"); v != "" {
		n.Servers = nil
		for s := range strings.SplitSeq(v, ",") {
			a, err := netip.ParseAddr(strings.TrimSpace(s))
			if err != nil {
				return n, wrong("dns", err)
			}
			n.Servers = append(n.Servers, a)
		}
	}
	if v := value("name"); v != "" {
		c, err := config.Load(config.Sources{Flags: map[string]string{"name": v}}) // the same rules as for the file that it goes into
		if err != nil {
			return n, wrong("name", err)
		}
		n.Names = c.Name
	}
	return n, nil
}
