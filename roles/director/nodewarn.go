package director

import (
	"fmt"
	"slices"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// Bounds of what is not told to people.
const (
	clockSlack = 30 * time.Second // that a node's clock may be wrong
	doubleLife = time.Minute      // after a second machine was heard last
)

// claim notes which process speaks for a node. A process that begins anew is
// the node from then on; when the one before is heard again, there are two
// machines with one key: a card was copied. The first stays the node as long as
// it is heard, and the other is refused. It is pure.
func (b beat) claim(boot, address string, now time.Time) (beat, error) {
	if boot == "" || boot == b.boot {
		return b, nil
	}
	heard := now.Sub(b.at) <= nodeSilence
	switch {
	case b.boot == "" || !heard:
		b.boot, b.rival = boot, b.boot
		return b, nil
	case boot != b.rival:
		b.boot, b.rival = boot, b.boot // it was started again, as far as we know
		return b, nil
	case now.Sub(b.doubled) > doubleLife: // the one before is there after all
		b.boot, b.rival = boot, b.boot
		b.doubled, b.double = now, b.address
		return b, nil
	}
	b.doubled, b.double = now, address
	return b, &api.Error{Code: api.CodeConflict, Op: "take the word of", Object: "node", Message: "another machine has the key of this one, and was heard at " + b.address + " a moment ago",
		Hint: "a card was copied: remove node/node.key from the data directory of one of them, and let it join as a machine of its own"}
}

// leastDisk is what a node must have free for an instance and what that may
// need first: the layer of a service is larger.
const leastDisk = 192 << 20

// diskFull reports whether a node has too little disk for another instance.
func diskFull(f api.NodeFacts) bool { return f.Disk > 0 && f.DiskFree < leastDisk }

// heatSlack is how near to its end a machine's heat is told, in degrees. A
// Raspberry Pi slows down from there on.
const heatSlack = 10

func hot(f api.NodeFacts) bool { return f.Heat > 0 && f.HeatMost > 0 && f.Heat >= f.HeatMost-heatSlack }

// skewOf is how far a node's clock is ahead of ours; 0 if it does not tell, or
// as good as right.
func skewOf(clock, now time.Time) time.Duration {
	skew := clock.Sub(now)
	if clock.IsZero() || skew.Abs() <= clockSlack {
		return 0
	}
	return skew.Round(time.Second)
}

// warnings are what people should know of a node that runs nevertheless, and
// the id of the node whose place it could take.
func (d *Director) warnings(n store.Node, all []store.Node) (list []string, replaces string) {
	b, heard := d.nodes.last(n.ID)
	if heard {
		n.Facts = b.facts
	}
	if word := "ahead of"; b.skew != 0 && !n.Lost {
		if b.skew < 0 {
			word = "behind"
		}
		list = append(list, fmt.Sprintf("its clock is %s %s the director's, and logs and graphs of its instances with it: set it", b.skew.Abs(), word))
	}
	if diskFull(n.Facts) {
		list = append(list, fmt.Sprintf("its disk is almost full, %d of %d MiB are free: it gets instances last. Give it a larger one, or drain it and make room", n.Facts.DiskFree>>20, n.Facts.Disk>>20))
	}
	if hot(n.Facts) && !n.Lost {
		list = append(list, fmt.Sprintf("its processor has %.0f °C, works more slowly, and switches itself off at %.0f °C: give it air or a heat sink", n.Facts.Heat, n.Facts.HeatMost))
	}
	if n.Facts.PowerLow && !n.Lost {
		list = append(list, "its supply had too little voltage within the last hour: such a machine works more slowly, stops, or spoils its card. Give it a stronger supply, or a shorter cable")
	}
	if b.double != "" && d.c.Now().Sub(b.doubled) <= doubleLife {
		list = append(list, "another machine, at "+b.double+", has the same key and is refused: a card was copied; remove node/node.key from the data directory of one of them")
	}
	if old, ok := former(n, all); ok {
		return append(list, fmt.Sprintf("%s (%s), which is lost, tells the same serial number: this is that machine after its card was written anew, or one that says so. It can take the place of that entry, whose key is refused from then on", old.Name, old.ID)), old.ID
	}
	i := slices.IndexFunc(all, func(o store.Node) bool {
		return o.ID != n.ID && n.Facts.Serial != "" && o.Facts.Serial == n.Facts.Serial
	})
	if i >= 0 {
		list = append(list, fmt.Sprintf("%s (%s) tells the same serial number: two machines cannot have one, but a machine that joined twice can; remove the entry that is not heard any more", all[i].Name, all[i].ID))
	}
	return list, ""
}
