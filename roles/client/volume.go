package client

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
	"nutshell/roles/internal/config"
)

const argVolume = "<volume>"

// volumeVerbs are the verbs of the object volume.
func (c *Client) volumeVerbs() []*cli.Command {
	const one = argApp + " " + argServ
	on := func(name, usage, more string, do func(*call, api.Service, api.Volume) error, flags ...cli.Flag) *cli.Command {
		return c.verb(name, usage, strings.TrimSpace(one+" "+argVolume+" "+more), onVolume(do), flags...)
	}
	return []*cli.Command{
		c.verb("list", "volumes of an application, or of one of its services", argApp+" [serv_name_or_id]", listVolumes),
		on("show", "one volume with its snapshots", "", showVolume),
		examples(c.verb("create", "make a volume for a service, and attach it to a node if one is named", one+" <volume_name> <size> [agent_id]", onService(func(r *call, _ api.Application, s api.Service) error {
			return r.createVolume(s, r.arg("volume_name"), r.arg("size"), r.arg("agent_id"))
		})), "nutshell volume create shop worker data 2G", "nutshell volume create shop worker data 500M a1-s1-x7k2p"),
		on("attach", "give a free volume to a node of its service", "<agent_id>", func(r *call, s api.Service, v api.Volume) error {
			return r.changeVolume(http.MethodPost, s, v, "/attach", api.AttachVolume{Instance: r.arg("agent_id")}, "Attaching")
		}),
		on("detach", "take a volume from its node; what it holds is kept", "", func(r *call, s api.Service, v api.Volume) error {
			return r.changeVolume(http.MethodPost, s, v, "/detach", nil, "Detaching")
		}),
		examples(on("grow", "make a volume larger, also while it is used; none becomes smaller", "<size>", func(r *call, s api.Service, v api.Volume) error {
			bytes, err := volumeSize(r.arg("size"))
			if err != nil {
				return err
			}
			return r.changeVolume(http.MethodPatch, s, v, "", api.ChangeVolume{Bytes: &bytes}, "Growing")
		}), "nutshell volume grow shop worker data 4G"),
		on("delete", "put a volume with what it holds into the bin", "", deleteVolume, nowFlag()),
		on("snapshot", "keep what a volume holds now", "[snapshot_name]", func(r *call, s api.Service, v api.Volume) error {
			return r.changeVolume(http.MethodPost, s, v, "/snapshots", api.CreateSnapshot{Name: r.arg("snapshot_name")}, "Keeping a snapshot of")
		}),
		on("restore", "put a detached volume back to a snapshot, which loses what it holds now", "<snapshot_name>", restoreVolume),
		on("delete-snapshot", "delete a snapshot", "<snapshot_name>", func(r *call, s api.Service, v api.Volume) error {
			return r.changeVolume(http.MethodDelete, s, v, "/snapshots/"+escape(r.arg("snapshot_name")), nil, "Deleting a snapshot of")
		}),
	}
}

// oldVolumeVerbs are ConPaaS's, which find a volume by its name in the
// application and count megabytes.
func (c *Client) oldVolumeVerbs(kind *api.Kind) []*cli.Command {
	if kind == nil || !kind.Volumes {
		return nil
	}
	return []*cli.Command{
		examples(c.ofKind(kind, "create-volume", "make a volume and attach it to a node", argApp+" <vol_name> <vol_size> <agent_id>", createOldVolume),
			"nutshell "+c.spell(kind.Name)+" create-volume shop data 1024 a1-s1-x7k2p"),
		c.ofKind(kind, "delete-volume", "detach a volume and destroy it", argApp+" <vol_name>", deleteOldVolume),
		c.ofKind(kind, "list-volumes", "volumes of an application, or of one of its services", argApp+" [serv_name_or_id]", listVolumes),
	}
}

// onVolume finds the volume that the third argument names, by id or name.
func onVolume(do func(*call, api.Service, api.Volume) error) func(*call) error {
	return onService(func(r *call, _ api.Application, s api.Service) error {
		var v api.Volume
		if err := r.get(servicePath(s)+"/volumes/"+escape(r.arg(argVolume)), &v); err != nil {
			return err
		}
		return do(r, s, v)
	})
}

// volumeSize reads a size such as 2G; a bare number counts megabytes, as in
// ConPaaS.
func volumeSize(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 1 || n > 1<<40 {
			return 0, usagef("a volume of %s MB cannot be", text)
		}
		return n << 20, nil
	}
	n, err := config.ParseSize(text)
	if err != nil || n <= 0 {
		return 0, usagef("%s is no size such as 500M or 2G (a bare number counts MB)", api.Shorten(text))
	}
	return int64(n), nil
}

func listVolumes(r *call) error {
	a, err := r.application()
	if err != nil {
		return err
	}
	path := applicationPath(a)
	if name := r.arg("serv_name_or_id"); name != "" {
		s, err := pickService(a, name, r.kind)
		if err != nil {
			return err
		}
		path = servicePath(s)
	}
	var all []api.Volume
	if err := r.get(path+"/volumes", &all); err != nil {
		return err
	}
	shown := []api.Volume{}
	t := &table{columns: []string{"sid", "vol_name", "size", "used", "state", "agent_id", "vol_id"}, id: 6, none: "No existing volumes."}
	for _, v := range all {
		if r.kind != nil && !isOfKind(a, v.Service, r.kind.Name) {
			continue
		}
		shown = append(shown, v)
		agent, usage := "-", "-"
		if v.State == api.VolumeAttached {
			agent = v.Instance
		}
		if v.Used > 0 {
			usage = fmt.Sprintf("%d %%", 100*v.Used/max(v.Bytes, 1))
		}
		t.add(strconv.FormatInt(v.Service, 10), v.Name, sizeOf(v.Bytes), usage, string(v.State), agent, v.ID)
	}
	return r.show(shown, t)
}

