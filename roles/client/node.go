package client

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

const argMachine = "<node_or_id>"

func (c *Client) nodeVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "machines that lend their containers, those that want to first (admins only)", "", listMachines),
		c.verb("show", "one node, with its instances (admins only)", argMachine, onNode(showNode)),
		examples(c.verb("approve", "let a machine join; compare the fingerprint with the one on its own screen (admins only)", argMachine, onNode(approveNode),
			&cli.StringFlag{Name: "fingerprint", Usage: "approve only the machine whose screen shows this; 16 of its digits are enough"},
			&cli.StringFlag{Name: "name", Usage: "what people shall call it"},
			&cli.BoolFlag{Name: "keep-old", Usage: "keep the lost node with the same serial number, whose place it takes otherwise"}),
			"nutshell node approve pi4-cdef12 --name shelf-1", "nutshell node approve nvusrpstkonov --fingerprint 'ad25 17ca 6a73 5d5b'"),
		c.verb("cordon", "give a node no new instances; those that it has stay (admins only)", argMachine, onNode(turnNode("cordon", "gets no new instances."))),
		c.verb("uncordon", "give a node instances again (admins only)", argMachine, onNode(turnNode("uncordon", "gets instances again."))),
		examples(c.verb("drain", "cordon a node and replace its instances elsewhere, one by one (admins only)", argMachine, onNode(drainNode)),
			"nutshell node drain shelf-1", "nutshell --no-wait node drain shelf-1"),
		examples(c.verb("remove", "take a node out of the cluster, or send one away that waits (admins only)", argMachine, onNode(removeNode),
			&cli.BoolFlag{Name: "force", Usage: "though it has instances, because the machine is gone: they are replaced elsewhere, volumes on it are lost"}),
			"nutshell node remove shelf-1", "nutshell --yes node remove shelf-1 --force"),
	}
}

// onNode finds the node that the argument names.
func onNode(do func(*call, api.Node) error) func(*call) error {
	return func(r *call) error {
		var n api.Node
		if err := r.get("/nodes/"+escape(r.arg(argMachine)), &n); err != nil {
			return err
		}
		return do(r, n)
	}
}

func listMachines(r *call) error {
	var all []api.Node
	if err := r.get("/nodes", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"node", "id", "state", "address", "instances", "memory free", "disk free", "load", "heat", "seen"},
		none: "No machine has asked to join. Start one with: nutshell --role node --director THIS-DIRECTOR"}
	for _, n := range all {
		t.add(n.Name, n.ID, string(n.State), n.Address, strconv.Itoa(n.Instances), ofWhole(n.MemoryFree, n.Memory), ofWhole(n.DiskFree, n.Disk), fmt.Sprintf("%.2f", n.Load), heatOf(n), n.Seen.Local().Format(time.DateTime))
	}
	if err := r.show(all, t); err != nil || r.g.output != "table" {
		return err
	}
	for _, n := range all {
		for _, warning := range n.Warnings {
			r.say("%s: %s", n.Name, warning)
		}
	}
	return nil
}

func ofWhole(free, whole int64) string { return sizeOf(free) + " of " + sizeOf(whole) }

// heatOf is how warm a node's processor is, "-" where nothing measures it.
func heatOf(n api.Node) string {
	if n.Heat == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f °C", n.Heat)
}

func showNode(r *call, n api.Node) error {
	var on []api.Instance
	if err := r.get("/nodes/"+escape(n.ID)+"/instances", &on); err != nil {
		return err
	}
	return r.showText(struct {
		api.Node
		On []api.Instance `json:"on"`
	}{n, on}, func(w io.Writer) { writeNode(w, n, on) })
}

func writeNode(w io.Writer, n api.Node, on []api.Instance) {
	pairs(w, "node", n.Name, "id", n.ID, "state", string(n.State))
	if n.Reason != "" {
		pairs(w, "reason", n.Reason)
	}
	for _, warning := range n.Warnings {
		pairs(w, "warning", warning)
	}
	pairs(w, "model", n.Model, "serial", n.Serial, "fingerprint", inFours(n.Fingerprint), "address", n.Address, "subnet", n.Subnet, "arch", n.Arch, "version", n.Version, "cpus", strconv.Itoa(n.CPUs),
		"memory", ofWhole(n.MemoryFree, n.Memory)+" free", "disk", ofWhole(n.DiskFree, n.Disk)+" free", "load", fmt.Sprintf("%.2f", n.Load), "heat", heatOf(n), "layers", strconv.Itoa(len(n.Layers)),
		"asked first", n.Joined.Local().Format(time.DateTime), "seen", n.Seen.Local().Format(time.DateTime), "instances", strconv.Itoa(n.Instances))
	for _, i := range on {
		pairs(w, "instance", fmt.Sprintf("%s %s %s", i.ID, i.State, strings.Join(i.Parts, ",")))
	}
}

