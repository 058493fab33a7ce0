package roles

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/agent"
	"nutshell/roles/api"
	"nutshell/roles/internal/logfile"
	"nutshell/roles/join"
	"nutshell/roles/manager"
)

// Roles that people do not choose: the first process of an instance, and the
// process that becomes what its context says.
const (
	roleInit = "init"
	roleJoin = "join"
)

const (
	contextFlag = "context"
	dirFlag     = "dir"
)

func instanceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.PathFlag{Name: contextFlag, Value: "/etc/nutshell/context.json", Usage: "what the cloud told this instance; auto: wherever clouds leave it (disks, metadata service)"},
		&cli.PathFlag{Name: dirFlag, Value: "/var/lib/nutshell", Usage: "where it keeps its state"},
	}
}

// initCommand is the first process of an instance.
func (p *Program) initCommand() *cli.Command {
	return &cli.Command{Name: roleInit, Usage: "the first process of an instance", Flags: instanceFlags(), Action: func(x *cli.Context) error {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(p.Stderr, nil))
		return reap([]string{self, "--role", roleJoin, "--" + contextFlag, x.Path(contextFlag), "--" + dirFlag, x.Path(dirFlag)}, log)
	}}
}

// joinCommand is for machines whose image does not begin with our init.
func (p *Program) joinCommand() *cli.Command {
	c := p.instanceCommand("")
	c.Category = "roles"
	c.Description = "Reads the context, makes a key, has it certified by the director with the single-use secret,\nand becomes the manager or agent that the director wants.\n\nExample: nutshell join --context /media/context.json"
	return c
}

// instanceCommand joins and becomes what the context says; role, unless
// empty, is what that must be.
func (p *Program) instanceCommand(role string) *cli.Command {
	return &cli.Command{Name: roleJoin, Usage: "join a director as a manager or an agent", Flags: instanceFlags(), Action: func(x *cli.Context) error {
		err := p.runInstance(x.Context, role, x.Path(contextFlag), x.Path(dirFlag))
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if c := api.CodeOf(err); c == api.CodeInvalid || c == api.CodeForbidden || c == api.CodeUnauthorized {
			return cli.Exit("ERROR: "+err.Error(), exitFinal)
		}
		return err
	}}
}

func (p *Program) runInstance(ctx context.Context, role, contextFile, dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	file, err := logfile.Open(filepath.Join(dir, "log", "join.log"), logfile.MaxBytes)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if contextFile == contextAuto {
		if contextFile, err = findContext(ctx, dir, file.Logger(p.Stderr, slog.LevelInfo)); err != nil {
			return err
		}
	}
	joined, err := join.Run(ctx, join.Options{ContextFile: contextFile, Dir: filepath.Join(dir, "identity"), Log: file.Logger(p.Stderr, slog.LevelInfo), Now: time.Now})
	if err != nil {
		return err
	}
	id := joined.Identity
	if role != "" && string(id.Role) != role {
		return &api.Error{Code: api.CodeInvalid, Op: "be", Object: role, Message: "the context is for " + id.String()}
	}
	own, err := logfile.Open(filepath.Join(dir, "log", string(id.Role)+".log"), logfile.MaxBytes)
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	log := own.Logger(nil, slog.LevelInfo).With("instance", id.Name)
	renewing, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		if err := joined.Renew(renewing); err != nil && renewing.Err() == nil {
			log.Error("certificate not renewed any more", "error", err)
		}
	}()
	address := os.Getenv("NUTSHELL_ADDRESS") // of clouds on this machine
	if address == "" {
		if address, err = joined.Address(ctx); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	switch id.Role {
	case api.RoleManager:
		return manager.Run(ctx, manager.Config{Identity: id, Credentials: joined.Credentials, Director: joined.Director, Address: address, Dir: dir, Kinds: &p.Services, Log: log, Now: time.Now})
	case api.RoleAgent:
		return agent.Run(ctx, agent.Config{Identity: id, Credentials: joined.Credentials, Director: joined.Director, Address: address, Dir: dir, Volumes: os.Getenv("NUTSHELL_VOLUMES"), Sockets: os.Getenv("NUTSHELL_SOCKETS"), Kinds: &p.Services, Tool: toolCommand(self, dir), Log: log, Now: time.Now})
	default:
		return &api.Error{Code: api.CodeInvalid, Op: "join as", Object: id.String(), Message: "this role does not run in instances"}
	}
}
