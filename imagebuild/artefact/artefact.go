// Package artefact makes the files that people take away: virtual machines,
// disks, containers and cards, of recipes, with a manifest, sums and a
// signature beside them; and it checks such files. The same layers and time
// give the same bytes. It knows neither clouds nor kinds, nor what a machine of
// ours starts: it is told.
package artefact

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"nutshell/imagebuild"
	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/plan"
	"nutshell/imagebuild/recipe"
	"nutshell/imagebuild/tree"
	"nutshell/roles/api"
)

// Kind is a service kind whose packages go into an image.
type Kind struct {
	Name     string
	Packages []string
}

// Job is one image to make.
type Job struct {
	Store    *imagebuild.Store // for the architecture wanted
	Tools    *imagebuild.Store // for this machine's
	Chain    []recipe.Recipe   // lowest first
	Image    recipe.Image      // what they say together
	Kinds    []Kind            // that are inside
	Arch     string            // Debian's name of it
	Program  string            // the nutshell binary that goes into it, a file
	Version  string            // of that binary
	Install  func(root *tree.Tree, i recipe.Image) error
	Out      string    // directory of the results
	Name     string    // what their names begin with
	Time     time.Time // that what is made bears; zero: that of the youngest layer
	Key      ed25519.PrivateKey
	Card     Card
	Progress plan.Progress // may be nil
}

// build is a job under way.
type build struct {
	Job
	work       *plan.Work
	root       *tree.Tree
	layers     []imagebuild.Layer  // of the root file system
	inside     []imagebuild.Layer  // that containers of the machine are made of
	packed     []imagebuild.Packed // that nodes of other architectures get
	unwanted   map[string][]string // by the digest of the layer that must not have it
	tools      *disk.Tools
	toolLayers []imagebuild.Layer
	raw        string // the disk, once made
	rawBytes   int64
	files      []File
}

// Build makes what the job says and returns its manifest. The files appear in
// Out when all is done. What a killed build left there is removed, what it had
// made of layers is used.
func Build(ctx context.Context, j Job) (m Manifest, err error) {
	if err := j.check(); err != nil {
		return m, err
	}
	b := &build{Job: j}
	if b.work, err = plan.Begin(j.Out, j.Name); err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, b.work.End()) }()
	steps := append([]plan.Step{
		{Name: "layers", Share: 40, Do: b.makeLayers},
		{Name: "root file system", Share: 2, Do: b.makeRoot},
	}, b.formats()...)
	steps = append(steps, plan.Step{Name: "sums and signature", Share: 3, Do: func(context.Context, plan.Progress) error {
		m, err = b.seal()
		return err
	}})
	if err := plan.Run(ctx, steps, j.Progress); err != nil {
		return m, b.work.Full(err)
	}
	return m, nil
}

func (j Job) check() error {
	switch {
	case j.Store == nil || j.Tools == nil || j.Install == nil || len(j.Chain) == 0 || j.Name == "" || j.Key == nil:
		return errors.New("artefact: Store, Tools, Install, Chain, Name and Key are required")
	case len(j.Image.Formats) == 0:
		return &api.Error{Code: api.CodeInvalid, Op: "build image", Object: j.Name, Message: "its recipe says no formats, so there is nothing to make", Hint: "give it image.formats, or inherit a recipe that has them"}
	case len(j.Image.Arch) > 0 && !slices.Contains(j.Image.Arch, j.Arch):
		return &api.Error{Code: api.CodeInvalid, Op: "build image", Object: j.Name, Message: fmt.Sprintf("this recipe makes images for %v, not for %s", j.Image.Arch, j.Arch)}
	}
	return nil
}

// formats are the steps that make the files.
func (b *build) formats() []plan.Step {
	var steps []plan.Step
	disks := []recipe.Format{recipe.OVA, recipe.QCOW2, recipe.Raw} // a raw disk is moved away, so it comes last
	if slices.ContainsFunc(b.Image.Formats, func(f recipe.Format) bool { return slices.Contains(disks, f) }) {
		steps = append(steps, plan.Step{Name: "disk", Share: 6, Do: b.makeDisk})
	}
	for _, f := range disks {
		if slices.Contains(b.Image.Formats, f) {
			steps = append(steps, b.packDisk(f))
		}
	}
	if slices.Contains(b.Image.Formats, recipe.SDCard) {
		steps = append(steps, plan.Step{Name: "card", Share: 20, Do: b.makeCard})
	}
	if slices.Contains(b.Image.Formats, recipe.LXC) {
		steps = append(steps, plan.Step{Name: "container in two files", Share: 10, Do: b.makeSplit})
	}
	if slices.Contains(b.Image.Formats, recipe.Unified) {
		steps = append(steps, plan.Step{Name: "container in one file", Share: 10, Do: b.makeUnified})
	}
	return steps
}

// silent is for work that says no more than how much is done.
func silent(progress plan.Progress) func(float64) {
	return func(fraction float64) { progress("", fraction) }
}

