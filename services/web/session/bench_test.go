package session

import (
	"fmt"
	"testing"
)

// BenchmarkVisit is what one page of a visitor without a cookie asks of the
// only store there is, on a connection of its own, as PHP makes it.
func BenchmarkVisit(b *testing.B) {
	for _, old := range []int{0, 50_000} {
		b.Run(fmt.Sprintf("among-%d", old), func(b *testing.B) {
			n := startNodes(b, 1)[0]
			n.disk.limit.Store(256 << 20)
			value := []byte(fmt.Sprintf("%0300d", 7))
			for i := range old / 500 {
				var list []entry
				for j := range 500 {
					list = append(list, entry{Key: fmt.Sprintf("PHPREDIS_SESSION:old%d-%d", i, j), Version: 1, Expires: n.millis() + 3600_000, Value: value})
				}
				if err := n.disk.put(list...); err != nil {
					b.Fatal(err)
				}
			}
			f := newFront(n.cluster)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p := dialPHP(b, n)
				key := fmt.Sprintf("PHPREDIS_SESSION:%016x", uint64(i)*0x9E3779B97F4A7C15)
				for _, ask := range [][]string{{"SET", key + "_LOCK", "token", "NX", "PX", "30000"}, {"GET", key}, {"GET", key + "_LOCK"}, {"SETEX", key, "1440", string(value)}, {"EVALSHA", f.release, "1", key + "_LOCK", "token"}} {
					p.do(ask...)
				}
				_ = p.c.Close()
			}
		})
	}
}
