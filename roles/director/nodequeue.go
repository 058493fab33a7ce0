package director

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// Who wants to join is shown to administrators, and the list is short. Somebody
// with many addresses could fill it for ever. So those that come in vain queue
// up, one place for each address, and each gets its turn to be shown.
const (
	shownLeast   = 3 * time.Minute // before its place is given to another; people need some to compare fingerprints
	queueLife    = 3 * time.Minute // after its last try, an address has no place in the queue any more
	queueMemory  = 24 * time.Hour  // that an address was taken note of
	mostQueueing = 4096            // addresses
)

// queueing is an address that came in vain, or did once.
type queueing struct {
	since time.Time // zero: it does not queue
	last  time.Time
	noted time.Time // when it was written to the audit log
}

// queue is guarded by nodes.mu.
type queue map[string]queueing

// join puts an address in the queue, or keeps it there, and returns how many
// are before it. Who finds no place counts as the last.
func (q queue) join(address string, now time.Time) (before int) {
	maps.DeleteFunc(q, func(_ string, e queueing) bool { return now.Sub(e.last) > queueMemory })
	e, known := q[address]
	if !known && len(q) >= mostQueueing {
		return mostQueueing
	}
	if e.since.IsZero() || now.Sub(e.last) > queueLife {
		e.since = now
	}
	e.last = now
	q[address] = e
	for other, o := range q {
		if other != address && !o.since.IsZero() && now.Sub(o.last) <= queueLife && o.since.Before(e.since) {
			before++
		}
	}
	return before
}

// leave takes an address out of the queue that has got what it wanted. It
// reports whether that is news: who queues comes again and again.
func (q queue) leave(address string, now time.Time) (news bool) {
	e, known := q[address]
	if !known {
		return true
	}
	news = e.since.IsZero() || e.noted.IsZero() || now.Sub(e.noted) > queueMemory
	e.since, e.last = time.Time{}, now
	if news {
		e.noted = now
	}
	q[address] = e
	return news
}

// makeRoom finds a place for one more machine that wants to join, or refuses
// it. Those that have stopped asking are forgotten first; then the newest of
// the neighbour that has most gives way, so that others get in; and where all
// have the same, those that have been shown for a while make room for those that
// have waited longest.
func (d *Director) makeRoom(ctx context.Context, t *store.Tx, all []store.Node, remote string) error {
	now := d.c.Now()
	var left []store.Node
	from, at := map[string]int{}, map[string]time.Time{}
	drop := func(n store.Node) error {
		t.After(func() { d.nodes.forget(n.ID) })
		return t.DeleteNode(ctx, n)
	}
	for _, n := range all {
		if n.Approved {
			continue
		}
		if at[n.ID] = d.nodes.askedAt(n.ID, n.Seen); now.Sub(at[n.ID]) > waitingLife {
			if err := drop(n); err != nil {
				return err
			}
			continue
		}
		left = append(left, n)
		from[n.Address]++
	}
	if from[remote] >= mostWaitingFrom {
		return &api.Error{Code: api.CodeTooMany, Op: "join", Message: "several machines wait from the address " + remote, Hint: "approve or remove those first", RetryAfter: 60}
	}
	if len(left) < mostWaiting {
		return nil
	}
	if quiet := silent(left, at); now.Sub(at[quiet.ID]) > waitingPatience {
		return drop(quiet)
	}
	if n := crowded(left, remote, d.neighbours()); n != nil {
		return drop(*n)
	}
	d.nodes.mu.Lock()
	before := d.nodes.queue.join(remote, now)
	d.nodes.mu.Unlock()
	if n := shownFor(left, now, before); n != nil {
		return drop(*n)
	}
	return &api.Error{Code: api.CodeTooMany, Op: "join", Message: fmt.Sprintf("%d machines of as many addresses wait already, and ask again and again; %d more addresses are before this one", len(left), before),
		Hint: "approve those that you know and remove the others, or take the network apart that they come from; who goes on asking is shown in turn", RetryAfter: 60}
}

// silent is who has not asked for longest.
func silent(waiting []store.Node, at map[string]time.Time) store.Node {
	oldest := waiting[0]
	for _, n := range waiting {
		if at[n.ID].Before(at[oldest.ID]) {
			oldest = n
		}
	}
	return oldest
}

// crowded is the newest machine of the neighbour that has most, where that is
// more than remote's would have: who was there first is kept.
func crowded(waiting []store.Node, remote string, neighbours map[string]string) *store.Node {
	of := func(address string) string {
		if card := neighbours[address]; card != "" {
			return card
		}
		return address
	}
	from := map[string]int{}
	for _, n := range waiting {
		from[of(n.Address)]++
	}
	var newest *store.Node
	for _, n := range waiting {
		here := from[of(n.Address)]
		if here <= from[of(remote)]+1 {
			continue
		}
		if newest == nil || here > from[of(newest.Address)] || here == from[of(newest.Address)] && !n.Joined.Before(newest.Joined) {
			newest = &n
		}
	}
	return newest
}

// shownFor is the machine that has been shown for longest, where more have been
// shown for long enough than others are before who asks.
func shownFor(waiting []store.Node, now time.Time, before int) *store.Node {
	var longest *store.Node
	enough := 0
	for _, n := range waiting {
		if now.Sub(n.Joined) < shownLeast {
			continue
		}
		enough++
		if longest == nil || n.Joined.Before(longest.Joined) {
			longest = &n
		}
	}
	if enough <= before {
		return nil
	}
	return longest
}

// arp is where the kernel says which network card has an address of our
// networks: one neighbour may give itself all of them.
const arp = "/proc/net/arp"

// networkCards reads what the kernel knows of neighbours: the card of an
// address. None is known of those behind a router, which has one itself.
func networkCards() map[string]string {
	f, err := os.Open(arp)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	cards := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// IP address, HW type, Flags, HW address, Mask, Device
		if w := strings.Fields(lines.Text()); len(w) == 6 && strings.Count(w[3], ":") == 5 && w[3] != "00:00:00:00:00:00" {
			cards[w[0]] = w[3]
		}
	}
	return cards
}
