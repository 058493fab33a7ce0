package artefact

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nutshell/imagebuild/lxcimage"
	"nutshell/imagebuild/plan"
	"nutshell/imagebuild/recipe"
	"nutshell/imagebuild/tree"
)

// storeOf is where a machine of ours keeps the layers of its containers.
const storeOf = "/var/lib/nutshell/images"

// makeRoot puts the root file system together.
func (b *build) makeRoot(context.Context, plan.Progress) (err error) {
	if b.root, err = tree.New(); err != nil {
		return err
	}
	for _, l := range b.layers {
		if err := b.root.Lay(l.Dir); err != nil {
			return err
		}
		if err := b.root.Remove(b.unwanted[l.Digest]...); err != nil { // also what a layer below brought
			return err
		}
	}
	if err := b.root.WriteFile("/usr/bin/nutshell", b.Program, 0o755); err != nil {
		return err
	}
	if err := b.Install(b.root, b.Image); err != nil {
		return err
	}
	for _, l := range b.inside {
		if err := b.root.Copy(filepath.Dir(l.Dir), path.Join(storeOf, "layers", l.Digest)); err != nil {
			return err
		}
	}
	for _, p := range b.packed {
		meta := filepath.Join(filepath.Dir(p.Dir), "layer.json")
		if err := b.root.WriteFile(path.Join(storeOf, "layers", p.Digest, "layer.json"), meta, 0o644); err != nil {
			return err
		}
		if err := b.root.WriteFile(path.Join(storeOf, "packed", filepath.Base(p.File)), p.File, 0o644); err != nil {
			return err
		}
	}
	if len(b.inside)+len(b.packed) > 0 {
		b.root.Write(path.Join(storeOf, "suite"), []byte(b.suite()+"\n"), 0o644)
	}
	if b.Time.IsZero() {
		b.Time = b.youngest()
	}
	return b.work.Need(b.need())
}

// need is how many bytes the steps from here on take on disk, at most.
func (b *build) need() int64 {
	packed := int64(0)
	for _, p := range b.packed {
		packed += p.Bytes
	}
	return peak(b.Image.Formats, b.root.Bytes(), packed)
}

// aside is what tables and the boot partition take beside files.
const aside = 192 << 20

// peak is how many bytes lie on disk at the same time while formats are made of
// a root file system with these bytes of files, in the order of the steps. What
// is packed already gets no smaller, all else to less than half.
func peak(formats []recipe.Format, bytes, packed int64) int64 {
	whole, small := bytes/4*5, (bytes-packed)/2+packed // files end in blocks that are not full
	kept, most := int64(0), int64(0)
	has := func(f recipe.Format) bool { return slices.Contains(formats, f) }
	if has(recipe.OVA) || has(recipe.QCOW2) || has(recipe.Raw) {
		most, kept = 2*whole, whole // a file system, copied into a disk that stays
	}
	for _, f := range formats {
		if f != recipe.Raw {
			kept += small
		}
	}
	if has(recipe.OVA) { // its disk lies beside it until it is whole
		most = max(most, whole+2*small)
	}
	if has(recipe.SDCard) {
		most = max(most, kept-small+2*whole)
	}
	return max(most, kept) + aside
}

func (b *build) suite() string { return b.layers[0].Suite }

// youngest is when the last of the layers was begun.
func (b *build) youngest() time.Time {
	at := b.layers[0].Created
	for _, l := range append(append(b.layers[:0:0], b.layers...), b.inside...) {
		if l.Created.After(at) {
			at = l.Created
		}
	}
	for _, p := range b.packed {
		if p.Created.After(at) {
			at = p.Created
		}
	}
	return at.Truncate(time.Second)
}

// uuid is an identity that the same image has each time.
func (b *build) uuid(of string) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(b.Name, b.layers[len(b.layers)-1].Digest, b.Time.Unix(), of)))
	sum[6], sum[8] = sum[6]&0x0f|0x40, sum[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]))
}

// container takes away what only a machine with disks of its own has.
func (b *build) container() lxcimage.Image {
	b.root.Write("/etc/fstab", nil, 0o644)
	return lxcimage.Image{Name: b.Name, Title: b.Chain[len(b.Chain)-1].Title, Suite: b.suite(), Arch: b.Arch, Nested: len(b.inside) > 0, Time: b.Time}
}

func (b *build) makeSplit(ctx context.Context, progress plan.Progress) (err error) {
	meta, err := b.create(b.Name+"-meta.tar.zst", recipe.LXC)
	if err != nil {
		return err
	}
	defer meta.Close()
	root, err := b.create(b.Name+"-rootfs.tar.zst", recipe.LXC)
	if err != nil {
		return err
	}
	defer root.Close()
	return lxcimage.WriteSplit(ctx, meta, root, b.container(), b.root, silent(progress))
}

func (b *build) makeUnified(ctx context.Context, progress plan.Progress) error {
	f, err := b.create(b.Name+".tar.zst", recipe.Unified)
	if err != nil {
		return err
	}
	defer f.Close()
	return lxcimage.WriteUnified(ctx, f, b.container(), b.root, silent(progress))
}
