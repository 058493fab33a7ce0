package roles

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"nutshell/roles/api"
	"nutshell/roles/director"
	"nutshell/roles/internal/config"
	"nutshell/roles/internal/logfile"
)

// haltTime bounds an orderly stop: instances get this long to stop their daemons.
const haltTime = 90 * time.Second

// upCommand is the director with this machine's own cloud, ready to use.
func (p *Program) upCommand() *cli.Command {
	return &cli.Command{Name: "up", Usage: "run everything on this machine: director, local cloud, web pages", Category: "this machine",
		Description: "Starts the director with the cloud of this machine: containers (LXC) for root, processes for an ordinary\n" +
			"user. Prints where to browse to and, at the first start, the password of the user admin. Ctrl-C stops\n" +
			"everything it started, in order, and keeps it all: the next start finds everything as it was.\n\n" +
			"Examples: nutshell up\n          nutshell up --data-dir ~/try --listen 127.0.0.1:7777",
		Flags: append(settingFlags(), &cli.PathFlag{Name: "demo", Usage: "deploy this archive of a PHP application, named as the file, unless it is there"},
			&cli.PathFlag{Name: passwordFlag, Usage: "write the password of the first start to this file instead of showing it"}),
		Action: func(x *cli.Context) error {
			c, err := loadSettings(x)
			if err != nil {
				return err
			}
			return p.up(x.Context, c, x.Path("demo"), x.Path(passwordFlag))
		}}
}

// progressLines prints what is being done: on a terminal in one line that
// changes, elsewhere a line for each step but none for its percents.
func progressLines(out io.Writer) func(format string, args ...any) {
	f, ok := out.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	last := ""
	return func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		step, _, _ := strings.Cut(line, " (")
		switch {
		case terminal && last != "" && step == last:
			fmt.Fprintf(out, "\033[A\r\033[K  %s\n", line)
		case step != last:
			fmt.Fprintf(out, "  %s\n", line)
		}
		last = step
	}
}

// directorCommand is the director alone: its instances outlive it.
func (p *Program) directorCommand() *cli.Command {
	return &cli.Command{Name: "director", Usage: "the API, the web pages, users, clouds and code", Flags: settingFlags(), Action: func(x *cli.Context) error {
		c, err := loadSettings(x)
		if err != nil {
			return err
		}
		return p.serve(x.Context, c, "", func(context.Context, *director.Director) error { return nil }, func(*director.Director) error { return nil })
	}}
}

func (p *Program) up(ctx context.Context, c *config.Config, demoFile, passwordFile string) error {
	if demoFile != "" {
		if _, err := os.Stat(demoFile); err != nil {
			return &api.Error{Code: api.CodeInvalid, Op: "deploy", Object: "demo", Err: err}
		}
	}
	ready := func(ctx context.Context, _ *director.Director) error {
		if demoFile == "" {
			return nil
		}
		d, err := newDemo(c.DataDir, demoFile, progressLines(p.Stdout))
		if err != nil {
			return err
		}
		fmt.Fprintf(p.Stdout, "\nDeploying %s …\n", d.name)
		began := time.Now()
		site, err := d.deploy(ctx)
		if err != nil {
			return fmt.Errorf("deploy %s: %w", d.name, err)
		}
		fmt.Fprintf(p.Stdout, "\n  %-10s %s   (answers, %s after it was asked for)\n", d.name, site, time.Since(began).Round(100*time.Millisecond))
		return nil
	}
	stop := func(d *director.Director) error { //nolint:contextcheck // what ends is ended in order; ctx is over by then
		fmt.Fprintln(p.Stdout, "\nStopping what was started; everything is kept for the next start …")
		ctx, cancel := context.WithTimeout(context.Background(), haltTime)
		defer cancel()
		return d.Shutdown(ctx)
	}
	return p.serve(ctx, c, passwordFile, ready, stop)
}

