// Package ova packs a disk and the description of a virtual machine into one
// file that VirtualBox imports, and checks such files: OVF 1.0, a manifest of
// SHA-256 sums, and a stream-optimised VMDK, in a tar. The same input gives the
// same bytes.
package ova

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Write packs the raw disk into an OVA at path, which appears whole or not at
// all. The capacity is in bytes, the files inside bear the time at. Progress
// may be nil.
func Write(ctx context.Context, path string, m Machine, raw *os.File, capacity int64, at time.Time, progress func(float64)) (err error) {
	if progress == nil {
		progress = func(float64) {}
	}
	name := strings.TrimSuffix(filepath.Base(path), ".ova")
	vmdk, err := os.CreateTemp(filepath.Dir(path), "."+name+"-*.vmdk")
	if err != nil {
		return fmt.Errorf("write OVA: %w", err)
	}
	defer func() { err = errors.Join(err, vmdk.Close(), os.Remove(vmdk.Name())) }()
	sum := sha256.New()
	d := disk{File: name + "-disk1.vmdk", Capacity: capacity}
	if err := WriteVMDK(ctx, io.MultiWriter(vmdk, sum), raw, capacity, d.File, progress); err != nil {
		return fmt.Errorf("write OVA: %w", err)
	}
	if d.Bytes, err = vmdk.Seek(0, io.SeekCurrent); err != nil {
		return fmt.Errorf("write OVA: %w", err)
	}
	if _, err := vmdk.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("write OVA: %w", err)
	}
	text, err := descriptor(m, d)
	if err != nil {
		return fmt.Errorf("write OVA: %w", err)
	}
	ovf := sha256.Sum256([]byte(text))
	// virt-v2v reads this spelling only, VirtualBox reads others, too.
	manifest := fmt.Sprintf("SHA256(%s.ovf)= %x\nSHA256(%s)= %x\n", name, ovf, d.File, sum.Sum(nil))
	out, err := os.CreateTemp(filepath.Dir(path), "."+name+"-*.ova")
	if err != nil {
		return fmt.Errorf("write OVA: %w", err)
	}
	w := tar.NewWriter(out)
	add := func(name string, size int64, r io.Reader) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, ModTime: at, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err := io.Copy(w, r)
		return err
	}
	err = errors.Join(
		add(name+".ovf", int64(len(text)), strings.NewReader(text)), // the standard wants it first
		add(name+".mf", int64(len(manifest)), strings.NewReader(manifest)),
		add(d.File, d.Bytes, vmdk), w.Close(), out.Chmod(0o644), out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write OVA: %w", err), os.Remove(out.Name()))
	}
	return nil
}

// Facts are what Check found in an OVA.
type Facts struct {
	Name     string   `json:"name"`
	CPUs     int      `json:"cpus"`
	MemoryMB int      `json:"memory_mb"`
	Networks []string `json:"networks"`
	Capacity int64    `json:"capacity"` // of its disk, bytes
}

// Check reads an OVA to its end: sums, description, and each grain of the disk,
// which are handed over with their place.
func Check(r io.Reader, grain func(at int64, data []byte) error) (Facts, error) {
	t := tar.NewReader(r)
	var f Facts
	sums, seen, had := map[string]string{}, map[string]hash.Hash{}, map[string]bool{}
	var e envelope
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, fmt.Errorf("check OVA: %w", err)
		}
		sum := sha256.New()
		body := io.TeeReader(t, sum)
		ext := filepath.Ext(h.Name)
		if had[ext] { // importers take the first of two, or the second
			return f, fmt.Errorf("check OVA: %q is one %s too many", h.Name, ext)
		}
		had[ext] = true
		switch {
		case len(seen) == 0 && ext != ".ovf":
			return f, fmt.Errorf("check OVA: it begins with %q, not with a description (.ovf)", h.Name)
		case ext == ".ovf":
			if err := xml.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&e); err != nil {
				return f, fmt.Errorf("check OVA: %s: %w", h.Name, err)
			}
		case ext == ".mf":
			b, err := io.ReadAll(io.LimitReader(body, 1<<20))
			if err != nil {
				return f, fmt.Errorf("check OVA: %s: %w", h.Name, err)
			}
			for line := range strings.Lines(string(b)) {
				name, hex, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "SHA256("), ")= ")
				if !ok {
					return f, fmt.Errorf("check OVA: %s: cannot read the line %q", h.Name, line)
				}
				sums[name] = hex
			}
		case ext == ".vmdk":
			if f.Capacity, err = ReadVMDK(body, grain); err != nil {
				return f, fmt.Errorf("check OVA: %s: %w", h.Name, err)
			}
		default:
			return f, fmt.Errorf("check OVA: %q does not belong into one", h.Name)
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return f, fmt.Errorf("check OVA: %s: %w", h.Name, err)
		}
		seen[h.Name] = sum
	}
	if err := compareSums(sums, seen); err != nil {
		return f, err
	}
	return e.facts(f, seen)
}

func compareSums(sums map[string]string, seen map[string]hash.Hash) error {
	for name, want := range sums {
		sum, ok := seen[name]
		if !ok {
			return fmt.Errorf("check OVA: %s is missing", name)
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != want {
			return fmt.Errorf("check OVA: %s was changed: its SHA-256 is %s, the manifest says %s", name, got, want)
		}
	}
	for name := range seen {
		if _, ok := sums[name]; !ok && filepath.Ext(name) != ".mf" {
			return fmt.Errorf("check OVA: %s has no sum in the manifest", name)
		}
	}
	return nil
}

// envelope is what Check reads of a description.
type envelope struct {
	File struct {
		Name  string `xml:"href,attr"`
		Bytes int64  `xml:"size,attr"`
	} `xml:"References>File"`
	Disk struct {
		Capacity int64 `xml:"capacity,attr"`
	} `xml:"DiskSection>Disk"`
	System struct {
		Name  string `xml:"Name"`
		Items []struct {
			Type       int    `xml:"ResourceType"`
			Quantity   int    `xml:"VirtualQuantity"`
			Connection string `xml:"Connection"`
		} `xml:"VirtualHardwareSection>Item"`
	} `xml:"VirtualSystem"`
}

// Types of hardware, of CIM's ResourceAllocationSettingData.
const (
	hardwareCPU     = 3
	hardwareMemory  = 4
	hardwareNetwork = 10
)

func (e envelope) facts(f Facts, seen map[string]hash.Hash) (Facts, error) {
	f.Name = e.System.Name
	for _, i := range e.System.Items {
		switch i.Type {
		case hardwareCPU:
			f.CPUs = i.Quantity
		case hardwareMemory:
			f.MemoryMB = i.Quantity
		case hardwareNetwork:
			f.Networks = append(f.Networks, i.Connection)
		}
	}
	switch {
	case seen[e.File.Name] == nil:
		return f, fmt.Errorf("check OVA: the description names a disk %q, which is not there", e.File.Name)
	case e.Disk.Capacity != f.Capacity:
		return f, fmt.Errorf("check OVA: the description says %d bytes for the disk, which has %d", e.Disk.Capacity, f.Capacity)
	case f.Name == "" || f.CPUs == 0 || f.MemoryMB == 0:
		return f, errors.New("check OVA: the description has no name, processor or memory")
	}
	return f, nil
}
