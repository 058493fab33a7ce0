package artefact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/ova"
	"nutshell/imagebuild/plan"
	"nutshell/imagebuild/qcow2"
	"nutshell/imagebuild/recipe"
)

const (
	bootBytes = 128 << 20 // room for two kernels with what they start with
	gib       = 1 << 30
)

// grubConfig boots without a question. Both screens and serial lines show it.
const grubConfig = `set timeout=0
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
linux /vmlinuz root=LABEL=` + disk.RootLabel + ` ro console=ttyS0 console=tty0 net.ifnames=0 panic=10 quiet
initrd /initrd.img
boot
`

// makeDisk makes the raw disk in the directory of work.
func (b *build) makeDisk(ctx context.Context, progress plan.Progress) error {
	release, kernel, err := b.kernel()
	if err != nil {
		return err
	}
	busybox, err := b.tools.Path("usr/bin/busybox")
	if err != nil {
		return err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	var initrd bytes.Buffer
	if err := disk.WriteInitrd(&initrd, b.root, program, release); err != nil {
		return err
	}
	grub, err := disk.MakeGrub(ctx, b.tools, b.work.Dir)
	if err != nil {
		return err
	}
	progress("", 0.1)
	root := b.work.Path("root.ext4")
	if err := b.makeExt4(ctx, root, func(f float64) { progress("", 0.1+0.6*f) }); err != nil {
		return err
	}
	b.raw = b.work.Path("disk")
	b.rawBytes, err = disk.Write(ctx, b.raw, disk.Disk{BootBytes: bootBytes, Root: root, GUID: b.uuid("disk"), Grub: grub, Time: b.Time, Boot: []disk.BootFile{
		{Path: "/vmlinuz", Data: kernel}, {Path: "/initrd.img", Data: initrd.Bytes()}, {Path: "/grub/grub.cfg", Data: []byte(grubConfig)}}})
	return errors.Join(err, os.Remove(root))
}

// kernel finds the newest kernel.
func (b *build) kernel() (release string, image []byte, err error) {
	var found []string
	for _, n := range b.root.Names("boot") {
		if r, ok := strings.CutPrefix(n, "boot/vmlinuz-"); ok {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return "", nil, errors.New("the image has no kernel: its recipe must inherit machine, or install one")
	}
	release = slices.Max(found)
	image, err = b.root.Read("boot/vmlinuz-" + release)
	return release, image, err
}

func (b *build) makeExt4(ctx context.Context, path string, progress func(float64)) error {
	size := int64(max(b.Image.DiskGB, 1)) * gib
	if used := b.root.Bytes(); used > size/10*9 {
		return fmt.Errorf("the root file system holds %d MB, which is too much for disk_gb: %d", used>>20, size/gib)
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := b.root.WriteTar(ctx, w, b.Time, progress)
		written <- errors.Join(err, w.CloseWithError(err))
	}()
	err := disk.WriteExt4(ctx, b.tools, path, disk.Ext4{Bytes: size, Label: disk.RootLabel, UUID: strings.ToLower(b.uuid("root")), Time: b.Time}, r)
	_ = r.CloseWithError(errors.New("the file system takes no more")) // lets the writer end where mke2fs has ended early
	if writeErr := <-written; err == nil {
		err = writeErr
	}
	return err
}

// packDisk makes a file of the raw disk.
func (b *build) packDisk(f recipe.Format) plan.Step {
	switch f {
	case recipe.OVA:
		return plan.Step{Name: "virtual machine", Share: 30, Do: b.packOVA}
	case recipe.QCOW2:
		return plan.Step{Name: "compressed disk", Share: 15, Do: b.packQCOW2}
	default:
		return plan.Step{Name: "raw disk", Share: 3, Do: func(context.Context, plan.Progress) error {
			name := b.Name + ".img"
			b.files = append(b.files, File{Name: name, Format: recipe.Raw})
			return os.Rename(b.raw, b.work.Path(name))
		}}
	}
}

// networkTexts say what an adapter is for.
var networkTexts = map[string]string{"NAT": "the way to the Internet", "HostOnly": "this machine and the services on it, 192.168.56.2", "Bridged": "the network of the cluster, 172.16.0.1"}

func (b *build) packOVA(ctx context.Context, progress plan.Progress) error {
	raw, err := os.Open(b.raw)
	if err != nil {
		return err
	}
	defer raw.Close()
	m := ova.Machine{Name: b.Name, Product: "Nutshell", Version: b.Version, OSType: "Debian_64", CPUs: max(b.Image.CPUs, 1), MemoryMB: max(b.Image.MemoryMB, 1024)}
	for _, n := range b.Image.Networks {
		m.Networks = append(m.Networks, ova.Network{Name: n, Text: networkTexts[n]})
	}
	capacity := (b.rawBytes + 1<<20 - 1) >> 20 << 20
	name := b.Name + ".ova"
	b.files = append(b.files, File{Name: name, Format: recipe.OVA})
	return ova.Write(ctx, b.work.Path(name), m, raw, capacity, b.Time, silent(progress))
}

func (b *build) packQCOW2(ctx context.Context, progress plan.Progress) error {
	raw, err := os.Open(b.raw)
	if err != nil {
		return err
	}
	defer raw.Close()
	out, err := b.create(b.Name+".qcow2", recipe.QCOW2)
	if err != nil {
		return err
	}
	return errors.Join(qcow2.Write(ctx, out, raw, b.rawBytes, silent(progress)), out.Close())
}

// create makes one of the results in the directory of work.
func (b *build) create(name string, f recipe.Format) (*os.File, error) {
	b.files = append(b.files, File{Name: name, Format: f})
	return os.Create(b.work.Path(name))
}
