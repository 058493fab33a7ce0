package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"nutshell/imagebuild"
	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/ova"
	"nutshell/imagebuild/tree"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	ctx := context.Background()
	s, err := imagebuild.Open("/srv/img", slog.New(slog.NewTextHandler(os.Stderr, nil)))
	must(err)
	tl, err := s.Recipe(ctx, "imagetools", nil, func(string, float64) {})
	must(err)
	al, err := s.Recipe(ctx, "appliance", []string{"linux-image-amd64"}, func(string, float64) {})
	must(err)
	t0 := time.Now()
	lap := func(what string) { fmt.Println(what, time.Since(t0)) }
	tools, err := disk.NewTools(tl...)
	must(err)
	root, err := tree.New(al...)
	must(err)
	lap("tree")
	at := time.Unix(1700000000, 0)
	w := func(name, text string) { root.Write(name, []byte(text), 0o644) }
	must(root.WriteFile("/usr/bin/nutshell", "nutshell", 0o755))
	w("/etc/fstab", "LABEL=nutshell / ext4 rw,noatime,errors=remount-ro 0 1\ntmpfs /tmp tmpfs mode=1777 0 0\n")
	w("/etc/hostname", "nutshell\n")
	w("/etc/systemd/network/10-nat.network", "[Match]\nName=eth0\n[Network]\nDHCP=yes\n")
	w("/etc/systemd/network/20-host.network", "[Match]\nName=eth1\n[Network]\nAddress=192.168.56.2/24\nConfigureWithoutCarrier=yes\n")
	w("/etc/systemd/system/nutshell.service", "[Unit]\nDescription=Nutshell\nAfter=network.target local-fs.target\n[Service]\nExecStart=/usr/bin/nutshell up\nRestart=always\nStandardOutput=journal+console\nDelegate=yes\nKillMode=mixed\nTimeoutStopSec=120\n[Install]\nWantedBy=multi-user.target\n")
	w("/etc/nutshell/nutshell.yaml", "listen: 0.0.0.0:443\n")
	root.Symlink("/etc/systemd/system/multi-user.target.wants/nutshell.service", "../nutshell.service")
	root.Symlink("/etc/systemd/system/multi-user.target.wants/systemd-networkd.service", "/usr/lib/systemd/system/systemd-networkd.service")
	root.Symlink("/etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")
	if len(os.Args) > 1 {
		must(root.Copy("/srv/img/layers", "/var/lib/nutshell/images/layers"))
		must(root.WriteFile("/var/lib/nutshell/images/suite", "/srv/img/suite", 0o644))
	}
	release := ""
	for _, n := range root.Names("boot") {
		if r, ok := strings.CutPrefix(n, "boot/vmlinuz-"); ok {
			release = r
		}
	}
	kernel, err := root.Read("boot/vmlinuz-" + release)
	must(err)
	bb, err := tools.Path("usr/bin/busybox")
	must(err)
	bbb, err := os.ReadFile(bb)
	must(err)
	var ird bytes.Buffer
	must(disk.WriteInitrd(&ird, root, bbb, release))
	lap(fmt.Sprint("initrd ", ird.Len()))
	g, err := disk.MakeGrub(ctx, tools, "/srv/img/work")
	must(err)
	lap("grub")
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(root.WriteTar(ctx, pw, at, nil)) }()
	const uuid = "5c7d0000-0000-4000-8000-0000000000aa"
	must(disk.WriteExt4(ctx, tools, "/srv/img/work/root.ext4", disk.Ext4{Bytes: 20 << 30, Label: disk.RootLabel, UUID: uuid, Time: at}, pr))
	lap("ext4")
	cfg := "set timeout=0\nserial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\nlinux /vmlinuz root=LABEL=nutshell ro console=tty0 console=ttyS0 net.ifnames=0 quiet\ninitrd /initrd.img\nboot\n"
	size, err := disk.Write(ctx, "/srv/img/work/disk.img", disk.Disk{BootBytes: 96 << 20, Root: "/srv/img/work/root.ext4", GUID: "5C7D0000-0000-4000-8000-000000000000", Grub: g,
		Boot: []disk.BootFile{{Path: "/vmlinuz", Data: kernel}, {Path: "/initrd.img", Data: ird.Bytes()}, {Path: "/grub/grub.cfg", Data: []byte(cfg)}}})
	must(err)
	lap(fmt.Sprint("disk ", size>>20))
	if len(os.Args) > 2 {
		f, err := os.Open("/srv/img/work/disk.img")
		must(err)
		must(ova.Write(ctx, "/srv/img/work/nutshell.ova", ova.Machine{Name: "Nutshell", Product: "Nutshell", Version: "1", OSType: "Debian_64", CPUs: 2, MemoryMB: 2048, Networks: []ova.Network{{Name: "NAT"}, {Name: "HostOnly"}}}, f, size, at, nil))
		st, _ := os.Stat("/srv/img/work/nutshell.ova")
		lap(fmt.Sprint("ova ", st.Size()>>20))
	}
}
