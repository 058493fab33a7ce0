// Command nutshell is a whole elastic platform in one file: director, manager,
// agent, command line and web pages. This file lists the clouds and the kinds
// of services that it knows; everything else is in roles.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"nutshell/cloud/lxc"
	"nutshell/cloud/nodes"
	"nutshell/cloud/process"
	"nutshell/embedui"
	"nutshell/roles"
	"nutshell/services/generic"
	"nutshell/services/helloworld"
	"nutshell/services/java"
	"nutshell/services/mysql"
	"nutshell/services/php"
)

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &roles.Program{UI: embedui.FS(), Helper: lxc.Helper, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}

	p.Clouds.Register("lxc", lxc.New)         // containers of this machine; root
	p.Clouds.Register("nodes", nodes.New)     // containers of machines that joined
	p.Clouds.Register("process", process.New) // process groups of this machine; anybody

	p.Services.Register(generic.Kind())
	p.Services.Register(helloworld.Kind())
	p.Services.Register(java.Kind())
	p.Services.Register(mysql.Kind())
	p.Services.Register(php.Kind())

	return p.Main(ctx, args)
}
