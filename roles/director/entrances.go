package director

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/director/edge"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// proxies are a service's instances that people may ask.
func (d *Director) proxies(s store.Service, rows []store.Instance) []edge.Proxy {
	var list []edge.Proxy
	for _, p := range d.entrances(s.Kind) {
		for _, i := range rows {
			if i.State != api.InstanceReady || i.Address == "" || !slices.Contains(i.Parts, p.part) {
				continue
			}
			one := edge.Proxy{Address: net.JoinHostPort(i.Address, strconv.Itoa(api.RealPort(i.Address, p.port))), Weight: cmp.Or(i.Weights[p.part], 100)}
			list = append(list, one)
		}
		if len(list) > 0 {
			return list // one entrance is enough, and what another would show may be something else
		}
	}
	return list
}

type entrance struct {
	part string
	port int
}

// entrances are the ports of a kind where people find web pages.
func (d *Director) entrances(kind string) []entrance {
	k, err := d.c.Services.Get(kind)
	if err != nil {
		return nil // of a program that had more kinds
	}
	var list []entrance
	for _, p := range k.Parts {
		for _, port := range p.Ports {
			if port.Public && strings.HasPrefix(strings.ToUpper(port.Use), "HTTP") && !strings.HasPrefix(strings.ToUpper(port.Use), "HTTPS") {
				list = append(list, entrance{p.Name, port.Number})
			}
		}
	}
	return list
}

// publicPorts are those of an instance that people outside of its cloud shall
// reach: of the parts it holds, or of all while nobody knows which.
func publicPorts(k services.Kind, parts []string) []int {
	var list []int
	for _, p := range k.Parts {
		if len(parts) > 0 && !slices.Contains(parts, p.Name) {
			continue
		}
		for _, port := range p.Ports {
			if port.Public && !slices.Contains(list, port.Number) {
				list = append(list, port.Number)
			}
		}
	}
	return list
}

// sources are the addresses from which the edge asks instances.
func (d *Director) sources(rows []api.Instance) []string {
	if d.front.edge == nil {
		return nil
	}
	var list []string
	for _, i := range rows {
		if i.Address == "" {
			continue
		}
		a, err := edge.Source(i.Address)
		if err == nil && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	slices.Sort(list)
	return list
}
