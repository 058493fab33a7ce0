package artefact

import (
	"context"
	"fmt"
	"os"
	"strings"

	"nutshell/imagebuild/plan"
	"nutshell/imagebuild/recipe"
	"nutshell/imagebuild/sdcard"
)

// Card is what only a card has.
type Card struct {
	Settings   []byte // of its settings file; none: the explained, empty one
	PowerOfTwo bool   // its size, as QEMU wants it
}

// makeCard makes a card and packs it.
func (b *build) makeCard(ctx context.Context, progress plan.Progress) error {
	raw := b.work.Path("card")
	_, err := sdcard.Build(ctx, sdcard.Options{Tools: b.tools, Root: b.root, Settings: b.Card.Settings, Time: b.Time, Work: b.work.Dir, Out: raw, PowerOfTwo: b.Card.PowerOfTwo,
		Progress: func(f float64) { progress("", f/2) }})
	if err != nil {
		return err
	}
	name := b.Name + ".img.zst"
	b.files = append(b.files, File{Name: name, Format: recipe.SDCard})
	if err := sdcard.Pack(ctx, raw, b.work.Path(name), func(f float64) { progress("packing", 0.5+f/2) }); err != nil {
		return err
	}
	return os.Remove(raw)
}

// checkCard reads a card, or a file of one, which says itself what it must hold.
func checkCard(ctx context.Context, file string) ([]string, error) {
	work, err := os.MkdirTemp("", "nutshell-card-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	r, err := sdcard.Check(ctx, file, work)
	if err != nil {
		return nil, err
	}
	facts := []string{fmt.Sprintf("card with kernel %s, %d MB", r.Kernel, r.Bytes>>20), "boot files are whole"}
	if r.Started {
		return append(facts, "it has been in a Raspberry Pi, so its root file system was not compared"), nil
	}
	return append(facts, "root file system is as it was made"), nil
}

// aCard reports whether a file can only be checked as a card: a device, or a
// disk without the table that our disks of machines have.
func aCard(file string) bool {
	if strings.HasPrefix(file, "/dev/") {
		return true
	}
	_, end, _ := BaseOf(file)
	if end != ".img" {
		return strings.HasPrefix(end, ".img.")
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, 8)
	_, err = f.ReadAt(b, 512)
	return err == nil && string(b) != "EFI PART"
}
