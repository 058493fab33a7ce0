package rootdisk

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

func head(kind byte, start, sectors uint32) []byte {
	b := make([]byte, 512)
	b[510], b[511] = 0x55, 0xaa
	binary.LittleEndian.PutUint32(b[446+8:], 8192)
	b[462+4] = kind
	binary.LittleEndian.PutUint32(b[462+8:], start)
	binary.LittleEndian.PutUint32(b[462+12:], sectors)
	return b
}

func TestGrownTable(t *testing.T) {
	const start, made = 335872, 1 << 20
	used := head(0x83, start, made)
	used[446+32+4] = 0x83
	for _, c := range []struct {
		name  string
		head  []byte
		size  uint64
		want  uint32 // sectors afterwards
		grows bool
		err   string
	}{
		{"larger-card", head(0x83, start, made), 32 << 30, (32<<30/512 - start) / unit * unit, true, ""},
		{"again", head(0x83, start, (32<<30/512-start)/unit*unit), 32 << 30, (32<<30/512 - start) / unit * unit, false, ""},
		{"exact-card", head(0x83, start, made), (start + made) * 512, made, false, ""},
		{"a-little-larger", head(0x83, start, made), (start + made + 100) * 512, made, false, ""},
		{"beyond-the-table", head(0x83, start, made), 4 << 40, (1<<32 - 1 - start) / unit * unit, true, ""},
		{"smaller-card", head(0x83, start, made), 1 << 28, 0, false, "smaller"},
		{"other-kind", head(0x0c, start, made), 32 << 30, 0, false, "not the root"},
		{"gpt", make([]byte, 512), 32 << 30, 0, false, "no table"},
		{"rest-in-use", used, 32 << 30, made, false, ""},
		{"before-the-boot-partition", head(0x83, 2048, 2048), 32 << 30, 0, false, "order"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.head)
			next, _, sectors, err := grownTable(c.head, c.size, 2)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil || sectors != c.want || (next != nil) != c.grows {
				t.Fatalf("got %d sectors, table %v, error %v; want %d, %v", sectors, next != nil, err, c.want, c.grows)
			}
			if !bytes.Equal(before, c.head) {
				t.Error("the input was changed")
			}
			if next != nil && (binary.LittleEndian.Uint32(next[474:]) != c.want || !bytes.Equal(next[:474], before[:474]) || !bytes.Equal(next[478:], before[478:])) {
				t.Error("more than the size of partition 2 was changed")
			}
		})
	}
}
