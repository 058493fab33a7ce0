// Package sdcard makes the card that a Raspberry Pi starts from as a file: a
// FAT32 partition with firmware, kernel and settings, and an ext4 root that
// grows to the card when it starts first. It also says whether a card or its
// file is whole. It needs no loop device, no mount, no root and no program of
// the Pi's architecture; the same input gives the same bytes.
package sdcard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/tree"
	"nutshell/roles/api"
)

const (
	mib = 1 << 20

	bootBytes = 160 * mib // room for two kernels
	rootLeast = 512 * mib // below that mke2fs takes small blocks, which a large card would keep
	rootSlack = 96 * mib  // until it has grown
)

// SettingsFile is the file on the FAT32 partition that people edit before a
// card's first start.
const SettingsFile = "nutshell.txt"

//go:embed boot
var bootFiles embed.FS

// Options say what Build makes.
type Options struct {
	Tools      *disk.Tools // layers of recipe imagetools
	Root       *tree.Tree  // layers of recipe sdcard with the files of profile node; Build takes the boot files out
	Binary     string      // nutshell for 64-bit ARM; empty: Root has it already
	Settings   []byte      // in place of the explained, empty settings file
	Time       time.Time   // what this build makes bears it
	Work       string      // directory for files that are removed again
	Out        string      // the card as a file
	PowerOfTwo bool        // as QEMU wants cards
	Progress   func(fraction float64)
}

// Info is what was made.
type Info struct {
	Bytes  int64  // of the card
	Kernel string // its release
	Note   Note
}

// Build makes a card.
func Build(ctx context.Context, o Options) (Info, error) {
	if o.Progress == nil {
		o.Progress = func(float64) {}
	}
	if o.Binary != "" {
		if err := CheckBinary(o.Binary); err != nil {
			return Info{}, err
		}
		if err := o.Root.WriteFile("/usr/bin/nutshell", o.Binary, 0o755); err != nil {
			return Info{}, err
		}
	}
	boot, release, err := o.boot()
	if err != nil {
		return Info{}, fmt.Errorf("make SD card: %w", err)
	}
	o.Progress(0.1)
	// All of it is on the boot partition.
	err = o.Root.Remove("/boot/*", "/usr/lib/modules/*/vmlinuz", "/usr/lib/modules/*/System.map", "/usr/lib/modules/*/dtb", "/usr/lib/linux-image-*", "/usr/lib/raspi-firmware")
	if err != nil {
		return Info{}, err
	}
	o.Root.Mkdir("/boot/firmware", 0o755)
	// A clock without a battery starts no earlier than this.
	o.Root.Write("/usr/lib/clock-epoch", nil, 0o644)
	root := filepath.Join(o.Work, "card-root.ext4")
	defer func() { _ = os.Remove(root) }()
	if err := o.root(ctx, root); err != nil {
		return Info{}, fmt.Errorf("make SD card: %w", err)
	}
	o.Progress(0.6)
	c := disk.Card{BootBytes: bootBytes, Boot: boot, Root: root, ID: 0x5c7d0a17, Time: o.Time}
	if o.PowerOfTwo {
		info, err := os.Stat(root)
		if err != nil {
			return Info{}, err
		}
		c.Bytes = int64(1) << bits.Len64(uint64(c.RootAt()+info.Size()-1)) //nolint:gosec // positive and far from the end
	}
	size, err := disk.WriteCard(ctx, o.Out, c)
	if err != nil {
		return Info{}, err
	}
	o.Progress(0.8)
	note, err := writeNote(ctx, o.Out, root, c, boot, release)
	o.Progress(1)
	return Info{Bytes: size, Kernel: release, Note: note}, err
}

// root writes the root file system.
func (o Options) root(ctx context.Context, file string) error {
	size := max(rootLeast, (o.Root.Bytes()*5/4+rootSlack+4*mib-1)/(4*mib)*(4*mib))
	pr, pw := io.Pipe()
	go func() {
		pw.CloseWithError(o.Root.WriteTar(ctx, pw, o.Time, func(f float64) { o.Progress(0.1 + 0.5*f) }))
	}()
	const uuid = "5c7d0000-0000-4000-8000-0000000000ca"
	// Few inodes: their tables are the most that growing writes to a card.
	err := disk.WriteExt4(ctx, o.Tools, file, disk.Ext4{Bytes: size, Label: disk.RootLabel, UUID: uuid, Time: o.Time, BytesPerInode: 32 << 10}, pr)
	return errors.Join(err, pr.Close())
}

