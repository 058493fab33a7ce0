package gitserver

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
)

// packed makes packs, good and bad ones.
type packed struct{ bytes.Buffer }

func newPacked(count int) *packed {
	p := &packed{}
	p.WriteString("PACK\x00\x00\x00\x02")
	_ = binary.Write(p, binary.BigEndian, uint32(count))
	return p
}

func (p *packed) head(kind plumbing.ObjectType, size int64) *packed {
	b := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		p.WriteByte(b | 0x80)
		b = byte(size & 0x7f)
	}
	p.WriteByte(b)
	return p
}

func (p *packed) data(b []byte) *packed {
	z := zlib.NewWriter(p)
	_, _ = z.Write(b)
	_ = z.Close()
	return p
}

func (p *packed) object(kind plumbing.ObjectType, b string) *packed {
	return p.head(kind, int64(len(b))).data([]byte(b))
}

func (p *packed) done() []byte {
	sum := sha1.Sum(p.Bytes())
	p.Write(sum[:])
	return p.Bytes()
}

func take(t testing.TB, pack []byte) (*indexer, error) {
	x := &indexer{dir: t.TempDir(), limits: Limits{Push: 1 << 20, File: 1 << 20}, inflate: &inflaters{}}
	t.Cleanup(x.close)
	return x, x.takeIn(context.Background(), bufio.NewReader(bytes.NewReader(pack)))
}

func tree(entries ...string) string { // mode name hash
	var b strings.Builder
	for i := 0; i < len(entries); i += 3 {
		h := plumbing.NewHash(entries[i+2])
		b.WriteString(entries[i] + " " + entries[i+1] + "\x00" + string(h[:]))
	}
	return b.String()
}

const (
	someID = "0123456789012345678901234567890123456789"
	person = " A <a@b.c> 1700000000 +0100\n"
)

