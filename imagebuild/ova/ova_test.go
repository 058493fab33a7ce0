package ova

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func machine() Machine {
	return Machine{Name: `Nut <"shell"> & co`, Product: "Nutshell", Version: "1.0", OSType: "Debian_64", CPUs: 2, MemoryMB: 2048,
		Networks: []Network{{"NAT", "the Internet"}, {"HostOnly", "this machine"}}}
}

// sample is a disk with holes, with bytes that do not compress, and with a
// last table that is not full.
func sample() []byte {
	b := make([]byte, 48<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b[:300<<10])
	_, _ = r.Read(b[33<<20 : 33<<20+70000])
	copy(b[len(b)-512:], "the end")
	return b
}

// file is a disk on this machine, with holes where b has zeros.
func file(t *testing.T, b []byte) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	zero := make([]byte, 4096)
	for at := 0; at < len(b); at += len(zero) {
		if piece := b[at:min(at+len(zero), len(b))]; !bytes.Equal(piece, zero) {
			if _, err := f.WriteAt(piece, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	return f
}

func written(t *testing.T, dir string, raw []byte) []byte {
	t.Helper()
	path := filepath.Join(dir, "nutshell.ova")
	if err := Write(t.Context(), path, machine(), file(t, raw), int64(len(raw)), epoch, nil); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatIsPackedComesOut(t *testing.T) {
	dir, raw := t.TempDir(), sample()
	packed := written(t, dir, raw)
	if again := written(t, t.TempDir(), raw); !bytes.Equal(packed, again) {
		t.Error("packed twice, the bytes differ")
	}
	got := make([]byte, len(raw))
	facts, err := Check(bytes.NewReader(packed), func(at int64, data []byte) error {
		copy(got[at:], data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, raw) {
		t.Error("the disk that comes out is another one")
	}
	m := machine()
	if facts.Name != m.Name || facts.CPUs != m.CPUs || facts.MemoryMB != m.MemoryMB || facts.Capacity != int64(len(raw)) || !slices.Equal(facts.Networks, []string{"NAT", "HostOnly"}) {
		t.Errorf("facts: %+v", facts)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestDamageIsFound turns single bytes over, at places that every importer
// must look at and at random ones.
func TestDamageIsFound(t *testing.T) {
	file := written(t, t.TempDir(), sample())
	nothing := func(int64, []byte) error { return nil }
	r := rand.New(rand.NewPCG(1, 2))
	places := []int{600, bytes.Index(file, []byte("2048")), bytes.Index(file, []byte("SHA256("))}
	for range 40 {
		places = append(places, r.IntN(len(file)-1024)) // the end of a tar is zeros that nobody reads
	}
	missed := 0
	for _, at := range places {
		bad := bytes.Clone(file)
		bad[at] ^= 0x10
		if _, err := Check(bytes.NewReader(bad), nothing); err == nil {
			missed++
			t.Logf("byte %d turned over, and nobody noticed", at)
		}
	}
	if missed > 2 { // padding between the files of a tar has no sum
		t.Errorf("%d of %d damages were not found", missed, len(places))
	}
	for _, n := range []int{0, 511, 5000, len(file) / 2, len(file) - 2048} {
		if _, err := Check(bytes.NewReader(file[:n]), nothing); err == nil {
			t.Errorf("cut at %d bytes, and nobody noticed", n)
		}
	}
}

// TestOneOfEachKind puts a second disk before the one that the sums are of.
func TestOneOfEachKind(t *testing.T) {
	for _, twice := range []string{".ovf", ".vmdk", ".mf"} {
		var b bytes.Buffer
		in, out := tar.NewReader(bytes.NewReader(written(t, t.TempDir(), sample()))), tar.NewWriter(&b)
		for {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			for range map[bool]int{true: 2, false: 1}[filepath.Ext(h.Name) == twice] {
				if err := errors.Join(out.WriteHeader(h), second(out.Write(body))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Check(&b, func(int64, []byte) error { return nil }); err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("%s twice: %v", twice, err)
		}
	}
}

func second(_ int, err error) error { return err }

func TestBrokenOffLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("enough")
	err := Write(ctx, filepath.Join(dir, "x.ova"), machine(), file(t, sample()), 48<<20, epoch, func(float64) { cancel(reason) })
	if !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	gone := file(t, sample())
	_ = gone.Close()
	if err := Write(t.Context(), filepath.Join(dir, "x.ova"), machine(), gone, 48<<20, epoch, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := Write(t.Context(), filepath.Join(dir, "x.ova"), machine(), file(t, sample()), 32<<20, epoch, nil); err == nil {
		t.Error("a disk larger than its capacity was cut")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestQemuReadsIt asks another reader of the format.
func TestQemuReadsIt(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("qemu-img is missing: apt-get install qemu-utils")
		}
		t.Skip("qemu-img is missing")
	}
	dir, raw := t.TempDir(), sample()
	var b bytes.Buffer
	if err := WriteVMDK(t.Context(), &b, file(t, raw), int64(len(raw)), "d.vmdk", func(float64) {}); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"d.vmdk": b.Bytes(), "d.raw": raw} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"check", "-f", "vmdk", "d.vmdk"}, {"compare", "-f", "vmdk", "-F", "raw", "d.vmdk", "d.raw"}} {
		cmd := exec.CommandContext(t.Context(), "qemu-img", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("qemu-img %v: %v\n%s", args, err, out)
		}
	}
}
