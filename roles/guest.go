package roles

import (
	"context"
	"log/slog"
	"os/exec"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"nutshell/appliance"
	"nutshell/roles/guest"
)

// roleGuest makes a machine what its cloud says it is. Its unit starts it;
// people do not.
const roleGuest = "guest"

func (p *Program) guestCommand() *cli.Command {
	return &cli.Command{Name: roleGuest, Usage: "give this machine the name, keys and addresses that its cloud says, and its whole disk", Action: func(x *cli.Context) error {
		log := slog.New(slog.NewTextHandler(p.Stderr, nil))
		said := map[string]string{}
		c := guest.Config{Root: "/", Finder: cloudFinder(func(where string, err error) {
			if said[where] != err.Error() {
				log.Info("nothing of this machine here", "where", where, "error", err)
			}
			said[where] = err.Error()
		}), Grow: guest.GrowRoot, Log: log, Host: func(name string) error { return unix.Sethostname([]byte(name)) },
			Ready: func() {
				if err := notify("READY=1"); err != nil {
					log.Warn("systemd was not told", "error", err)
				}
			}}
		if f, err := p.machine().Facts(); err != nil || f.Profile != appliance.Instance {
			c.Reload = func(ctx context.Context) error { return exec.CommandContext(ctx, "networkctl", "reload").Run() }
			if !guest.InCloud("/") {
				c.Finder.Metadata = ""
			}
		}
		return guest.Prepare(x.Context, c)
	}}
}
