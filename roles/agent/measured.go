package agent

import (
	"context"
	"net"
	"time"

	gopsnet "github.com/shirou/gopsutil/v4/net"

	"nutshell/roles/api"
	"nutshell/services"
)

// measureTime bounds what a kind's half may take to tell its figures.
const measureTime = 4 * time.Second

// measured is what this instance uses and what its daemons did. A half that
// cannot tell is no reason to tell nothing.
func (a *Agent) measured(ctx context.Context) api.Measured {
	a.mu.Lock()
	half, current := a.half, a.current
	a.mu.Unlock()
	m := api.Measured{Instance: a.c.Identity.Name, Service: a.c.Identity.Service, Parts: []string{}, At: a.c.Now(), Samples: a.figures.samples()}
	if current != nil {
		m.Parts = current.Instance.Parts
	}
	m.Samples = append(m.Samples, traffic(ctx, a.c.Address)...)
	if measurer, ok := half.(services.Measurer); ok {
		more, err := measurer.Measure(ctx)
		if err != nil {
			a.c.Log.Debug("not all measured", "error", err)
		}
		m.Samples = append(m.Samples, more...)
	}
	if m.Samples == nil {
		m.Samples = []api.Sample{}
	}
	return m
}

// traffic counts bytes where the instance has a network of its own.
func traffic(ctx context.Context, address string) []api.Sample {
	if ip := net.ParseIP(address); ip == nil || ip.IsLoopback() {
		return nil // a process group of this machine shares the machine's
	}
	all, err := gopsnet.IOCountersWithContext(ctx, true)
	if err != nil {
		return nil
	}
	var in, out uint64
	for _, n := range all {
		if n.Name != "lo" {
			in, out = in+n.BytesRecv, out+n.BytesSent
		}
	}
	return []api.Sample{{Name: "nutshell_network_bytes_total", Labels: map[string]string{"direction": "in"}, Value: float64(in)},
		{Name: "nutshell_network_bytes_total", Labels: map[string]string{"direction": "out"}, Value: float64(out)}}
}