// boot collects the files of the boot partition.
func (o Options) boot() (files []disk.BootFile, release string, err error) {
	kernel := ""
	for _, n := range o.Root.Names("boot") {
		if r, ok := strings.CutPrefix(n, "boot/vmlinuz-"); ok {
			release, kernel = r, n
		}
	}
	trees := "usr/lib/linux-image-" + release + "/broadcom"
	for _, n := range o.Root.Names("usr/lib/modules") {
		if path.Base(n) == "vmlinuz" {
			release, kernel = path.Base(path.Dir(n)), n
			trees = "usr/lib/modules/" + release + "/dtb/broadcom"
		}
	}
	if kernel == "" {
		return nil, "", errors.New("the layers have no kernel")
	}
	add := func(name, from string) error {
		b, err := o.Root.Read(from)
		files = append(files, disk.BootFile{Path: "/" + name, Data: b})
		return err
	}
	busybox, err := o.Root.Read("usr/bin/busybox")
	if err != nil {
		return nil, "", err
	}
	var initrd bytes.Buffer
	if err := disk.WriteInitrd(&initrd, o.Root, busybox, release); err != nil {
		return nil, "", err
	}
	if err := add("vmlinuz", kernel); err != nil {
		return nil, "", err
	}
	files = append(files, disk.BootFile{Path: "/initrd.img", Data: initrd.Bytes()})
	boards := 0
	for _, n := range o.Root.Names(trees) {
		base := path.Base(n)
		if err := add(base, n); err != nil {
			return nil, "", err
		}
		boards++
		if base == "bcm2712-d-rpi-5-b.dtb" { // as the firmware calls the newer Pi 5
			if err := add("bcm2712d0-rpi-5-b.dtb", n); err != nil {
				return nil, "", err
			}
		}
	}
	if boards == 0 {
		return nil, "", errors.New("kernel " + release + " describes no Raspberry Pi")
	}
	for _, name := range []string{"bootcode.bin", "start.elf", "start_cd.elf", "start4.elf", "start4cd.elf", "fixup.dat", "fixup_cd.dat", "fixup4.dat", "fixup4cd.dat"} {
		if err := add(name, "usr/lib/raspi-firmware/"+name); err != nil {
			return nil, "", err
		}
	}
	if err := add("LICENCE.firmware.txt", "usr/share/doc/raspi-firmware/copyright"); err != nil {
		return nil, "", err
	}
	ours, err := fs.ReadDir(bootFiles, "boot")
	if err != nil {
		return nil, "", err
	}
	for _, e := range ours {
		b, err := bootFiles.ReadFile("boot/" + e.Name())
		if err != nil {
			return nil, "", err
		}
		if e.Name() == SettingsFile && o.Settings != nil {
			b = o.Settings
		}
		files = append(files, disk.BootFile{Path: "/" + e.Name(), Data: b})
	}
	return files, release, nil
}

// CheckBinary says why a file is no program that a Pi can run, or nil.
func CheckBinary(file string) error {
	wrong := func(message string, err error) error {
		return &api.Error{Code: api.CodeInvalid, Op: "make SD card with", Object: file, Message: message, Err: err,
			Hint: "make build-arm64 makes nutshell-arm64; name it by --binary"}
	}
	f, err := elf.Open(file)
	if err != nil {
		return wrong("this is no program for Linux", err)
	}
	defer func() { _ = f.Close() }()
	if f.Machine != elf.EM_AARCH64 {
		return wrong("a Pi needs a program for 64-bit ARM, this one is for "+strings.TrimPrefix(f.Machine.String(), "EM_"), nil)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return wrong("this program is not statically linked", nil)
		}
	}
	return nil
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
