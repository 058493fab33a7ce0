package session

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// copies is how many stores keep each session where there are as many.
const copies = 3

// Peer is one store of the service.
type Peer struct {
	Instance string `json:"instance"`
	Address  string `json:"address"`
	Port     int    `json:"port"`
}

// ring orders stores for a key: the first ones keep it. It is rendezvous
// hashing: a store that comes or goes moves its own share and nothing else.
func ring(peers []Peer, key string) []Peer {
	type scored struct {
		Peer
		score uint64
	}
	all := make([]scored, len(peers))
	for i, p := range peers {
		h := fnv.New64a()
		_, _ = h.Write([]byte(p.Instance)) // a hash takes everything
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(key))
		all[i] = scored{p, mix(h.Sum64())}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.Instance, b.Instance))
	})
	list := make([]Peer, len(all))
	for i, s := range all {
		list[i] = s.Peer
	}
	return list
}

// mix spreads what FNV leaves alike in similar names (the end of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
