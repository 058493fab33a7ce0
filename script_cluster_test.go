package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// rack is machines in name spaces of this one, on one cable with the director.
type rack struct {
	net   int // 172.31.net.0/24 is the cable, which is free here
	nodes []*exec.Cmd
}

func (r *rack) director() string     { return fmt.Sprintf("172.31.%d.1", r.net) }
func (r *rack) bridge() string       { return fmt.Sprintf("nutrack%d", r.net) }
func (r *rack) space(n int) string   { return fmt.Sprintf("nutrack%d-%d", r.net, n) }
func (r *rack) cable(n int) string   { return fmt.Sprintf("nutcable%d-%d", r.net, n) }
func (r *rack) address(n int) string { return fmt.Sprintf("172.31.%d.%d/24", r.net, 10+n) }

// clusterNet is the second number of the first machine's network of containers.
// From 192 on are those of machines that make their own, whatever else is tested.
const clusterNet = 140

// enter is what a machine does first: liblxc looks for bridges in /sys, which
// still shows the network of the machine that we run on.
const enter = `mkdir -p "$1/groups" && mount --rbind /sys/fs/cgroup "$1/groups" && mount -t sysfs sysfs /sys && mount --move "$1/groups" /sys/fs/cgroup && exec "$2" --role node --data-dir "$1" --name "$3"`

// cmdRack starts so many machines in the role of a node: rack 2. The director
// is started by `up nodes`.
func cmdRack(ts *testscript.TestScript, neg bool, args []string) {
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	s := sceneOf(ts)
	r := &rack{net: 128 + os.Getpid()%100} // other tests of clusters have those below
	s.rack = r
	ip := func(args ...string) { ts.Check(ts.Exec("ip", args...)) }
	ip("link", "add", r.bridge(), "type", "bridge")
	ip("address", "add", r.director()+"/24", "dev", r.bridge())
	ip("link", "set", r.bridge(), "up")
	program := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "nutshell")
	for n := range count {
		ip("netns", "add", r.space(n))
		ip("link", "add", r.cable(n), "type", "veth", "peer", "name", "eth0", "netns", r.space(n))
		ip("link", "set", r.cable(n), "master", r.bridge(), "up")
		for _, link := range []string{"lo", "eth0"} {
			ip("-n", r.space(n), "link", "set", link, "up")
		}
		ip("-n", r.space(n), "address", "add", r.address(n), "dev", "eth0")
		dir := filepath.Join(s.dir, r.space(n))
		ts.Check(os.MkdirAll(dir, 0o711))
		log, err := os.Create(filepath.Join(filepath.Dir(s.dir), r.space(n)+".log"))
		ts.Check(err)
		cmd := exec.Command("nsenter", "--net=/run/netns/"+r.space(n), "unshare", "--mount", "sh", "-c", enter, "sh", dir, program, "shelf-"+strconv.Itoa(n))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
		cmd.Stdout, cmd.Stderr = log, log
		ts.Check(cmd.Start())
		ts.Check(log.Close())
		r.nodes = append(r.nodes, cmd)
	}
}

// cmdUnplug pulls a machine's cable.
func cmdUnplug(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(ts.Exec("ip", "link", "set", sceneOf(ts).rack.cable(n), "down"))
}

// end takes the machines and the cable away. What a lost machine ran has
// nobody else to end it: its monitors are in the machine's network, the
// containers' first processes are their children.
func (r *rack) end() {
	for n, cmd := range r.nodes {
		pids, _ := exec.Command("ip", "netns", "pids", r.space(n)).Output()
		for _, pid := range strings.Fields(string(pids)) {
			children, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
			for _, one := range append(strings.Fields(string(children)), pid) {
				if number, err := strconv.Atoi(one); err == nil {
					_ = syscall.Kill(number, syscall.SIGKILL)
				}
			}
		}
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		_ = exec.Command("ip", "netns", "delete", r.space(n)).Run()
	}
	_ = exec.Command("ip", "link", "delete", r.bridge()).Run()
}