// inFours is a fingerprint as the machine's own screen shows it.
func inFours(hash string) string {
	var out []string
	for i := 0; i < len(hash); i += 4 {
		out = append(out, hash[i:min(i+4, len(hash))])
	}
	return strings.Join(out, " ")
}

func approveNode(r *call, n api.Node) error {
	in := api.ApproveNode{Name: r.String("name"), Fingerprint: r.String("fingerprint")}
	if in.Fingerprint == "" && n.State == api.NodeWaiting {
		r.say("%s, serial %s, at %s", orUnknown(n.Model), orUnknown(n.Serial), n.Address)
		r.say("fingerprint %s", inFours(n.Fingerprint))
		for _, warning := range n.Warnings {
			r.say("%s", warning)
		}
		if r.interactive() && !r.g.yes {
			answer, err := r.ask("Does the machine's own screen show the same? Approve it (yes/no): ")
			if err != nil {
				return err
			}
			if answer != "yes" && answer != "y" {
				return &api.Error{Code: api.CodeCancelled, Op: "approve", Object: "node " + n.Name, Message: "nothing was done"}
			}
		}
		in.Fingerprint = n.Fingerprint // what was shown, and not another that took its place
	}
	if !r.Bool("keep-old") {
		in.Replace = n.Replaces
	}
	var out api.Node
	if err := r.send(http.MethodPost, "/nodes/"+escape(n.ID)+"/approve", in, &out); err != nil {
		return err
	}
	if err := awaitNode(r, &out); err != nil {
		return err
	}
	if in.Replace != "" {
		r.say("It takes the place of the lost node %s.", in.Replace)
	}
	if out.Reason != "" {
		return r.made(out, out.Name, "Node '%s' may join; %s.", out.Name, out.Reason)
	}
	return r.made(out, out.Name, "Node '%s' has joined; its containers get addresses of %s.", out.Name, out.Subnet)
}

// awaitNode waits a little until a node that was approved has come: a machine
// that waits asks every few seconds, and nothing can be started on it before.
func awaitNode(r *call, n *api.Node) error {
	if r.g.noWait {
		return nil
	}
	for range 60 {
		if n.Reason == "" {
			break
		}
		select {
		case <-r.ctx().Done():
			return r.ctx().Err()
		case <-time.After(250 * time.Millisecond):
		}
		if err := r.get("/nodes/"+escape(n.ID), n); err != nil {
			return err
		}
	}
	return nil
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func turnNode(verb, says string) func(*call, api.Node) error {
	return func(r *call, n api.Node) error {
		var out api.Node
		if err := r.send(http.MethodPost, "/nodes/"+escape(n.ID)+"/"+verb, nil, &out); err != nil {
			return err
		}
		return r.made(out, out.Name, "Node '%s' %s", out.Name, says)
	}
}

func drainNode(r *call, n api.Node) error {
	var op api.Operation
	if err := r.send(http.MethodPost, "/nodes/"+escape(n.ID)+"/drain", nil, &op); err != nil {
		return err
	}
	return r.finish(&op, fmt.Sprintf("Moving the instances of node '%s' elsewhere... ", n.Name))
}

func removeNode(r *call, n api.Node) error {
	what := "node '" + n.Name + "' from the cluster"
	if n.Instances > 0 && r.Bool("force") {
		what += fmt.Sprintf(", with %s, which are replaced elsewhere, and all volumes on it", plural(n.Instances, "instance"))
	}
	if err := r.confirm("node '"+n.Name+"'", n.Name, what); err != nil {
		return err
	}
	path := "/nodes/" + escape(n.ID)
	if r.Bool("force") {
		path += "?force=true"
	}
	if err := r.send(http.MethodDelete, path, nil, nil); err != nil {
		return err
	}
	r.say("Node '%s' is not a member any more.", n.Name)
	return nil
}
