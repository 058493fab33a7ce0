package roles

import (
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"nutshell/roles/node/card"
)

// roleCard is what a Raspberry Pi does at each start before it is a node. Its
// unit starts it; people do not.
const roleCard = "card"

func (p *Program) cardCommand() *cli.Command {
	return &cli.Command{Name: roleCard, Usage: "prepare this machine by the settings on its SD card", Action: func(x *cli.Context) error {
		return card.Prepare(x.Context, card.Config{Boot: "/boot/firmware", Run: "/run", Keep: "/var/lib/nutshell/card-address", Say: p.Stdout,
			Host: func(name string) error { return unix.Sethostname([]byte(name)) }})
	}}
}
