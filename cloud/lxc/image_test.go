package lxc

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nutshell/cloud/cloudtest"
)

// TestOneLoopForAnImage mounts an image many times at once: a second loop
// device would have a second file system write to it.
func TestOneLoopForAnImage(t *testing.T) {
	if os.Geteuid() != 0 {
		cloudtest.Need(t, "mounting needs root")
	}
	path := filepath.Join(t.TempDir(), imageFile)
	if err := makeImage(t.Context(), path, 32<<20); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		mounts := make([]*os.File, 8)
		var wg sync.WaitGroup
		for n := range mounts {
			wg.Go(func() {
				var err error
				if mounts[n], err = mountImage(t.Context(), path); err != nil {
					t.Errorf("mount %d: %v", n, err)
				}
			})
		}
		wg.Wait()
		if loops := loopsOf(t, path); len(loops) != 1 {
			t.Errorf("the image has loop devices %v", loops)
		}
		for _, m := range mounts {
			_ = m.Close()
		}
		if err := awaitIdle(t.Context(), path, flushTime); err != nil {
			t.Error(err)
		}
	}
	if loops := loopsOf(t, path); len(loops) != 0 {
		t.Errorf("left: %v", loops)
	}
}

func loopsOf(t *testing.T, path string) (list []string) {
	t.Helper()
	all, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if b, err := os.ReadFile(l); err == nil && strings.TrimSpace(string(b)) == path {
			list = append(list, l)
		}
	}
	return list
}

func TestSuperblock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, imageFile)
	if err := makeImage(t.Context(), path, 40<<20); err != nil {
		cloudtest.Need(t, err.Error())
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s, err := readSuperblock(f)
	if err != nil || s.dirty || s.blocks != 40<<20/imageBlock || s.free >= s.blocks || s.short(40<<20) || !s.short(48<<20) {
		t.Errorf("superblock of a new file system = %+v, %v", s, err)
	}
	if got, err := dataBytes(f); err != nil || got <= 0 || got > 20<<20 {
		t.Errorf("a new file system takes %d bytes, %v", got, err)
	}
	if err := growAtRest(context.Background(), f); err != nil {
		t.Errorf("grow to the same size: %v", err)
	}
	if err := setAside(f, 80<<20); err != nil {
		t.Fatal(err)
	}
	if err := growAtRest(context.Background(), f); err != nil {
		t.Errorf("grow: %v", err)
	}
	if s, err := readSuperblock(f); err != nil || s.short(80<<20) || s.dirty {
		t.Errorf("superblock of a grown file system = %+v, %v", s, err)
	}
	if _, err := f.WriteAt(make([]byte, 1024), 1024); err != nil {
		t.Fatal(err)
	}
	if s, err := readSuperblock(f); err == nil {
		t.Errorf("superblock of zeros = %+v", s)
	}
}
