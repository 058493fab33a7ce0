package disk

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"nutshell/imagebuild/tree"
)

//go:embed init.sh
var initScript []byte

// bootModules is what a machine may need before it has its root file system:
// disks and buses of VirtualBox, QEMU, clouds and Raspberry Pis. What is built
// into the kernel is not there, and is not missed.
var bootModules = []string{"ahci", "ata_piix", "sd_mod", "nvme", "virtio_blk", "virtio_scsi", "virtio_pci", "virtio_mmio", "xen_blkfront", "mptspi", "mptsas", "vmw_pvscsi",
	"hv_storvsc", "usb_storage", "uas", "mmc_block", "sdhci_iproc", "sdhci_brcmstb", "bcm2835", "gpio_regulator", "gpio_brcmstb", "pinctrl_brcmstb_bcm2712", "irq_bcm2712_mip", "reset_raspberrypi", "sdhci_pci", "ext4", "crc32c_generic", "crc32c_intel", "libcrc32c"}

// WriteInitrd writes what the kernel starts with: busybox, a script, and the
// modules that lead to the root file system. It is a thirtieth of what Debian's
// own tools make, and the same bytes each time.
func WriteInitrd(w io.Writer, root *tree.Tree, busybox []byte, release string) error {
	modules, err := closure(root, release, bootModules)
	if err != nil {
		return err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	c := &cpio{w: z}
	for _, dir := range []string{"bin", "dev", "lib", "proc", "root", "sys"} {
		c.add(dir, 0o40755, nil, 0, 0)
	}
	c.add("dev/console", 0o20600, nil, 5, 1)
	c.add("bin/busybox", 0o100755, busybox, 0, 0)
	c.add("init", 0o100755, initScript, 0, 0)
	var list strings.Builder
	for _, m := range modules {
		data, err := module(root, m)
		if err != nil {
			return err
		}
		name := "lib/" + strings.TrimSuffix(path.Base(m), ".xz")
		c.add(name, 0o100644, data, 0, 0)
		list.WriteString("/" + name + "\n")
	}
	c.add("modules", 0o100644, []byte(list.String()), 0, 0)
	c.add("TRAILER!!!", 0, nil, 0, 0)
	if c.err != nil {
		return c.err
	}
	return z.Close()
}

// closure lists the files of modules and of all they need, each behind what it
// needs.
func closure(root *tree.Tree, release string, names []string) ([]string, error) {
	dir := path.Join("usr/lib/modules", release)
	text, err := root.Read(path.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("modules of kernel %s: %w", release, err)
	}
	needs, files := map[string][]string{}, map[string]string{}
	for line := range strings.Lines(string(text)) {
		file, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		needs[file] = strings.Fields(rest)
		name, _, _ := strings.Cut(path.Base(file), ".")
		files[strings.ReplaceAll(name, "-", "_")] = file
	}
	var list []string
	seen := map[string]bool{}
	var add func(string)
	add = func(file string) {
		if seen[file] {
			return
		}
		seen[file] = true
		for _, n := range needs[file] {
			add(n)
		}
		list = append(list, path.Join(dir, file))
	}
	for _, name := range names {
		if file, ok := files[name]; ok {
			add(file)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("kernel %s has none of the modules that a machine boots by", release)
	}
	return list, nil
}

// module reads a module, unpacked: the kernel takes no packed one from an
// init without the right tools.
func module(root *tree.Tree, name string) ([]byte, error) {
	b, err := root.Read(name)
	if err != nil || !strings.HasSuffix(name, ".xz") {
		return b, err
	}
	r, err := xz.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", name, err)
	}
	return io.ReadAll(r)
}

// cpio writes the "newc" format. The first error stays.
type cpio struct {
	w     io.Writer
	inode int
	at    int
	err   error
}

func (c *cpio) add(name string, mode uint32, data []byte, major, minor int) {
	c.inode++
	c.write([]byte(fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name)+1, 0, name)))
	c.write(data)
}

func (c *cpio) write(b []byte) {
	if rest := (c.at + len(b)) % 4; rest != 0 {
		b = append(bytes.Clone(b), make([]byte, 4-rest)...)
	}
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
	c.at += len(b)
}