// makeLayers gets all layers, those of the tools first: they are quickly made,
// and say early when nothing can be.
func (b *build) makeLayers(ctx context.Context, progress plan.Progress) (err error) {
	wants := 2.0
	for range b.servicesArch() {
		wants += float64(len(b.Kinds))
	}
	done := 0.0
	step := func(what string, fraction float64) { progress(what, (done+fraction)/wants) }
	if b.toolLayers, err = ToolLayers(ctx, b.Tools, step); err != nil {
		return err
	}
	if b.tools, err = disk.NewTools(dirs(b.toolLayers)...); err != nil {
		return err
	}
	done++
	chain := b.Chain
	if b.Image.ServicesIn == recipe.InRoot {
		if chain, err = withKinds(chain, b.Kinds); err != nil {
			return err
		}
	}
	if b.layers, err = b.Store.Chain(ctx, chain, step); err != nil {
		return err
	}
	done++
	adding := slices.DeleteFunc(slices.Clone(chain), func(r recipe.Recipe) bool { return !r.Adds() })
	b.unwanted = map[string][]string{}
	for i, l := range b.layers {
		b.unwanted[l.Digest] = adding[i].Remove
		if adding[i].Name == servicesLayer {
			b.unwanted[l.Digest] = append(slices.Clone(adding[i].Remove), startedByAgents...)
		}
	}
	for _, arch := range b.servicesArch() {
		inside, err := b.kindLayers(ctx, arch, func(what string, fraction float64) { step(what, fraction*float64(len(b.Kinds))) })
		if err != nil {
			return err
		}
		done += float64(len(b.Kinds))
		if arch == b.Arch {
			b.inside = inside
			continue
		}
		for _, l := range inside {
			p, err := b.Store.Pack(ctx, l.Digest, func(what string, _ float64) { step(what, 0) })
			if err != nil {
				return err
			}
			b.packed = append(b.packed, p)
		}
	}
	return nil
}

// servicesArch are the architectures whose layers of services are inside.
func (b *build) servicesArch() []string {
	switch {
	case b.Image.ServicesIn != recipe.InLayers || len(b.Kinds) == 0:
		return nil
	case len(b.Image.ServicesArch) == 0:
		return []string{b.Arch}
	}
	return b.Image.ServicesArch
}

// kindLayers are the layers of all kinds for an architecture, oldest first.
func (b *build) kindLayers(ctx context.Context, arch string, progress plan.Progress) ([]imagebuild.Layer, error) {
	found := map[string]imagebuild.Layer{}
	for n, k := range b.Kinds {
		layers, err := b.Store.For(arch).KindLayers(ctx, k.Name, k.Packages, func(what string, fraction float64) {
			progress(arch+" "+what, (float64(n)+fraction)/float64(len(b.Kinds)))
		})
		if err != nil && arch != b.Arch && ctx.Err() == nil {
			e := *api.AsError(err)
			e.Hint += "; or leave the layers for " + arch + " out: --services-arch " + b.Arch
			return nil, &e
		}
		if err != nil {
			return nil, err
		}
		for _, l := range layers {
			found[l.Digest] = l
		}
	}
	return slices.SortedFunc(maps.Values(found), func(x, y imagebuild.Layer) int { return x.Created.Compare(y.Created) }), nil
}

// ToolLayers are the layers with the programs that make and check disks. They
// run on this machine, whatever the image is for.
func ToolLayers(ctx context.Context, s *imagebuild.Store, progress plan.Progress) ([]imagebuild.Layer, error) {
	r, err := recipe.Load("imagetools")
	if err != nil {
		return nil, err
	}
	chain, err := recipe.Chain(r)
	if err != nil {
		return nil, err
	}
	return s.Chain(ctx, chain, progress)
}

// servicesLayer is the layer with the packages of all kinds.
const servicesLayer = "services"

// startedByAgents is by what Debian starts the daemons of kinds, which agents
// start themselves.
var startedByAgents = []string{"/etc/systemd/system/multi-user.target.wants/*", "/etc/systemd/system/timers.target.wants/*"}

// withKinds puts the packages of all kinds above the recipe that says first
// what is made, so that what users add above finds them there.
func withKinds(chain []recipe.Recipe, kinds []Kind) ([]recipe.Recipe, error) {
	var packages []string
	for _, k := range kinds {
		packages = append(packages, k.Packages...)
	}
	if len(packages) == 0 {
		return chain, nil
	}
	r, err := recipe.ForKind(servicesLayer, packages)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(chain, func(c recipe.Recipe) bool { return c.Image != nil && c.Image.Formats != nil })
	if at < 0 {
		at = len(chain) - 1
	}
	whole := recipe.Upon(slices.Clone(chain[:at+1]), r)
	for _, above := range chain[at+1:] {
		whole = recipe.Upon(whole, above)
	}
	return whole, nil
}

func dirs(layers []imagebuild.Layer) []string {
	list := make([]string, len(layers))
	for i, l := range layers {
		list[i] = l.Dir
	}
	return list
}
