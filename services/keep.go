package services

import (
	"slices"
	"strings"

	"nutshell/roles/api"
)

// Keep chooses the n instances that stay: those named in prefer leave first,
// then the newest. Both results are sorted by age, oldest first.
func Keep(have []api.Instance, n int, prefer []string) (stay, leave []api.Instance) {
	sorted := slices.SortedStableFunc(slices.Values(have), func(a, b api.Instance) int {
		if pa, pb := slices.Contains(prefer, a.ID), slices.Contains(prefer, b.ID); pa != pb {
			if pa {
				return 1
			}
			return -1
		}
		return Older(a, b)
	})
	n = min(max(n, 0), len(sorted))
	stay, leave = sorted[:n:n], sorted[n:]
	slices.SortStableFunc(stay, Older)
	slices.SortStableFunc(leave, Older)
	return stay, leave
}

// Older orders instances by age, and by id where that is equal, so that every
// plan comes out the same however its input is ordered.
func Older(a, b api.Instance) int {
	if c := a.Created.Compare(b.Created); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}