func showVolume(r *call, _ api.Service, v api.Volume) error {
	usage := ""
	if v.Used > 0 {
		usage = sizeOf(v.Used)
	}
	return r.showText(v, func(w io.Writer) {
		pairs(w, "volume", v.ID, "name", v.Name, "part", v.Part, "size", sizeOf(v.Bytes), "used", usage, "state", string(v.State), "reason", v.Reason,
			"agent_id", v.Instance, "cloud", v.Cloud, "created", when(v.Created))
		if len(v.Snapshots) == 0 {
			return
		}
		fmt.Fprintln(w)
		t := &table{columns: []string{"snapshot", "created", "size"}}
		for _, s := range v.Snapshots {
			size := "-"
			if s.Bytes > 0 {
				size = sizeOf(s.Bytes)
			}
			t.add(s.Name, when(s.Created), size)
		}
		t.write(w)
	})
}

func (r *call) createVolume(s api.Service, name, size, agent string) error {
	bytes, err := volumeSize(size)
	if err != nil {
		return err
	}
	op, err := r.change(http.MethodPost, servicePath(s)+"/volumes", api.CreateVolume{Name: name, Bytes: bytes, Instance: agent}, nil)
	if err != nil {
		return err
	}
	return r.finish(op, fmt.Sprintf("Creating volume %s... ", name))
}

func (r *call) changeVolume(method string, s api.Service, v api.Volume, more string, in any, doing string) error {
	op, err := r.change(method, servicePath(s)+"/volumes/"+escape(v.ID)+more, in, nil)
	if err != nil {
		return err
	}
	return r.finish(op, fmt.Sprintf("%s volume %s... ", doing, v.Name))
}

func deleteVolume(r *call, s api.Service, v api.Volume) error {
	if err := r.confirmVolume("delete", v, "volume '"+v.Name+"' of service '"+s.Name+"' with all that it holds"); err != nil {
		return err
	}
	return r.changeVolume(http.MethodDelete, s, v, r.deletion(), nil, "Deleting")
}

func restoreVolume(r *call, s api.Service, v api.Volume) error {
	name := r.arg("snapshot_name")
	if err := r.confirmVolume("restore", v, "what volume '"+v.Name+"' of service '"+s.Name+"' holds now, in favour of snapshot "+name); err != nil {
		return err
	}
	return r.changeVolume(http.MethodPost, s, v, "/snapshots/"+escape(name)+"/restore", nil, "Restoring")
}

func (r *call) confirmVolume(op string, v api.Volume, lost string) error {
	if v.Used > 0 {
		lost += " (" + sizeOf(v.Used) + ")"
	}
	return r.confirmTo(op, "volume '"+v.Name+"'", v.Name, lost)
}

func isOfKind(a api.Application, service int64, kind string) bool {
	return slices.ContainsFunc(a.Services, func(s api.Service) bool { return s.ID == service && s.Kind == kind })
}

// createOldVolume finds the service by the node.
func createOldVolume(r *call) error {
	a, err := r.application()
	if err != nil {
		return err
	}
	agent := r.arg("agent_id")
	var nodes []api.Instance
	if err := r.get("/resources", &nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.ID == agent && n.Application == a.ID && isOfKind(a, n.Service, r.kind.Name) {
			return r.createVolume(api.Service{Application: a.ID, ID: n.Service}, r.arg("vol_name"), r.arg("vol_size"), agent)
		}
	}
	return &api.Error{Code: api.CodeNotFound, Op: "create", Object: "volume " + r.arg("vol_name"), Message: "no " + r.kind.Name + " service of the application has a node " + api.Shorten(agent),
		Hint: "list them with: nutshell " + r.kind.Name + " list-nodes " + word(a.Name) + " SERVICE"}
}

// deleteOldVolume detaches first, as ConPaaS did.
func deleteOldVolume(r *call) error {
	a, err := r.application()
	if err != nil {
		return err
	}
	var all []api.Volume
	if err := r.get(applicationPath(a)+"/volumes", &all); err != nil {
		return err
	}
	for _, v := range all {
		if v.Part != "" || v.Name != r.arg("vol_name") && v.ID != r.arg("vol_name") || !isOfKind(a, v.Service, r.kind.Name) {
			continue
		}
		s := api.Service{Application: a.ID, ID: v.Service}
		if err := r.confirmVolume("delete", v, "volume '"+v.Name+"' with all that it holds"); err != nil {
			return err
		}
		if v.State == api.VolumeAttached {
			if r.g.noWait {
				return usagef("delete-volume is two operations, one after the other, and cannot be left alone with --no-wait")
			}
			if err := r.changeVolume(http.MethodPost, s, v, "/detach", nil, "Detaching"); err != nil {
				return err
			}
		}
		return r.changeVolume(http.MethodDelete, s, v, "", nil, "Deleting")
	}
	return &api.Error{Code: api.CodeNotFound, Op: "delete", Object: "volume " + api.Shorten(r.arg("vol_name")), Message: "the application has no such volume of a " + r.kind.Name + " service",
		Hint: "list them with: nutshell volume list " + word(a.Name)}
}
