//go:build cgo

// Command helper does for the lxc driver what needs liblxc, which is C: it
// starts, stops, attaches to and tells about one container, and ends. It is
// built with cgo, embedded in the static nutshell binary and executed from
// memory. A container is never started from inside the director, whose many
// threads liblxc would have to fork.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/lxc/go-lxc"

	"nutshell/cloud/lxc/order"
)

// exitFailed is for attach, whose own exit status is the command's.
const exitFailed = 125

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: helper start|stop|info|version|hold < order, helper attach ORDER")
		return 2
	}
	var a order.Answer
	var err error
	switch args[0] {
	case "start":
		a, err = start()
	case "stop":
		a, err = stop()
	case "info":
		a, err = info()
	case "version":
		a.Version = lxc.Version()
	case "hold":
		// Keeps the namespaces that it was started in until its input ends.
		_, _ = os.Stdin.Read(make([]byte, 1))
		return 0
	case "attach":
		code, err := attach(args[1:])
		if err != nil {
			fmt.Fprintln(os.Stderr, "attach:", err)
			return exitFailed
		}
		return code
	default:
		err = fmt.Errorf("unknown order %q", args[0])
	}
	if err != nil {
		a.Error, a.Unmapped = err.Error(), errors.Is(err, errUnmapped)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		return 1
	}
	return 0
}

func read(v any) error {
	d := json.NewDecoder(os.Stdin)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	return nil
}

func open(c order.Container) (*lxc.Container, error) {
	ct, err := lxc.NewContainer(c.Name, c.Path)
	if err != nil {
		return nil, fmt.Errorf("open container %s: %w", c.Name, err)
	}
	if err := ct.LoadConfigFile(filepath.Join(c.Dir, "config")); err != nil {
		return nil, fmt.Errorf("configuration of container %s: %w", c.Name, err)
	}
	if err := ct.SetLogFile(filepath.Join(c.Dir, "lxc.log")); err != nil {
		return nil, fmt.Errorf("log of container %s: %w", c.Name, err)
	}
	_ = ct.SetLogLevel(lxc.ERROR)
	return ct, nil
}

func start() (order.Answer, error) {
	var o order.Start
	if err := read(&o); err != nil {
		return order.Answer{}, err
	}
	// liblxc keeps what it does not know; the monitor must not hold our lock.
	syscall.CloseOnExec(order.LockFD)
	syscall.CloseOnExec(order.UsersFD)
	for n := range o.Volumes {
		syscall.CloseOnExec(order.MountFD + n)
	}
	c, err := open(o.Container)
	if err != nil {
		return order.Answer{}, err
	}
	defer func() { _ = c.Release() }()
	if c.Running() {
		return state(c), nil
	}
	if err := assemble(o); err != nil {
		return order.Answer{}, err
	}
	if err := errors.Join(c.WantDaemonize(true), c.WantCloseAllFds(true)); err != nil {
		return order.Answer{}, err
	}
	if err := c.Start(); err != nil {
		return order.Answer{}, fmt.Errorf("liblxc: %w (error %d)", err, c.ErrorNum())
	}
	return state(c), nil
}

func stop() (order.Answer, error) {
	var o order.Container
	if err := read(&o); err != nil {
		return order.Answer{}, err
	}
	c, err := open(o)
	if err != nil {
		return order.Answer{}, err
	}
	defer func() { _ = c.Release() }()
	if c.Running() {
		if err := c.Stop(); err != nil && c.Running() {
			return state(c), fmt.Errorf("liblxc: %w", err)
		}
	}
	return state(c), nil
}

func info() (order.Answer, error) {
	var o order.Container
	if err := read(&o); err != nil {
		return order.Answer{}, err
	}
	c, err := open(o)
	if err != nil {
		return order.Answer{}, err
	}
	defer func() { _ = c.Release() }()
	return state(c), nil
}

func state(c *lxc.Container) order.Answer {
	a := order.Answer{State: c.State().String()}
	if pid := c.InitPid(); pid > 0 {
		a.InitPID = pid
	}
	return a
}

func attach(args []string) (int, error) {
	var o order.Attach
	if len(args) != 1 {
		return 0, errors.New("one argument: the order")
	}
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return 0, err
	}
	c, err := open(o.Container)
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Release() }()
	opts := lxc.DefaultAttachOptions
	opts.ClearEnv = true
	opts.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=" + os.Getenv("TERM")}
	opts.StdinFd, opts.StdoutFd, opts.StderrFd = os.Stdin.Fd(), os.Stdout.Fd(), os.Stderr.Fd()
	return c.RunCommandStatus(o.Args, opts)
}
