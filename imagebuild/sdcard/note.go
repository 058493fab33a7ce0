package sdcard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"nutshell/imagebuild/disk"
	"nutshell/roles/api"
)

// Note lies on the card between the table and the first partition. By it a
// card that was written can be checked with nothing else at hand.
type Note struct {
	Card      int               `json:"card"`       // version of this note: 1
	Kernel    string            `json:"kernel"`     // release
	RootAt    int64             `json:"root_at"`    // bytes from the start
	RootBytes int64             `json:"root_bytes"` // as written
	RootSum   string            `json:"root_sum"`   // SHA-256, hexadecimal, of those bytes
	Boot      map[string]string `json:"boot"`       // SHA-256 of each file of the boot partition but the settings, by absolute path
}

const (
	noteMagic = "NUTSHELL CARD\n"
	noteMost  = 64 << 10
)

func writeNote(ctx context.Context, file, root string, c disk.Card, boot []disk.BootFile, release string) (n Note, err error) {
	n = Note{Card: 1, Kernel: release, RootAt: c.RootAt(), Boot: map[string]string{}}
	for _, f := range boot {
		if f.Path != "/"+SettingsFile {
			n.Boot[f.Path] = sumOf(f.Data)
		}
	}
	r, err := os.Open(root)
	if err != nil {
		return n, err
	}
	defer r.Close()
	h := sha256.New()
	if n.RootBytes, err = io.Copy(h, reader{ctx, r}); err != nil {
		return n, err
	}
	n.RootSum = hex.EncodeToString(h.Sum(nil))
	text, err := json.Marshal(n)
	if err != nil {
		return n, err
	}
	b := append([]byte(noteMagic), text...)
	b = append(b, '\n')
	if len(b) > noteMost {
		return n, errors.New("the card's note is too long")
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteAt(b, disk.NoteAt)
	return n, err
}

// reader stops when ctx ends.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// Report is what Check found on a good card.
type Report struct {
	Kernel  string
	Bytes   int64 // that were read
	Started bool  // it has been in a Pi: its root file system has changed since, only the boot files were checked
}

// Check reads a card, a file of it, or a packed file (.zst, .xz, .gz), and says
// what is wrong with it. Work is a directory for a file that is removed again.
func Check(ctx context.Context, file, work string) (Report, error) {
	in, err := open(file)
	if err != nil {
		return Report{}, broken(file, err)
	}
	defer func() { _ = in.Close() }()
	r := &counter{r: reader{ctx, in}}
	head := make([]byte, disk.BootAt)
	if _, err := io.ReadFull(r, head); err != nil {
		return Report{}, broken(file, short(err))
	}
	n, table, err := parseHead(head)
	if err != nil {
		return Report{}, broken(file, err)
	}
	rep := Report{Kernel: n.Kernel, Started: table.rootBytes != n.RootBytes}
	if err := n.checkBoot(r, work); err != nil {
		return Report{}, broken(file, err)
	}
	h := sha256.New()
	super := make([]byte, 4096)
	if _, err := io.ReadFull(r, super); err != nil {
		return Report{}, broken(file, short(err))
	}
	if binary.LittleEndian.Uint16(super[1080:]) != 0xef53 {
		return Report{}, broken(file, errors.New("the root file system is not there"))
	}
	h.Write(super)
	if !rep.Started {
		if _, err := io.CopyN(h, r, n.RootBytes-int64(len(super))); err != nil {
			return Report{}, broken(file, short(err))
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != n.RootSum {
			return Report{}, broken(file, errors.New("the root file system is not as it was made"))
		}
	}
	rep.Bytes = r.n
	return rep, nil
}

// checkBoot reads the boot partition and compares its files.
func (n Note) checkBoot(r io.Reader, work string) error {
	f, err := os.CreateTemp(work, "card-boot-")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	if _, err := io.CopyN(f, r, n.RootAt-disk.BootAt); err != nil {
		return short(err)
	}
	sums, err := disk.FATSums(f.Name())
	if err != nil {
		return fmt.Errorf("the boot partition cannot be read: %w", err)
	}
	for name, want := range n.Boot {
		switch got, ok := sums[name]; {
		case !ok:
			return fmt.Errorf("%s is missing on the boot partition", name)
		case got != want:
			return fmt.Errorf("%s on the boot partition is not as it was made", name)
		}
	}
	return nil
}

type table struct{ rootBytes int64 }

func parseHead(head []byte) (Note, table, error) {
	var n Note
	if head[510] != 0x55 || head[511] != 0xaa {
		return n, table{}, errors.New("there is no partition table")
	}
	text, ok := bytes.CutPrefix(head[disk.NoteAt:disk.NoteAt+noteMost], []byte(noteMagic))
	if !ok {
		return n, table{}, errors.New("this is no card of Nutshell, or its first part was not written")
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if err := json.Unmarshal(line, &n); err != nil {
		return n, table{}, fmt.Errorf("the card's note cannot be read: %w", err)
	}
	le := binary.LittleEndian
	boot, root := head[446:462], head[462:478]
	at, size := int64(le.Uint32(root[8:]))*512, int64(le.Uint32(root[12:]))*512
	switch {
	case n.Card != 1:
		return n, table{}, fmt.Errorf("a newer Nutshell made this card (note %d)", n.Card)
	case n.RootAt <= disk.BootAt || n.RootAt > 4<<30 || n.RootBytes < 4096 || n.RootBytes > 1<<40:
		return n, table{}, errors.New("the card's note makes no sense")
	case int64(le.Uint32(boot[8:]))*512 != disk.BootAt || at != n.RootAt || size < n.RootBytes:
		return n, table{}, errors.New("the partitions are not where they were made")
	}
	return n, table{size}, nil
}

// counter counts what was read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it ends too early: not all of it was written")
	}
	return err
}

func broken(file string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("check card %s: %w", file, err)
	}
	return &api.Error{Code: api.CodeInvalid, Op: "check", Object: "card " + file, Message: err.Error(), Hint: "write the card again; if that does not help, fetch or make the image again, or take another card"}
}
