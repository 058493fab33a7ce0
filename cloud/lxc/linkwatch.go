package lxc

import (
	"time"

	"github.com/vishvananda/netlink"
)

// settleTime is how long a network that comes back may take to be whole.
const settleTime = 300 * time.Millisecond

// watch sets the routes to other machines again after this machine's network
// was gone, which took them with it; nobody else may be there to do it, since
// the director is on the far side of that network. The caller holds mu.
func (n *network) watch() {
	if n.unwatch != nil {
		return
	}
	done := make(chan struct{})
	links, addresses := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64)
	if err := netlink.LinkSubscribe(links, done); err != nil {
		n.d.log.Warn("changes of the network are not seen", "error", err)
		return
	}
	if err := netlink.AddrSubscribe(addresses, done); err != nil {
		n.d.log.Warn("changes of the network are not seen", "error", err)
	}
	n.unwatch = func() { close(done) }
	go func() {
		quiet := time.NewTimer(0)
		<-quiet.C
		for {
			select {
			case <-done:
				return
			case _, ok := <-links:
				if !ok {
					return
				}
				quiet.Reset(settleTime)
			case _, ok := <-addresses:
				if !ok {
					addresses = nil // the other subscription goes on
					continue
				}
				quiet.Reset(settleTime)
			case <-quiet.C:
				n.mend()
			}
		}
	}()
}

func (n *network) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.unwatch == nil {
		return // closed meanwhile
	}
	if err := n.routes(); err != nil {
		n.d.log.Debug("other machines are not reached yet", "error", err)
	}
}
