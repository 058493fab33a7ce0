package rootdisk

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// made is a file with a GPT of these partitions, each behind the other.
func made(t *testing.T, mib int64, parts ...uint64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	le, sectors := binary.LittleEndian, uint64(mib<<20/sectorBytes)
	head := make([]byte, sectorBytes)
	head[446+4], head[510], head[511] = 0xee, 0x55, 0xaa
	le.PutUint32(head[446+8:], 1)
	le.PutUint32(head[446+12:], uint32(sectors-1))
	list := make([]byte, gptArray*sectorBytes)
	at := uint64(gptAlign)
	for i, mib := range parts {
		e := list[i*gptEntry:]
		copy(e, "\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4") // Linux
		e[16] = byte(i + 1)
		le.PutUint64(e[32:], at)
		at += mib << 20 / sectorBytes
		le.PutUint64(e[40:], at-1)
	}
	sector := func(mine, other, array uint64) gpt {
		h := make([]byte, sectorBytes)
		copy(h, "EFI PART\x00\x00\x01\x00")
		le.PutUint32(h[12:], gptHeader)
		for at, v := range map[int]uint64{gptAtMine: mine, gptAtOther: other, gptAtUsable: gptSecond, gptAtLast: sectors - gptArray - 2, 56: 7, gptAtArray: array} {
			le.PutUint64(h[at:], v)
		}
		le.PutUint32(h[80:], gptEntries)
		le.PutUint32(h[84:], gptEntry)
		g := gpt{h, list}
		g.seal()
		return g
	}
	for at, b := range map[uint64][]byte{0: head, gptPrimary: sector(gptPrimary, sectors-1, gptFirst).header, gptFirst: list,
		sectors - 1 - gptArray: list, sectors - 1: sector(sectors-1, gptPrimary, sectors-1-gptArray).header} {
		if _, err := f.WriteAt(b, int64(at)*sectorBytes); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

var threeParts = []uint64{1, 8, 21}

// seen is how long a partition is: what we read, and what another program
// reads where it is installed.
func seen(t *testing.T, f *os.File, number int) uint64 {
	t.Helper()
	g, err := readGPT(f)
	if err != nil {
		t.Fatal(err)
	}
	e := g.list[(number-1)*gptEntry:]
	sectors := binary.LittleEndian.Uint64(e[40:]) - binary.LittleEndian.Uint64(e[32:]) + 1
	if _, err := exec.LookPath("sfdisk"); err != nil {
		t.Log("nobody else looks at the table: install the Debian package fdisk")
		return sectors
	}
	out, err := exec.Command("sfdisk", "--verify", f.Name()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No errors") {
		t.Errorf("sfdisk --verify: %v: %s", err, out)
	}
	out, err = exec.Command("sfdisk", "-d", f.Name()).Output()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("size=%12d", sectors)) {
		t.Errorf("sfdisk does not see %d sectors: %v: %s", sectors, err, out)
	}
	return sectors
}

func TestGrowGPT(t *testing.T) {
	f := made(t, 32, threeParts...)
	before := seen(t, f, 3)
	for _, mib := range []int64{32, 64, 64, 65, 200} {
		if err := f.Truncate(mib << 20); err != nil {
			t.Fatal(err)
		}
		root, err := growTable(f, uint64(mib<<20), 3)
		if err != nil {
			t.Fatal(err)
		}
		got := seen(t, f, 3)
		if got != root.sectors {
			t.Errorf("%d MiB: it said %d sectors, the table says %d", mib, root.sectors, got)
		}
		rest := uint64(mib<<20/sectorBytes) - root.start - got
		if mib > 32 && (rest < gptArray+1 || rest > gptAlign+gptArray+1) || got < before {
			t.Errorf("%d MiB: %d sectors of the disk are left over", mib, rest)
		}
		before = got
	}
	if _, err := growTable(f, 100<<20, 3); err == nil {
		t.Error("a disk that is smaller than its table is taken")
	}
}

// cut is a disk whose power fails behind some writes.
type cut struct {
	*os.File
	left int
}

func (c *cut) WriteAt(b []byte, at int64) (int, error) {
	if c.left--; c.left < 0 {
		return 0, os.ErrClosed
	}
	return c.File.WriteAt(b, at)
}

// TestPowerFails cuts growing between any two writes: the table that the
// kernel reads is the old one or the new one, and the next start ends the work.
func TestPowerFails(t *testing.T) {
	for left := range 6 {
		t.Run(strconv.Itoa(left), func(t *testing.T) {
			f := made(t, 32, threeParts...)
			old := seen(t, f, 3)
			if err := f.Truncate(64 << 20); err != nil {
				t.Fatal(err)
			}
			_, err := growTable(&cut{f, left}, 64<<20, 3)
			if (err == nil) != (left >= 5) {
				t.Fatalf("with %d writes: %v", left, err)
			}
			g, err := readGPT(f)
			if err != nil {
				t.Fatalf("the table cannot be read: %v", err)
			}
			_, root, err := grownGPT(g, 64<<20/sectorBytes, 3)
			if err != nil || root.sectors <= old {
				t.Fatalf("the next start would not grow: %+v, %v", root, err)
			}
			if root, err = growTable(f, 64<<20, 3); err != nil || seen(t, f, 3) != root.sectors {
				t.Errorf("the next start: %+v, %v", root, err)
			}
		})
	}
}

func TestTablesThatStay(t *testing.T) {
	for _, c := range []struct {
		name  string
		table []uint64
		err   string
		spoil func(*os.File)
	}{
		{"rest-in-use", []uint64{1, 8, 10, 4}, "", nil},
		{"header-damaged", threeParts, "damaged", func(f *os.File) { _, _ = f.WriteAt([]byte{1}, sectorBytes+60) }},
		{"list-damaged", threeParts, "damaged", func(f *os.File) { _, _ = f.WriteAt([]byte{1}, 2*sectorBytes+300) }},
		{"no-such-partition", []uint64{1}, "not in it", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := made(t, 32, c.table...)
			if c.spoil != nil {
				c.spoil(f)
			}
			if err := f.Truncate(64 << 20); err != nil {
				t.Fatal(err)
			}
			before := make([]byte, 64<<20)
			if _, err := f.ReadAt(before, 0); err != nil {
				t.Fatal(err)
			}
			_, err := growTable(f, 64<<20, 3)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want %q", err, c.err)
			}
			after := make([]byte, 64<<20)
			if _, err := f.ReadAt(after, 0); err != nil {
				t.Fatal(err)
			}
			if string(before) != string(after) {
				t.Error("the disk was changed")
			}
		})
	}
}

func TestProtective(t *testing.T) {
	f := made(t, 32, threeParts...)
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := growTable(f, 64<<20, 3); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, sectorBytes)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint32(head[446+12:]); got != 64<<20/sectorBytes-1 || !protective(head) {
		t.Errorf("the MBR speaks of %d sectors", got)
	}
}
