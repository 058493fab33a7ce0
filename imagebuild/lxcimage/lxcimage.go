// Package lxcimage writes a root file system as an image of a container: in two
// files, the description and the root file system, as plain LXC, Incus and LXD
// take it, or in one, as the latter two do. The same tree and time give the
// same bytes.
package lxcimage

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"strings"
	"text/template"
	"time"

	"github.com/klauspost/compress/zstd"

	"nutshell/imagebuild/tree"
)

// Image is what the description says.
type Image struct {
	Name, Title string
	Suite       string
	Arch        string // Debian's name of it
	Nested      bool   // it runs containers itself, and must be privileged
	Time        time.Time
}

// metadata is what Incus and LXD read, config what plain LXC does.
var (
	metadata = template.Must(template.New("metadata").Parse(`architecture: {{.Machine}}
creation_date: {{.Time.Unix}}
properties:
  architecture: {{.Machine}}
  description: {{printf "%q" .Title}}
  name: {{.Name}}
  os: Nutshell
  release: {{.Suite}}
templates:
  /etc/hostname:
    when: [create, copy]
    template: hostname.tpl
`))
	config = template.Must(template.New("config").Parse(`lxc.include = /usr/share/lxc/config/common.conf
lxc.arch = {{.Machine}}
{{if .Nested}}lxc.include = /usr/share/lxc/config/nesting.conf
lxc.apparmor.profile = unconfined
lxc.cap.drop =
lxc.mount.auto = proc:rw sys:rw cgroup:rw:force
{{end}}`))
)

// Machine is the kernel's name of the architecture.
func (i Image) Machine() string {
	switch i.Arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return i.Arch
}

// head are the files that describe the image.
func (i Image) head() ([]file, error) {
	var m, c strings.Builder
	if err := errors.Join(metadata.Execute(&m, i), config.Execute(&c, i)); err != nil {
		return nil, err
	}
	return []file{{"metadata.yaml", m.String()}, {"templates/hostname.tpl", "{{ container.name }}\n"}, {"config", c.String()}}, nil
}

type file struct{ name, text string }

func (i Image) writeHead(t *tar.Writer) error {
	files, err := i.head()
	if err != nil {
		return err
	}
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.text)), ModTime: i.Time, Format: tar.FormatPAX}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(t, f.text); err != nil {
			return err
		}
	}
	return nil
}

// compressor has one worker: with more, the bytes depend on the machine.
func compressor(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
}

// WriteSplit writes the description and the root file system as two tar.zst.
func WriteSplit(ctx context.Context, meta, rootfs io.Writer, i Image, root *tree.Tree, progress func(float64)) error {
	z, err := compressor(meta)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	if err := errors.Join(i.writeHead(t), t.Close(), z.Close()); err != nil {
		return err
	}
	if z, err = compressor(rootfs); err != nil {
		return err
	}
	return errors.Join(root.WriteTar(ctx, z, i.Time, progress), z.Close())
}

// WriteUnified writes both as one tar.zst.
func WriteUnified(ctx context.Context, w io.Writer, i Image, root *tree.Tree, progress func(float64)) error {
	z, err := compressor(w)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	return errors.Join(i.writeHead(t), root.AddTo(ctx, t, "rootfs", i.Time, progress), t.Close(), z.Close())
}