// serve runs a director until ctx ends. ready runs beside it once it answers;
// its error is told, and the director goes on. The password of the first start
// goes to passwordFile if there is one.
func (p *Program) serve(ctx context.Context, c *config.Config, passwordFile string, ready func(context.Context, *director.Director) error, stop func(*director.Director) error) (err error) {
	if err := makeDataDir(c.DataDir); err != nil {
		return err
	}
	log, closeLog, err := p.openLog(c)
	if err != nil {
		return err
	}
	defer closeLog()
	d, clouds, err := p.newDirector(ctx, c, log)
	if err != nil {
		return err
	}
	defer func() {
		if e := d.Close(); err == nil {
			err = e
		}
	}()
	password, err := writePassword(passwordFile, d.FirstPassword())
	if err != nil {
		return err
	}
	if d.FirstPassword() == "" {
		passwordFile = "" // one that is there is of the first start, and may have been changed since
	}
	l, err := d.Listen(ctx)
	if err != nil {
		p.keepPassword(c, password)
		return err
	}
	p.greet(c, l.Addresses()[0], d.GitAddresses(), clouds, password, passwordFile, d.CASHA256())
	if err := notify("READY=1"); err != nil {
		log.Warn("systemd not told that we are ready", "error", err)
	}
	go watched(ctx, answersAt(l.Addresses()[0], d.CASHA256()))
	told := make(chan struct{})
	go func() {
		defer close(told)
		if e := ready(ctx, d); e != nil && ctx.Err() == nil {
			fmt.Fprintln(p.Stderr, "ERROR:", e)
		} else if e == nil && !underSystemd() {
			fmt.Fprint(p.Stdout, "\nCtrl-C stops it.\n")
		}
	}()
	err = l.Serve(ctx)
	<-told
	if e := stop(d); err == nil {
		err = e
	}
	return err
}

// keepPassword shows the first password even where the start fails behind it:
// it is stored nowhere.
func (p *Program) keepPassword(c *config.Config, password string) {
	if password != "" {
		fmt.Fprintf(p.Stdout, "The user admin of %s was made with the password %s\n", c.DataDir, password)
	}
}

func (p *Program) greet(c *config.Config, address string, git []string, clouds []director.CloudConfig, password, passwordFile, ca string) {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			address = net.JoinHostPort(name, port)
		}
	}
	var kinds []string
	for _, k := range clouds {
		kinds = append(kinds, k.Name+" ("+k.Driver+")")
	}
	line := func(name, value string) { fmt.Fprintf(p.Stdout, "  %-10s %s\n", name, value) }
	fmt.Fprint(p.Stdout, "\nNutshell is ready.\n\n")
	line("browse", "https://"+address)
	line("user", "admin")
	switch {
	case passwordFile != "":
		line("password", "in "+passwordFile+"   (`nutshell user passwd` changes it)")
	case password != "":
		line("password", password+"   (shown this once; `nutshell user passwd` changes it)")
	default:
		line("password", "as shown at the first start (`nutshell user passwd admin` sets another)")
	}
	line("CA", "sha256:"+ca)
	if len(git) > 0 {
		at, port, err := net.SplitHostPort(git[0])
		if ip := net.ParseIP(at); err == nil && ip != nil && ip.IsUnspecified() {
			at, _, _ = net.SplitHostPort(address)
		}
		line("git", "ssh://git@"+net.JoinHostPort(at, port)+"/OWNER/APPLICATION   (`nutshell key add FILE.pub` first)")
	}
	if _, port, err := net.SplitHostPort(c.Edge.HTTPS); err == nil && c.Edge.Domain != "" {
		line("sites", "https://APPLICATION."+net.JoinHostPort(c.Edge.Domain, port)+"   (`nutshell site list`)")
	}
	line("cloud", strings.Join(kinds, ", "))
	line("data", c.DataDir)
	if host != "" && !net.ParseIP(host).IsLoopback() {
		line("note", "reachable from other machines; everybody who knows a password can start instances")
	}
	_, _ = fmt.Fprintln(p.Stdout)
}

// openLog logs to a file below the data directory that never fills the disk.
// Under systemd, warnings and worse go to its journal, too.
func (p *Program) openLog(c *config.Config) (*slog.Logger, func(), error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Log.Level)); err != nil {
		return nil, nil, &api.Error{Code: api.CodeInvalid, Object: "log.level", Err: err}
	}
	file, err := logfile.Open(filepath.Join(c.DataDir, "log", "director.log"), logfile.MaxBytes)
	if err != nil {
		return nil, nil, &api.Error{Code: api.CodeUnavailable, Op: "open log in", Object: c.DataDir, Err: err, Hint: "choose another directory by --data-dir"}
	}
	handler := slog.Handler(slog.NewTextHandler(file, &slog.HandlerOptions{Level: level}))
	if c.Log.Format == "json" {
		handler = slog.NewJSONHandler(file, &slog.HandlerOptions{Level: level})
	}
	if underSystemd() {
		handler = slog.NewMultiHandler(handler, slog.NewTextHandler(journal{p.Stderr}, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: untimed}))
	}
	return slog.New(handler), func() { _ = file.Close() }, nil
}
