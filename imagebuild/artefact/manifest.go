package artefact

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"nutshell/imagebuild"
	"nutshell/imagebuild/recipe"
)

// Ends of the names of what lies beside an image.
const (
	manifestEnd  = ".json"
	sumsEnd      = ".sha256"
	signatureEnd = ".sig"
)

// File is one file of an image.
type File struct {
	Name   string        `json:"name"`
	Format recipe.Format `json:"format"`
	Bytes  int64         `json:"bytes"`
	SHA256 string        `json:"sha256"`
}

// LayerName names a layer that went into an image.
type LayerName struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Arch   string `json:"arch,omitempty"`
}

// Program is the nutshell binary within an image.
type Program struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
}

// Manifest says what an image is made of. It lies beside it.
type Manifest struct {
	Name     string            `json:"name"`
	Title    string            `json:"title"`
	Arch     string            `json:"arch"`
	Suite    string            `json:"suite"`
	Time     time.Time         `json:"time"` // that the files within bear
	Program  Program           `json:"program"`
	Services []string          `json:"services"`
	Image    recipe.Image      `json:"image"`           // resolved
	Recipes  []recipe.Recipe   `json:"recipes"`         // lowest first
	Layers   []LayerName       `json:"layers"`          // lowest first
	Inside   []LayerName       `json:"service_layers"`  // of the machine's containers
	Packages map[string]string `json:"packages"`        // of the root file system: name to version
	Tools    map[string]string `json:"tools,omitempty"` // of Debian that made the disk: name to version
	Files    []File            `json:"files"`
}

// seal sums the files up, writes what lies beside them, and publishes all.
func (b *build) seal() (Manifest, error) {
	m := Manifest{Name: b.Name, Title: b.Chain[len(b.Chain)-1].Title, Arch: b.Arch, Suite: b.suite(), Time: b.Time.UTC(), Services: []string{}, Image: b.Image, Recipes: b.Chain,
		Program: Program{Version: b.Version}, Packages: map[string]string{}, Tools: map[string]string{}, Layers: names(b.layers), Inside: names(b.inside)}
	for _, p := range b.packed {
		m.Inside = append(m.Inside, LayerName{p.Name, p.Digest, p.Arch})
	}
	for _, k := range b.Kinds {
		m.Services = append(m.Services, k.Name)
	}
	for _, l := range b.layers {
		for name, version := range l.Installed {
			m.Packages[name] = version
		}
	}
	for _, l := range b.toolLayers {
		for _, name := range []string{"e2fsprogs", "grub-pc-bin", "grub-efi-amd64-bin", "busybox-static"} {
			if v := l.Installed[name]; v != "" {
				m.Tools[name] = v
			}
		}
	}
	var err error
	if m.Program.SHA256, _, err = sumOf(b.Program); err != nil {
		return m, err
	}
	var sums strings.Builder
	var publish []string
	for i := range b.files {
		f := &b.files[i]
		if err := os.Chmod(b.work.Path(f.Name), 0o644); err != nil {
			return m, err
		}
		if f.SHA256, f.Bytes, err = sumOf(b.work.Path(f.Name)); err != nil {
			return m, err
		}
		fmt.Fprintf(&sums, "%s  %s\n", f.SHA256, f.Name)
		publish = append(publish, f.Name)
	}
	m.Files = b.files
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	text = append(text, '\n')
	sum := sha256.Sum256(text)
	fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum[:]), b.Name+manifestEnd)
	err = errors.Join(
		os.WriteFile(b.work.Path(b.Name+manifestEnd), text, 0o644),
		os.WriteFile(b.work.Path(b.Name+sumsEnd), []byte(sums.String()), 0o644),
		os.WriteFile(b.work.Path(b.Name+signatureEnd), sign(b.Key, []byte(sums.String())), 0o644))
	if err != nil {
		return m, err
	}
	return m, b.work.Publish(append(publish, b.Name+manifestEnd, b.Name+sumsEnd, b.Name+signatureEnd)...)
}

func names(layers []imagebuild.Layer) []LayerName {
	list := make([]LayerName, len(layers))
	for i, l := range layers {
		list[i] = LayerName{l.Name, l.Digest, l.Arch}
	}
	return list
}

// sumOf is the SHA-256 of a file, hexadecimal, and its size.
func sumOf(file string) (sum string, bytes int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	bytes, err = io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return hex.EncodeToString(h.Sum(nil)), bytes, err
}
