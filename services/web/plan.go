// Package web is what service kinds that host web applications share: the
// three parts and who holds them, the proxy and the static web server (both
// nginx), and the order in which a manager changes them without interruption.
// What runs behind port 9000 is the kind's own; proxies speak HTTP to it.
package web

import (
	"slices"

	"nutshell/roles/api"
	"nutshell/services"
)

// The parts, as the ConPaaS manual names them, and their ports.
const (
	Proxy   = "proxy"   // entry point and load balancer
	Static  = "web"     // serves files
	Backend = "backend" // makes pages

	ProxyPort   = 80
	StaticPort  = 8080
	BackendPort = 9000
)

// Parts describes the three parts; what is the name of the backend.
func Parts(what string) []services.Part {
	return []services.Part{
		{Name: Proxy, Title: "Proxy", Summary: "entry point: sends each request to a web or backend node", Default: 1, Min: 1, Max: 16,
			Ports: []api.Port{{Number: ProxyPort, Use: "HTTP", Public: true}}, To: []string{Static, Backend}},
		{Name: Static, Title: "Web", Summary: "serves static files", Default: 1, Min: 1, Max: 32, Ports: []api.Port{{Number: StaticPort, Use: "HTTP from proxies"}}},
		{Name: Backend, Title: "Backend", Summary: "runs " + what, Default: 1, Min: 1, Max: 64, Ports: []api.Port{{Number: BackendPort, Use: "HTTP from proxies"}}},
	}
}

// Plan packs parts: the first instance holds a proxy and every other part
// that is wanted once; a part wanted more often gets instances of its own, and
// so does each further proxy. Instances keep what they hold where that allows;
// one that is not needed any more is reused before another is started.
func Plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	for _, p := range []string{Proxy, Static, Backend} {
		if want[p] < 1 {
			return services.Layout{}, &api.Error{Code: api.CodeInvalid, Op: "plan", Object: "part " + p, Message: "at least one is needed", Fields: []string{p}}
		}
	}
	p := &plan{rest: slices.Clone(have), prefer: prefer}
	slices.SortFunc(p.rest, services.Older)
	packed := []string{Proxy}
	for _, part := range []string{Static, Backend} {
		if want[part] == 1 {
			packed = append(packed, part)
		}
	}

	// Those that hold proxies stay proxies; the first is the one that holds
	// most of what is packed, because then the least moves.
	proxies := p.take(Proxy, want[Proxy])
	first := 0
	for i := range proxies {
		if len(proxies[i].Parts) > len(proxies[first].Parts) {
			first = i
		}
	}
	for i := range proxies {
		proxies[i].Parts = []string{Proxy}
		if i == first {
			proxies[i].Parts = packed
		}
	}
	p.layout.Have = proxies
	missing := [][]string{}
	for i := len(proxies); i < want[Proxy]; i++ {
		if i == 0 {
			missing = append(missing, packed)
			continue
		}
		missing = append(missing, []string{Proxy})
	}
	for _, part := range []string{Static, Backend} {
		if want[part] == 1 {
			continue
		}
		own := p.take(part, want[part])
		for i := range own {
			own[i].Parts = []string{part}
		}
		p.layout.Have = append(p.layout.Have, own...)
		for range want[part] - len(own) {
			missing = append(missing, []string{part})
		}
	}
	p.fill(missing)
	slices.SortFunc(p.layout.Have, services.Older)
	return p.layout, nil
}

type plan struct {
	rest   []api.Instance // not placed yet, oldest first
	prefer []string
	layout services.Layout
}

// take removes up to n holders of a part from the rest.
func (p *plan) take(part string, n int) []api.Instance {
	var holders, others []api.Instance
	for _, i := range p.rest {
		if slices.Contains(i.Parts, part) {
			holders = append(holders, i)
		} else {
			others = append(others, i)
		}
	}
	stay, leave := keep(holders, part, n, p.prefer)
	p.rest = append(others, leave...)
	slices.SortFunc(p.rest, services.Older)
	return stay
}

// keep is services.Keep, but the proxy that holds other parts too is the last
// to go unless somebody prefers it to.
func keep(holders []api.Instance, part string, n int, prefer []string) (stay, leave []api.Instance) {
	if part != Proxy || n == 0 {
		return services.Keep(holders, n, prefer)
	}
	i := slices.IndexFunc(holders, func(i api.Instance) bool { return len(i.Parts) > 1 && !slices.Contains(prefer, i.ID) })
	if i < 0 {
		return services.Keep(holders, n, prefer)
	}
	first := holders[i]
	stay, leave = services.Keep(slices.Delete(slices.Clone(holders), i, i+1), n-1, prefer)
	stay = append(stay, first)
	slices.SortFunc(stay, services.Older)
	return stay, leave
}

// fill gives missing parts to instances that would leave, then to new ones.
// An instance that somebody wants gone is not reused.
func (p *plan) fill(missing [][]string) {
	for _, parts := range missing {
		i := slices.IndexFunc(p.rest, func(i api.Instance) bool { return !slices.Contains(p.prefer, i.ID) })
		if i < 0 {
			p.layout.Launch = append(p.layout.Launch, parts)
			continue
		}
		reused := p.rest[i]
		reused.Parts = parts
		p.layout.Have = append(p.layout.Have, reused)
		p.rest = slices.Delete(p.rest, i, i+1)
	}
	p.layout.Leave = p.rest
}
