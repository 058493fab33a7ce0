package roles

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/services"
)

// roleTool is a daemon of a service kind that is this program itself. Agents
// start it; people do not.
const roleTool = "tool"

const reloadEvery = 5 * time.Second // the agent renews the instance's certificate, and those of others do not believe an old one for ever

// toolCommand is how an agent starts a tool in its instance.
func toolCommand(self, dir string) []string {
	return []string{self, "--role", roleTool, "--" + dirFlag, dir}
}

func (p *Program) toolCommand() *cli.Command {
	return &cli.Command{Name: roleTool, Usage: "a daemon of a service kind, started by an agent", ArgsUsage: "KIND/NAME [ARGUMENT…]", Flags: instanceFlags(), Action: func(x *cli.Context) error {
		tool, err := p.tool(x.Args().First())
		if err != nil {
			return err
		}
		dir := filepath.Join(x.Path(dirFlag), "identity")
		c, err := pki.Load(dir, time.Now)
		if err != nil {
			return err
		}
		c.Wait()
		log := slog.New(slog.NewTextHandler(p.Stderr, nil))
		go reloadCredentials(x.Context, c, dir, log)
		id := c.Identity()
		accept := pki.AgentsOf(id.Application, id.Service)
		files := func(n int) *os.File { return os.NewFile(uintptr(3+n), fmt.Sprintf("socket %d", n)) } // n is small
		return tool(x.Context, services.ToolHost{Args: x.Args().Tail(), Log: log, Files: files,
			Server: pki.ServerTLS(c, accept), Client: pki.ClientTLS(c, accept)})
	}}
}

func (p *Program) tool(name string) (services.Tool, error) {
	kind, tool, _ := strings.Cut(name, "/")
	k, err := p.Services.Get(kind)
	if err != nil {
		return nil, err
	}
	t, ok := k.Tools[tool]
	if !ok {
		return nil, &api.Error{Code: api.CodeInvalid, Object: "tool " + api.Shorten(name), Message: "there is no such tool"}
	}
	return t, nil
}

func reloadCredentials(ctx context.Context, c *pki.Credentials, dir string, log *slog.Logger) {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.Reload(dir); err != nil {
			log.Warn("certificate not read again", "error", err)
		}
	}
}
