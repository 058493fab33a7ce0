package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// pulledMoments is how many moments TestCardPulled looks at.
const pulledMoments = 150

// How far a card had come that was pulled, and is started again.
const (
	tableGrown  = "the table grown"
	partlyGrown = "the file system grown in part"
)

// TestCardPulled records all that a card is told to write at its first start,
// and makes cards of it that were pulled at random moments, most of them while
// they grew: of what was written since the card was last told to keep all, some
// is lost. Each has a table that counts and a file system that needs no more
// than its journal, and those that are started again grow to the end.
func TestCardPulled(t *testing.T) {
	file := cardFile(t)
	h := openHall(t)
	img := unpackCard(t, file)
	dir := filepath.Dir(img)
	before := filepath.Join(dir, "before.img")
	sparse(t, img, before)
	log := filepath.Join(dir, "writes")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := h.plug(t, img, "-blockdev", "driver=file,filename="+img+",node-name=f0", "-blockdev", "driver=raw,file=f0,node-name=r0",
		"-blockdev", "driver=file,filename="+log+",node-name=l0", "-blockdev", "driver=blklogwrites,file=r0,log=l0,node-name=d0")
	m.sees(t, `of them are used now`, "the growing")
	m.sees(t, `wants to join`, "the wish to join")
	time.Sleep(writeTime)
	m.end(syscall.SIGTERM) // what it has recorded is written
	writes := readWrites(t, log)
	if err := errors.Join(os.Remove(log), os.Remove(img)); err != nil {
		t.Fatal(err)
	}

	grows := slices.IndexFunc(writes, func(w write) bool { return w.at == 0 })
	if grows < 0 {
		t.Fatal("the table of partitions was never written")
	}
	written, grown := rootBytes(t, readHead(t, before)), rootBytes(t, writes[grows].data)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("NUTSHELL_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d writes, the table is number %d; NUTSHELL_SEED=%d repeats the moments", len(writes), grows, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	moments := []int{grows, grows + 1, len(writes)}
	for range pulledMoments {
		moments = append(moments, grows+r.IntN(len(writes)-grows+1))
	}
	slices.Sort(moments)
	seen, done := map[string]int{}, 0 // done: up to which write the card keeps all
	for i, at := range slices.Compact(moments) {
		flushed := lastFlush(writes[:at])
		apply(t, before, writes[done:flushed], nil)
		done = flushed
		pulled := filepath.Join(dir, fmt.Sprintf("pulled-%d.img", i))
		sparse(t, before, pulled)
		apply(t, pulled, writes[flushed:at], r)
		table := rootBytes(t, readHead(t, pulled))
		if table != written && table != grown {
			t.Errorf("pulled behind write %d: the root partition has %d bytes, not %d or %d", at, table, written, grown)
		}
		holds := checked(t, pulled)
		state := partlyGrown
		switch {
		case table == written && holds == written:
			state = "as written"
		case holds == written:
			state = tableGrown
		case holds > grown/10*9:
			state = "grown"
		}
		seen[state]++
		t.Logf("pulled behind write %d: %s", at, state)
		if seen[state] == 1 && (state == tableGrown || state == partlyGrown) {
			again := h.plug(t, pulled)
			again.sees(t, `of them are used now`, "the growing of a card that was pulled with "+state)
			again.sees(t, `wants to join`, "the wish to join")
			again.stop()
		}
		if err := os.Remove(pulled); err != nil {
			t.Fatal(err)
		}
	}
	t.Log(seen)
	for _, state := range []string{tableGrown, "grown"} {
		if seen[state] == 0 {
			t.Errorf("no card was pulled with %s", state)
		}
	}
}

// write is one order to a card.
type write struct {
	at    int64
	data  []byte
	kept  bool  // when it is done, all orders before are, too
	zeros int64 // bytes that are given up, in place of data
}

// readWrites reads what QEMU's blklogwrites recorded, in the form of the
// kernel's dm-log-writes.
func readWrites(t *testing.T, file string) []write {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if len(b) < 512 || le.Uint64(b) != 0x6a736677736872 || le.Uint32(b[24:]) != 512 {
		t.Fatal("QEMU recorded in another form")
	}
	entries := le.Uint64(b[16:])
	var list []write
	for b = b[512:]; uint64(len(list)) < entries; {
		if len(b) < 512 {
			t.Fatalf("the record ends behind %d of %d entries", len(list), entries)
		}
		const flush, fua, discard = 1, 2, 4
		sector, sectors, flags := le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])
		w := write{at: int64(sector) * 512, kept: flags&(flush|fua) != 0}
		b = b[512:]
		if flags&discard != 0 {
			w.zeros = int64(sectors) * 512
		} else {
			w.data, b = b[:sectors*512], b[sectors*512:]
		}
		if flags&flush != 0 && sectors == 0 {
			w.at = -1
		}
		list = append(list, w)
	}
	return list
}

// lastFlush is behind the last order that has all before it kept.
func lastFlush(list []write) int {
	for i := len(list); i > 0; i-- {
		if list[i-1].kept {
			return i
		}
	}
	return 0
}

// apply carries out writes; with r pieces of them are lost.
func apply(t *testing.T, file string, list []write, r *rand.Rand) {
	t.Helper()
	const piece = 4096
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, w := range list {
		for n := int64(0); n < int64(len(w.data)); n += piece {
			if r != nil && r.IntN(2) == 0 {
				continue
			}
			if _, err := f.WriteAt(w.data[n:min(n+piece, int64(len(w.data)))], w.at+n); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func readHead(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 512)
	if _, err := io.ReadFull(f, head); err != nil {
		t.Fatal(err)
	}
	return head
}

const secondPartition = 446 + 16

// rootBytes is how large a table says that the root partition is.
func rootBytes(t *testing.T, head []byte) int64 {
	t.Helper()
	if !bytes.Equal(head[510:512], []byte{0x55, 0xaa}) {
		t.Fatal("there is no table of partitions")
	}
	return int64(binary.LittleEndian.Uint32(head[secondPartition+12:])) * 512
}

// checked does for a card's file system what its next start does, which is to
// carry out what the journal has, and looks for anything that is wrong then. It
// returns how large the file system is.
func checked(t *testing.T, card string) int64 {
	t.Helper()
	at := int64(binary.LittleEndian.Uint32(readHead(t, card)[secondPartition+8:])) * 512
	root := card + ".root"
	defer os.Remove(root)
	if out, err := exec.CommandContext(t.Context(), "dd", "if="+card, "of="+root, "bs=4M", "iflag=skip_bytes", fmt.Sprintf("skip=%d", at), "conv=sparse", "status=none").CombinedOutput(); err != nil {
		t.Fatalf("dd: %v: %s", err, out)
	}
	// It mends counts that are never written in time, and says 1 then. With anything worse it gives up.
	out, err := exec.CommandContext(t.Context(), "e2fsck", "-fp", root).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Errorf("the file system: %v: %s", err, out)
	}
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	super := make([]byte, 1024)
	if _, err := f.ReadAt(super, 1024); err != nil {
		t.Fatal(err)
	}
	return (int64(binary.LittleEndian.Uint32(super[4:])) | int64(binary.LittleEndian.Uint32(super[0x150:]))<<32) * 4096
}

func sparse(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "cp", "--sparse=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}
