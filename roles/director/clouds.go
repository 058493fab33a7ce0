package director

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
)

// place is one configured cloud.
type place struct {
	name, kind string
	driver     cloud.Driver
	broken     error // why there is no driver
	clustered  bool  // its instances run on nodes

	mu      sync.Mutex
	checked time.Time
	problem error
	address string // of the director, as its instances reach it; empty: by our names

	warnings map[string]string // of its layers, by kind and architecture
}

// checkLife is how long what Check said is believed.
const checkLife = 30 * time.Second

func (d *Director) openClouds() error {
	for _, c := range d.c.Clouds {
		p := &place{name: c.Name, kind: c.Driver}
		dir := filepath.Join(d.c.Dir, "clouds", c.Name)
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
		dir, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		// A cloud that cannot be used must not keep the director from showing the others.
		p.driver, p.broken = d.c.Drivers.Open(c.Driver, cloud.Config{Name: c.Name, Installation: d.installation, Dir: dir, Binary: d.c.Binary,
			Ports: d.ports(), Options: c.Options, Log: d.c.Log.With("cloud", c.Name)})
		if errors.Is(p.broken, cloud.ErrInvalid) {
			return &api.Error{Code: api.CodeInvalid, Op: "open", Object: "cloud " + c.Name, Err: p.broken, Hint: "mend the section clouds of the configuration"}
		}
		if c, ok := p.driver.(cloud.Clustered); ok {
			p.clustered = true
			c.Use(machines{d})
		}
		d.clouds = append(d.clouds, p)
	}
	if _, err := d.place(d.c.DefaultCloud); err != nil {
		return err
	}
	return nil
}

// ports are those that instances may reach on this machine.
func (d *Director) ports() []int {
	ports := []int{api.DirectorPort}
	for _, address := range d.c.Listen {
		_, text, _ := net.SplitHostPort(address)
		if port, err := strconv.Atoi(text); err == nil && port > 0 && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return append(ports, d.c.Edge.ports()...) // applications call each other by the names that people use, too
}

// closeClouds removes from this machine what clouds keep while we run, such
// as bridges that no instance needs any longer.
func (d *Director) closeClouds(ctx context.Context) (err error) {
	for _, p := range d.clouds {
		if c, ok := p.driver.(cloud.Closer); ok {
			err = errors.Join(err, c.Close(ctx))
		}
	}
	return err
}

// place finds a cloud by name; "" and "default" are the default one.
func (d *Director) place(name string) (*place, error) {
	if name == "" || name == "default" {
		name = d.defaultCloud()
	}
	for i, p := range d.clouds {
		if p.name == name || (name == "" && i == 0) {
			return p, nil
		}
	}
	names := ""
	for _, p := range d.clouds {
		names += " " + p.name
	}
	return nil, &api.Error{Code: api.CodeInvalid, Object: "cloud " + api.Shorten(name), Message: "there is no such cloud", Hint: "one of:" + names, Fields: []string{"cloud"}}
}

// ready says why a cloud cannot be used. It is asked again when the last
// answer is old.
func (p *place) ready(ctx context.Context, now time.Time) error {
	if p.broken != nil {
		return p.broken
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.checked.IsZero() || now.Sub(p.checked) > checkLife || p.problem != nil {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		p.problem, p.checked = p.driver.Check(ctx), now
	}
	return p.problem
}

// directorAddress makes the address by which instances reach us usable.
func (p *place) directorAddress(ctx context.Context) (string, error) {
	g, ok := p.driver.(cloud.Gateway)
	if !ok {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	a, err := g.DirectorAddress(ctx)
	if err == nil {
		p.mu.Lock()
		p.address = a
		p.mu.Unlock()
	}
	return a, err
}

func (p *place) gateway() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

// cloudError gives what a driver says the code that clients understand.
func cloudError(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var known *api.Error
	if errors.As(err, &known) {
		return err
	}
	e := &api.Error{Code: api.CodeUnavailable, Op: op, Object: object, Err: err, Hint: "see the state of the clouds"}
	switch {
	case errors.Is(err, cloud.ErrQuota):
		e.Code, e.Hint = api.CodeQuota, "use another cloud, or fewer instances"
	case errors.Is(err, cloud.ErrInvalid):
		e.Code, e.Hint = api.CodeInternal, ""
	case errors.Is(err, context.DeadlineExceeded):
		e.Code = api.CodeDeadline
	}
	return e
}

func (d *Director) listClouds(ctx context.Context, _ *struct{}) ([]api.Cloud, error) {
	instances, err := d.store.Instances(ctx)
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, i := range instances {
		count[i.Cloud]++
	}
	def, err := d.place("")
	if err != nil {
		return nil, err
	}
	list := []api.Cloud{}
	for _, p := range d.clouds {
		c := api.Cloud{Name: p.name, Driver: p.kind, Default: p == def, Ready: true, Warnings: p.warned(), Instances: count[p.name]}
		if err := p.ready(ctx, d.c.Now()); err != nil {
			c.Ready, c.Problem = false, err.Error()
		}
		list = append(list, c)
	}
	return list, nil
}

func (d *Director) listKinds(context.Context, *struct{}) ([]api.Kind, error) {
	list := []api.Kind{}
	for _, k := range d.c.Services.Kinds() {
		list = append(list, k.Describe())
	}
	return list, nil
}

func (d *Director) getKind(_ context.Context, in *struct {
	Kind string `path:"kind"`
}) (api.Kind, error) {
	k, err := d.c.Services.Get(in.Kind)
	if err != nil {
		e := api.AsError(err)
		e.Code = api.CodeNotFound
		return api.Kind{}, e
	}
	return k.Describe(), nil
}
