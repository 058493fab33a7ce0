package mysql

import (
	"fmt"
	"slices"
	"strings"
)

// seen is one database node as the manager half sees it.
type seen struct {
	ID, Address string
	Error       string // why its agent does not answer
	State       nodeState
}

func (s seen) synced() bool { return s.Error == "" && s.State.Synced }

// fit reports whether a node can serve: one that gives its data to another can.
func (s seen) fit() bool { return s.Error == "" && (s.State.Synced || s.State.Donor) }

// primary reports whether some node has quorum, so that all others join it.
func primary(all []seen) bool {
	return slices.ContainsFunc(all, func(s seen) bool { return s.Error == "" && s.State.Primary })
}

// latest is the membership that was remembered last, among those on all volumes.
func latest(all []seen) membership {
	var m membership
	for _, s := range all {
		if s.Error == "" && s.State.Membership.Generation > m.Generation {
			m = s.State.Membership
		}
	}
	return m
}

// mayBegin tells why no cluster may be begun now; empty: one may. volumes are
// all of the service's. A user's force overrules volumes that are not there.
func mayBegin(all []seen, volumes []string, force bool) string {
	if len(all) == 0 {
		return "there is no database node"
	}
	var silent, have []string
	for _, s := range all {
		if s.Error != "" {
			silent = append(silent, s.ID)
		} else {
			have = append(have, s.State.Volume)
		}
	}
	if len(silent) > 0 {
		return fmt.Sprintf("no node has quorum, and %s does not answer: its data may be the newest", strings.Join(silent, ", "))
	}
	if force {
		return ""
	}
	needed := latest(all).Holders
	if len(needed) == 0 && !slices.ContainsFunc(all, func(s seen) bool { return !s.State.Fresh }) {
		needed = volumes // nothing is known, and empty nodes must not begin beside data
	}
	var missing []string
	for _, v := range needed {
		if !slices.Contains(have, v) {
			missing = append(missing, v)
		}
	}
	if len(missing) > 0 {
		return fmt.Sprintf("no node has quorum, and volume %s has not been seen: its data may be the newest. Bring it back by as many nodes as there were, or give it up with the action force_bootstrap", strings.Join(missing, ", "))
	}
	return ""
}

// origin is who begins a cluster.
type origin struct {
	ID    string
	Live  bool // it runs, and only needs quorum
	Fresh bool // there is no data anywhere
}

// mostAdvanced chooses who begins a cluster. at is how far the data of each
// node is. Volumes that left in order count only where no other has data.
func mostAdvanced(all []seen, at map[string]position, force bool) (origin, string) {
	holders := latest(all).Holders
	list := slices.DeleteFunc(slices.Clone(all), func(s seen) bool { return !at[s.ID].known() })
	of := func(s seen) bool { return slices.Contains(holders, s.State.Volume) }
	if slices.ContainsFunc(list, of) {
		list = slices.DeleteFunc(list, func(s seen) bool { return !of(s) })
	}
	if len(list) == 0 {
		if slices.ContainsFunc(all, func(s seen) bool { return !s.State.Fresh }) {
			return origin{}, "no node can say how far its data is; restore a backup"
		}
		return origin{ID: all[0].ID, Fresh: true}, ""
	}
	best := list[0]
	for _, s := range list {
		if at[s.ID].History != at[best.ID].History && !force {
			return origin{}, fmt.Sprintf("%s and %s hold different histories; choose one with the action force_bootstrap", best.ID, s.ID)
		}
		a, b := at[s.ID], at[best.ID]
		if a.Number > b.Number || a.Number == b.Number && s.State.Answers && !best.State.Answers {
			best = s
		}
	}
	return origin{ID: best.ID, Live: best.State.Answers}, ""
}

// chooseWriter keeps the writer there is, if it is fit and stays; else it takes
// the first that is.
func chooseWriter(all []seen, now string, leaving []string) string {
	fit := func(s seen) bool { return s.fit() && !slices.Contains(leaving, s.ID) }
	for _, s := range all {
		if s.ID == now && fit(s) {
			return now
		}
	}
	for _, s := range all {
		if fit(s) {
			return s.ID
		}
	}
	return ""
}

// inOrder puts the writer last, and those that are in the cluster before those
// that are not: the first know of the others before they come, and whoever
// takes writes is disturbed once, at the end.
func inOrder(all []seen, writer string) []seen {
	rank := func(s seen) int {
		switch {
		case s.ID == writer:
			return 1
		case s.State.Primary:
			return 0
		}
		return 2
	}
	list := slices.Clone(all)
	slices.SortStableFunc(list, func(a, b seen) int { return rank(a) - rank(b) })
	return list
}