func TestHostilePacks(t *testing.T) {
	blob := plumbing.ComputeHash(plumbing.BlobObject, []byte("base")).String()
	deltaOf := func(d string) []byte {
		p := newPacked(2).object(plumbing.BlobObject, "base")
		h := plumbing.NewHash(blob)
		p.head(plumbing.REFDeltaObject, int64(len(d)))
		p.Write(h[:])
		return p.data([]byte(d)).done()
	}
	good := newPacked(2).object(plumbing.BlobObject, "base").object(plumbing.TreeObject, tree("100644", "a", blob)).done()
	for _, c := range []struct {
		name string
		pack []byte
		want string // "" is a good one
	}{
		{"good", good, ""},
		{"empty", newPacked(0).done(), ""},
		{"delta", deltaOf("\x04\x08\x90\x04\x04tail"), ""},
		{"cut-off", good[:len(good)-25], "EOF"},
		{"no-pack", []byte("hello, this is no pack at all"), "does not begin"},
		{"old-version", append([]byte("PACK\x00\x00\x00\x03"), good[8:]...), "does not begin"},
		{"wrong-sum", append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), "checksum"},
		{"goes-on", append(bytes.Clone(good), 'x'), "follows its end"},
		{"too-many-objects", newPacked(maxObjects + 1).done(), "more than 2000000 objects"},
		{"more-than-it-says", newPacked(1).head(plumbing.BlobObject, 3).data([]byte("base")).done(), "longer than it says"},
		{"less-than-it-says", newPacked(1).head(plumbing.BlobObject, 5).data([]byte("base")).done(), "shorter than it says"},
		{"huge", newPacked(1).head(plumbing.BlobObject, 1<<50).data(nil).done(), "more than 1 MiB"},
		{"endless-size", append(newPacked(1).Bytes(), bytes.Repeat([]byte{0xbf}, 40)...), "too large"},
		{"no-kind", newPacked(1).head(5, 1).data([]byte("x")).done(), "kind that does not exist"},
		{"no-zlib", append(newPacked(1).head(plumbing.BlobObject, 4).Bytes(), "never packed"...), "damaged"},
		{"base-before-all", newPacked(1).head(plumbing.OFSDeltaObject, 2).done(), "damaged"},
		{"delta-without-base", func() []byte {
			p := newPacked(1).head(plumbing.REFDeltaObject, 4)
			p.Write(make([]byte, 20))
			return p.data([]byte("\x04\x04\x90\x04")).done()
		}(), "without their bases"},
		{"delta-copies-beyond", deltaOf("\x04\x05\x90\x05"), "copies what its base has not"},
		{"delta-of-other", deltaOf("\x05\x04\x90\x04"), "another base"},
		{"delta-makes-more", deltaOf("\x04\x02\x04tail"), "makes more"},
		{"delta-breaks-off", deltaOf("\x04\x09\x90\x04\x04ta"), "breaks off"},
		{"delta-goes-on", deltaOf("\x04\x04\x90\x04\x90\x04"), "goes on"},
		{"delta-order-zero", deltaOf("\x04\x04\x00"), "means nothing"},
		{"delta-of-a-terabyte", deltaOf("\x04\x80\x80\x80\x80\x80\x20\x90\x04"), "more than 1 MiB"},
		{"tree-up", newPacked(1).object(plumbing.TreeObject, tree("40000", "..", someID)).done(), `".."`},
		{"tree-git", newPacked(1).object(plumbing.TreeObject, tree("40000", ".GIT", someID)).done(), "git's own"},
		{"tree-git-windows", newPacked(1).object(plumbing.TreeObject, tree("40000", "git~1", someID)).done(), "git's own"},
		{"tree-slash", newPacked(1).object(plumbing.TreeObject, tree("100644", "a/b", someID)).done(), `"a/b"`},
		{"tree-unsorted", newPacked(1).object(plumbing.TreeObject, tree("100644", "b", someID, "100644", "a", someID)).done(), "not sorted"},
		{"tree-twice", newPacked(1).object(plumbing.TreeObject, tree("100644", "a", someID, "100644", "a", someID)).done(), "not sorted"},
		{"tree-mode", newPacked(1).object(plumbing.TreeObject, tree("104755", "a", someID)).done(), "mode"},
		{"tree-cut", newPacked(1).object(plumbing.TreeObject, tree("100644", "a", someID)[:12]).done(), "not well made"},
		{"tree-file-as-tree", newPacked(1).object(plumbing.TreeObject, tree("100644", "a", someID, "40000", "b", someID)).done(), "is wanted as"},
		{"commit-empty", newPacked(1).object(plumbing.CommitObject, "").done(), "tree"},
		{"commit-no-author", newPacked(1).object(plumbing.CommitObject, "tree "+someID+"\ncommitter"+person+"\nx").done(), "author"},
		{"commit-bad-person", newPacked(1).object(plumbing.CommitObject, "tree "+someID+"\nauthor <>\ncommitter"+person+"\nx").done(), "author"},
		{"commit-good", newPacked(1).object(plumbing.CommitObject, "tree "+someID+"\nauthor"+person+"committer"+person+"\nx").done(), ""},
		{"tag-empty", newPacked(1).object(plumbing.TagObject, "object "+someID+"\n").done(), "tag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := take(t, c.pack)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// stream is what a client sends, and nobody listening to the answer.
type stream struct {
	io.Reader
	io.Writer
}

func pushOf(pack []byte, commands ...string) []byte {
	var b bytes.Buffer
	e := pktline.NewEncoder(&b)
	for i, c := range commands {
		if i == 0 {
			c += "\x00 report-status side-band-64k"
		}
		_ = e.EncodeString(c)
	}
	_ = e.Flush()
	b.Write(pack)
	return b.Bytes()
}

func hostless(t testing.TB) *Server {
	r := &rig{t: t, dir: t.TempDir(), keys: map[string]string{}}
	s, err := New(Config{Dir: filepath.Join(r.dir, "git"), Host: r, Limits: Limits{Push: 1 << 20, File: 1 << 20}, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHostilePushes speaks to the server without git: what it would not say
// itself is refused, and the references stay as they are.
func TestHostilePushes(t *testing.T) {
	zero := plumbing.ZeroHash.String()
	c := "tree " + someID + "\nauthor" + person + "committer" + person + "\nx"
	id := plumbing.ComputeHash(plumbing.CommitObject, []byte(c)).String()
	pack := newPacked(1).object(plumbing.CommitObject, c).done()
	blob := newPacked(1).object(plumbing.BlobObject, "x").done()
	blobID := plumbing.ComputeHash(plumbing.BlobObject, []byte("x")).String()
	for _, p := range []struct {
		name string
		sent []byte
		want string
	}{
		{"tree-missing", pushOf(pack, zero+" "+id+" refs/heads/main"), "which is not there"},
		{"object-missing", pushOf(newPacked(0).done(), zero+" "+someID+" refs/heads/main"), "was not sent"},
		{"branch-of-a-file", pushOf(blob, zero+" "+blobID+" refs/heads/main"), "must show a commit"},
		{"name-up", pushOf(blob, zero+" "+blobID+" refs/tags/../../x"), "cannot be a name"},
		{"name-head", pushOf(blob, zero+" "+blobID+" HEAD"), "must begin with"},
		{"name-lock", pushOf(blob, zero+" "+blobID+" refs/tags/a.lock"), "cannot be a name"},
		{"name-line", pushOf(blob, zero+" "+blobID+" refs/tags/a\nb"), "control characters"},
		{"name-long", pushOf(blob, zero+" "+blobID+" refs/tags/"+strings.Repeat("a", 300)), "too long"},
		{"old-is-wrong", pushOf(blob, someID+" "+blobID+" refs/tags/a"), "fetch first"},
		{"delete-nothing", pushOf(nil, zero+" "+zero+" refs/tags/a"), "does not exist"},
	} {
		t.Run(p.name, func(t *testing.T) {
			s := hostless(t)
			r, err := s.repository(1, true)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			err = s.receivePack(t.Context(), r, stream{bytes.NewReader(p.sent), &out}, func([]Change, io.Writer) { t.Error("something was pushed") })
			if err != nil || !strings.Contains(out.String(), p.want) {
				t.Errorf("%v, want %q in %q", err, p.want, out.String())
			}
			if all, err := r.refs(); err != nil || len(all) != 0 {
				t.Errorf("references: %v, %v", all, err)
			}
		})
	}
}

func FuzzPack(f *testing.F) {
	f.Add(newPacked(1).object(plumbing.BlobObject, "base").done())
	f.Add(newPacked(1).object(plumbing.TreeObject, tree("100644", "a", someID)).done())
	p := newPacked(2).object(plumbing.BlobObject, "base")
	h := plumbing.ComputeHash(plumbing.BlobObject, []byte("base"))
	p.head(plumbing.REFDeltaObject, 9)
	p.Write(h[:])
	f.Add(p.data([]byte("\x04\x08\x90\x04\x04tail")).done())
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > trailer { // or nothing would come behind the checksum
			sum := sha1.Sum(b[:len(b)-trailer])
			copy(b[len(b)-trailer:], sum[:])
		}
		x, err := take(t, b)
		if err != nil {
			return
		}
		for _, e := range x.entries { // what was taken in can be found again
			if off, err := x.index.FindOffset(e.hash); err != nil || off > int64(len(b)) {
				t.Errorf("%s is at %d: %v", e.hash, off, err)
			}
		}
	})
}

func FuzzPush(f *testing.F) {
	zero := plumbing.ZeroHash.String()
	blobID := plumbing.ComputeHash(plumbing.BlobObject, []byte("x")).String()
	f.Add(pushOf(newPacked(1).object(plumbing.BlobObject, "x").done(), zero+" "+blobID+" refs/tags/a"))
	f.Add(pushOf(nil, someID+" "+zero+" refs/heads/main"))
	f.Add([]byte("0000"))
	f.Add([]byte("0032shallow " + someID + "0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := hostless(t)
		r, err := s.repository(1, true)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.receivePack(t.Context(), r, stream{bytes.NewReader(b), io.Discard}, func([]Change, io.Writer) {}) // any answer will do
		all, err := r.refs()
		if err != nil {
			t.Fatal(err)
		}
		o, err := r.objects(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer o.close()
		for name, at := range all {
			if !o.has(at.id) || checkRefName(name) != nil {
				t.Errorf("%q shows %s", name, at.id)
			}
		}
		if left, _ := os.ReadDir(filepath.Join(r.dir, "incoming")); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func FuzzFetch(f *testing.F) {
	line := func(lines ...string) []byte {
		var b bytes.Buffer
		e := pktline.NewEncoder(&b)
		for _, l := range lines {
			if l == "" {
				_ = e.Flush()
			} else {
				_ = e.EncodeString(l + "\n")
			}
		}
		return b.Bytes()
	}
	s := hostless(f)
	r, err := s.repository(1, true)
	if err != nil {
		f.Fatal(err)
	}
	empty := plumbing.ComputeHash(plumbing.TreeObject, nil).String()
	c := "tree " + empty + "\nauthor" + person + "committer" + person + "\nx"
	id := plumbing.ComputeHash(plumbing.CommitObject, []byte(c)).String()
	pack := newPacked(2).object(plumbing.CommitObject, c).object(plumbing.TreeObject, "").done()
	if err := s.receivePack(f.Context(), r, stream{bytes.NewReader(pushOf(pack, plumbing.ZeroHash.String()+" "+id+" refs/heads/main")), io.Discard}, func([]Change, io.Writer) {}); err != nil {
		f.Fatal(err)
	}
	f.Add(line(""))
	f.Add(line("want "+id+" multi_ack_detailed side-band-64k ofs-delta", "", "done"))
	f.Add(line("want "+id+" side-band", "shallow "+id, "deepen 1", "", "have "+id, "", "done"))
	f.Add(line("want "+id, "deepen 2147483647", "", "done"))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := s.uploadPack(t.Context(), r, stream{bytes.NewReader(b), io.Discard})
		if err != nil && strings.Contains(err.Error(), "is missing") {
			t.Errorf("it gave what is not there: %v", err)
		}
	})
}

func FuzzTexts(f *testing.F) {
	f.Add(tree("100644", "a", someID), 0)
	f.Add("tree "+someID+"\nauthor"+person+"committer"+person+"\nx", 1)
	f.Add("object "+someID+"\ntype commit\ntag x\ntagger"+person+"\nx", 2)
	f.Add("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann", 3)
	f.Fuzz(func(t *testing.T, s string, what int) {
		switch what {
		case 0, 1, 2:
			kind := []plumbing.ObjectType{plumbing.TreeObject, plumbing.CommitObject, plumbing.TagObject}[what]
			if err := (needs{}).note(kind, []byte(s)); err != nil && !errors.Is(err, errDamaged) {
				t.Errorf("%s: %v", kind, err)
			}
		default:
			if keys, err := ParseKeys(s); err == nil {
				for _, k := range keys {
					if again, err := ParseKeys(k.Line); err != nil || len(again) != 1 || again[0].Fingerprint != k.Fingerprint {
						t.Errorf("%q: %v", k.Line, err)
					}
				}
			}
		}
	})
}
