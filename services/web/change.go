package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// drainTime bounds the wait for requests that proxies still handle by their
// former configuration. After it, nodes still finish what they have.
const drainTime = 30 * time.Second

// change is one Converge under way.
type change struct {
	m       *Manager
	l       services.Layout
	conf    Config
	code    []api.CodeVersion // to keep unpacked in the end, wanted first
	keep    []api.CodeVersion // to keep meanwhile: those and what serves now
	serving map[string]bool   // versions that proxies show now
	seen    map[string]Observation
	mu      sync.Mutex
	sent    map[string]string // by instance, what it was told last
}

// prepare gives an instance its new parts beside those it holds. Its proxy, if
// it has one, goes on as it is.
func (c *change) prepare(ctx context.Context, i api.Instance) error {
	parts := union(without(i.Parts, Proxy), c.seen[i.ID].Parts)
	// One that is to be a proxy only is told to be nothing yet: an agent that
	// was told nothing answers no question, and it is asked whom it reaches.
	return c.tell(ctx, i.ID, parts, c.keep, c.conf)
}

// check asks every backend for a page of the new version.
func (c *change) check(ctx context.Context) error {
	return c.each(ctx, c.l.Have, func(ctx context.Context, i api.Instance) error {
		if !slices.Contains(i.Parts, Backend) {
			return nil
		}
		return c.m.Host.Call(ctx, i.ID, "check", c.code[0].ID, nil)
	})
}

// proxies are the instances that shall hold one.
func (c *change) proxies() []api.Instance {
	return slices.DeleteFunc(slices.Clone(c.l.Have), func(i api.Instance) bool { return !slices.Contains(i.Parts, Proxy) })
}

// reach makes sure that every proxy gets answers from every web and backend
// node that it will ask, and that they know the version.
func (c *change) reach(ctx context.Context) error {
	return c.each(ctx, c.proxies(), func(ctx context.Context, i api.Instance) error {
		r := Reach{Version: c.code[0].ID}
		if !only(c.conf.Webs, i.ID) {
			r.Webs = c.conf.Webs
		}
		if !only(c.conf.Backends, i.ID) {
			r.Backends = c.conf.Backends
		}
		if len(r.Webs)+len(r.Backends) == 0 {
			return nil
		}
		return c.m.Host.Call(ctx, i.ID, "reach", r, nil)
	})
}

// switchProxies makes proxies use the new nodes and version, also those that
// leave, because clients still come to them. If one fails, those that have
// switched go back to the version that served.
func (c *change) switchProxies(ctx context.Context) error {
	proxies := c.proxies()
	err := c.each(ctx, proxies, func(ctx context.Context, i api.Instance) error {
		return c.show(ctx, i, c.code[0].ID)
	})
	if err == nil {
		for _, i := range c.l.Leave {
			if slices.Contains(c.seen[i.ID].Parts, Proxy) {
				if err := c.show(ctx, i, c.code[0].ID); err != nil {
					c.m.Host.Log().Warn("leaving proxy does not follow", "instance", i.ID, "error", err)
				}
			}
		}
		return nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	back := c.each(undo, proxies, func(ctx context.Context, i api.Instance) error {
		if was := c.seen[i.ID].Serving; was != "" && was != c.code[0].ID {
			return c.show(ctx, i, was)
		}
		return nil
	})
	if back != nil {
		c.m.Host.Log().Error("a proxy could not be put back", "error", back)
	}
	return err
}

func (c *change) show(ctx context.Context, i api.Instance, version string) error {
	conf := c.conf
	conf.Serve = version
	return c.tell(ctx, i.ID, union(i.Parts, c.seen[i.ID].Parts), c.keep, conf)
}

// drops reports whether something ends that proxies may still be using.
func (c *change) drops() bool {
	for _, i := range c.l.Have {
		if len(union(i.Parts, c.seen[i.ID].Parts)) > len(i.Parts) {
			return true
		}
	}
	return len(c.l.Leave) > 0 || len(c.keep) > len(c.code) || c.m.Apart && len(c.conf.Live) > 1
}

// drain waits until proxies have finished the requests that use what goes: a
// version, or a node.
func (c *change) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	stay := map[string]bool{}
	for _, v := range c.code {
		stay[v.ID] = !c.m.Apart || v.ID == c.code[0].ID
	}
	for _, n := range nodes(c.conf.Webs, c.conf.Backends) {
		stay[n.key] = true
	}
	for _, b := range c.conf.Backends {
		stay["here:"+b.Instance] = true
	}
	for {
		waiting := ""
		for _, i := range append(slices.Clone(c.l.Have), c.l.Leave...) {
			if !slices.Contains(c.seen[i.ID].Parts, Proxy) {
				continue
			}
			o, err := c.m.observe(ctx, i.ID)
			if err != nil {
				continue
			}
			if o.Draining {
				waiting = "former workers"
			}
			for what := range o.Busy {
				if !stay[what] {
					waiting = what
				}
			}
		}
		if waiting == "" {
			return
		}
		select {
		case <-ctx.Done():
			c.m.Host.Log().Info("proxies still finish old requests; going on", "waiting_for", waiting)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// settle leaves an instance exactly what it shall have.
func (c *change) settle(ctx context.Context, i api.Instance) error {
	conf := c.conf
	conf.Live = conf.Live[:1]
	if slices.Contains(i.Parts, Proxy) {
		conf.Serve = c.code[0].ID
	}
	return c.tell(ctx, i.ID, i.Parts, c.code, conf)
}

// tell sends a configuration unless it was the last one sent.
func (c *change) tell(ctx context.Context, instance string, parts []string, code []api.CodeVersion, conf Config) error {
	parts = ordered(parts)
	b, err := json.Marshal([]any{parts, code, conf})
	if err != nil {
		return err
	}
	c.mu.Lock()
	same := c.sent[instance] == string(b)
	delete(c.sent, instance)
	c.mu.Unlock()
	if !same {
		if err := c.m.Host.Apply(ctx, instance, parts, code, conf); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent[instance] = string(b)
	return nil
}

// each does f for all instances at once and names those that fail.
func (c *change) each(ctx context.Context, list []api.Instance, f func(context.Context, api.Instance) error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for n, i := range list {
		wg.Go(func() {
			if err := f(ctx, i); err != nil {
				errs[n] = fmt.Errorf("instance %s: %w", i.ID, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
