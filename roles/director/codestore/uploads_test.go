package codestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"nutshell/roles/api"
)

const uploadID = "abcdefgh12345678"

func site(t *testing.T) (data []byte, sum string) {
	t.Helper()
	data = tarGz(t, map[string]string{"index.html": strings.Repeat("hello ", 300), "a/b.txt": "b"})
	s := sha256.Sum256(data)
	return data, hex.EncodeToString(s[:])
}

func TestUploadOutlivesTheStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	data, sum := site(t)
	size, ctx := int64(len(data)), t.Context()
	s := open(t, dir)
	have, err := s.Append(ctx, uploadID, 0, size, io.MultiReader(bytes.NewReader(data[:50]), iotest.ErrReader(errors.New("broken"))))
	if api.CodeOf(err) != api.CodeUnavailable || have != 50 {
		t.Fatalf("a connection that breaks: %d, %v", have, err)
	}
	s = open(t, dir) // as after kill -9
	if have, err = s.Offset(uploadID); err != nil || have != 50 {
		t.Fatalf("kept: %d, %v", have, err)
	}
	for _, wrong := range []int64{0, 49, 51} {
		if have, err := s.Append(ctx, uploadID, wrong, size, bytes.NewReader(data)); api.CodeOf(err) != api.CodeConflict || have != 50 {
			t.Errorf("a piece that begins at %d: %d, %v", wrong, have, err)
		}
	}
	if _, err := s.Complete(ctx, uploadID, "site.tar.gz", false, size, sum); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "only 50 of") {
		t.Errorf("completed too early: %v", err)
	}
	if have, err = s.Append(ctx, uploadID, 50, size, bytes.NewReader(data[50:])); err != nil || have != size {
		t.Fatalf("the rest: %d, %v", have, err)
	}
	for range 2 { // killed between the version and its row, it is completed again
		v, err := s.Complete(ctx, uploadID, "dir/site.tar.gz", false, size, sum)
		if err != nil || v.SHA256 != sum || v.Bytes != size || v.Files != 2 || v.Filename != "site.tar.gz" || v.Format != "tar.gz" {
			t.Fatalf("completed: %+v, %v", v, err)
		}
	}
	if err := s.Discard(uploadID); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(s.Path(sum)); err != nil || !bytes.Equal(got, data) {
		t.Errorf("stored %d bytes, %v", len(got), err)
	}
	if ids, err := s.Unfinished(); err != nil || len(ids) != 0 {
		t.Errorf("left: %v, %v", ids, err)
	}
	if err := s.Discard(uploadID); err != nil {
		t.Errorf("discarded twice: %v", err)
	}
}

func TestUploadIsRefused(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "blobs"))
	data, sum := site(t)
	size, ctx := int64(len(data)), t.Context()
	if _, err := s.Append(ctx, "../../etc/passwd", 0, 5, strings.NewReader("hello")); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a path for an id: %v", err)
	}
	if have, err := s.Append(ctx, uploadID, 0, 5<<20, bytes.NewReader(make([]byte, 1000, 2000)[:1000])); err != nil || have != 1000 { // zeros are an empty tar
		t.Errorf("zeros: %d, %v", have, err)
	}
	const text = "abcdefgh00000000"
	if _, err := s.Append(ctx, text, 0, 5<<20, strings.NewReader(strings.Repeat("no archive ", 200))); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "not an archive") {
		t.Errorf("text: %v", err)
	}
	const short = "abcdefgh00000001"
	if _, err := s.Append(ctx, short, 0, 5, strings.NewReader("hello")); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("short text: %v", err)
	}
	const much = "abcdefgh00000002"
	if _, err := s.Append(ctx, much, 0, size, bytes.NewReader(append(bytes.Clone(data), 'x'))); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "announced") {
		t.Errorf("too many bytes: %v", err)
	}
	const other = "abcdefgh00000003"
	if _, err := s.Append(ctx, other, 0, size, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Complete(ctx, other, "site.tar.gz", false, size, strings.Repeat("0", 64)); api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), sum) {
		t.Errorf("another sum: %v", err)
	}
	if s.Has(sum) {
		t.Error("a refused upload is in the store")
	}
	if err := s.Room(1 << 60); api.CodeOf(err) != api.CodeNoSpace {
		t.Errorf("room for an exabyte: %v", err)
	}
	if err := s.Room(1); err != nil {
		t.Errorf("room for a byte: %v", err)
	}
}

// TestLastWriterHasTheUpload: a connection that nobody told is broken must not
// hold an upload, nor write to it later.
func TestLastWriterHasTheUpload(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "blobs"))
	data, sum := site(t)
	size, ctx := int64(len(data)), t.Context()
	r, w := io.Pipe()
	stale := make(chan error, 1)
	go func() {
		_, err := s.Append(ctx, uploadID, 0, size, r)
		stale <- err
	}()
	if _, err := w.Write(data[:20]); err != nil {
		t.Fatal(err)
	}
	var at int64
	for at != 20 { // the pipe gives its bytes away before they are written
		var err error
		if at, err = s.Offset(uploadID); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := s.Append(ctx, uploadID, 20, size, bytes.NewReader(data[20:])); err != nil || have != size {
		t.Fatalf("the second: %d, %v", have, err)
	}
	if _, err := w.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if err := <-stale; api.CodeOf(err) != api.CodeConflict {
		t.Errorf("the first was told %v", err)
	}
	if _, err := s.Complete(ctx, uploadID, "site.tar.gz", false, size, sum); err != nil {
		t.Errorf("the content is damaged: %v", err)
	}
}

// TestManyWriters: whatever order requests come in, the content is right in
// the end.
func TestManyWriters(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "blobs"))
	data, sum := site(t)
	size := int64(len(data))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for {
				at, err := s.Offset(uploadID)
				if err != nil {
					t.Error(err)
				}
				if at == size {
					return
				}
				_, err = s.Append(t.Context(), uploadID, at, size, iotest.OneByteReader(bytes.NewReader(data[at:min(size, at+13)])))
				if err != nil && api.CodeOf(err) != api.CodeConflict {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if _, err := s.Complete(context.Background(), uploadID, "site.tar.gz", false, size, sum); err != nil {
		t.Error(err)
	}
}

func BenchmarkUpload(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "blobs"))
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for n := 0; b.Loop(); n++ {
		if _, err := s.Append(b.Context(), fmt.Sprintf("abcdefgh%08d", n), 0, int64(len(data)), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
		if err := s.Discard(fmt.Sprintf("abcdefgh%08d", n)); err != nil {
			b.Fatal(err)
		}
	}
}
