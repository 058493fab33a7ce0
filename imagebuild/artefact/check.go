package artefact

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nutshell/imagebuild"
	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/plan"
	"nutshell/imagebuild/recipe"
	"nutshell/roles/api"
)

// Checks says how an image is looked at.
type Checks struct {
	Keys     []ed25519.PublicKey                        // that are trusted
	Unsigned bool                                       // sums are enough
	Tools    func(context.Context) (*disk.Tools, error) // called when a file system is to be looked at
	Progress plan.Progress
}

// Report is what Check found out about an image that is good.
type Report struct {
	Name   string   `json:"name"`
	Signer string   `json:"signer,omitempty"` // fingerprint of the key
	Facts  []string `json:"facts"`            // what was looked at, in words
	Files  []File   `json:"files"`
}

// ends are the ends of names of all files of images, longest first.
var ends = []string{"-rootfs.tar.zst", "-meta.tar.zst", ".tar.zst", ".img.zst", ".img.xz", ".qcow2", ".img", ".ova", manifestEnd, sumsEnd, signatureEnd}

// formats are those of files that say enough of themselves to be looked into
// alone.
var formats = map[string]recipe.Format{"-rootfs.tar.zst": recipe.LXC, "-meta.tar.zst": recipe.LXC, ".tar.zst": recipe.Unified, ".qcow2": recipe.QCOW2, ".img": recipe.Raw, ".img.zst": recipe.SDCard, ".img.xz": recipe.SDCard, ".ova": recipe.OVA}

// BaseOf is what the names of all files of an image begin with, and the end of
// this one.
func BaseOf(file string) (base, end string, ok bool) {
	for _, e := range ends {
		if b, found := strings.CutSuffix(file, e); found && filepath.Base(b) != "." {
			return b, e, true
		}
	}
	return file, "", false
}

// Check verifies an image, named by any of its files: the signature over the
// sums, the sums of all files, and the inside of each. Of a file whose
// signature, sums and manifest lie beside it no other need be there.
func Check(ctx context.Context, file string, c Checks) (Report, error) {
	if c.Progress == nil {
		c.Progress = func(string, float64) {}
	}
	base, end, ok := BaseOf(file)
	if strings.HasPrefix(file, "/dev/") {
		facts, err := checkCard(ctx, file)
		return Report{Name: file, Facts: facts}, err
	}
	if !ok {
		return Report{}, refused(file, "its name is none of an image", "an image ends in .ova, .qcow2, .img, .img.zst or .tar.zst; a card is named by its device")
	}
	if _, err := os.Stat(file); err != nil {
		return Report{}, &api.Error{Code: api.CodeNotFound, Op: "check", Object: file, Err: err}
	}
	r := Report{Name: filepath.Base(base)}
	sums, err := os.ReadFile(base + sumsEnd)
	if format, alone := formats[end]; c.Unsigned && errors.Is(err, fs.ErrNotExist) && alone {
		if aCard(file) {
			format = recipe.SDCard
		}
		r.Files = []File{{Name: filepath.Base(file), Format: format}}
		r.Facts, err = c.inside(ctx, file, r.Files[0])
		return r, err
	}
	if err != nil {
		return r, refused(file, "its sums are missing", "keep "+r.Name+sumsEnd+", "+signatureEnd+" and "+manifestEnd+" beside it")
	}
	if r.Signer, err = c.signer(base, sums); err != nil {
		return r, err
	}
	if r.Signer != "" {
		r.Facts = append(r.Facts, "signed by "+r.Signer)
	}
	only := filepath.Base(file)
	if end == manifestEnd || end == sumsEnd || end == signatureEnd {
		only = ""
	}
	right, err := c.sums(ctx, filepath.Dir(base), sums, only, r.Name+manifestEnd)
	if err != nil {
		return r, err
	}
	r.Facts = append(r.Facts, "sums are right")
	m, err := ReadManifest(base + manifestEnd)
	if err != nil {
		return r, err
	}
	for _, f := range m.Files {
		if only != "" && f.Name != only {
			continue
		}
		if !right[f.Name] {
			return r, refused(f.Name, "the manifest names it, and the sums do not", "fetch or build the image again")
		}
		facts, err := c.inside(ctx, filepath.Join(filepath.Dir(base), f.Name), f)
		if err != nil {
			return r, err
		}
		r.Files, r.Facts = append(r.Files, f), append(r.Facts, facts...)
	}
	c.Progress("done", 1)
	return r, nil
}

func refused(file, why, hint string) error {
	return &api.Error{Code: api.CodeInvalid, Op: "check", Object: filepath.Base(file), Message: why, Hint: hint}
}

func (c Checks) signer(base string, sums []byte) (string, error) {
	if c.Unsigned {
		return "", nil
	}
	signature, err := os.ReadFile(base + signatureEnd)
	if errors.Is(err, fs.ErrNotExist) {
		return "", refused(base, "its signature is missing", "keep "+filepath.Base(base)+signatureEnd+" beside it, or look at the sums alone with --unsigned")
	}
	if err != nil {
		return "", err
	}
	key, err := signedBy(c.Keys, sums, signature)
	if err != nil {
		return "", refused(base, filepath.Base(base)+sumsEnd+" was changed, or the image is somebody else's: "+err.Error(),
			"give the public key of who made it with --key, or look at the sums alone with --unsigned")
	}
	return Fingerprint(key), nil
}

// sums compares the files of a list, only one and the manifest if that is given,
// and returns which are right. The manifest must be among them: what a signature
// over the sums says of it would else be said of any.
func (c Checks) sums(ctx context.Context, dir string, list []byte, only, manifest string) (right map[string]bool, err error) {
	right = map[string]bool{}
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSuffix(line, "\n")
		want, name, ok := strings.Cut(line, "  ")
		if !ok || filepath.Base(name) != name || right[name] {
			return nil, refused(manifest, fmt.Sprintf("the sums have a line that cannot be: %.200q", line), "")
		}
		if only != "" && name != only && name != manifest {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		c.Progress("sum of "+name, 0)
		got, _, err := sumOf(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, refused(name, "it is missing", "all files of the image must be there, or name the one that is")
		}
		if err != nil {
			return nil, err
		}
		if got != want {
			return nil, refused(name, "it was changed, or not written to its end: its SHA-256 is "+got+", not "+want, "fetch or build it again")
		}
		right[name] = true
	}
	for _, name := range []string{only, manifest} {
		if name != "" && !right[name] {
			return nil, refused(name, "the sums beside it do not name it", "it was renamed, or is not of this image")
		}
	}
	return right, nil
}

// ReadManifest reads the manifest of an image.
func ReadManifest(file string) (Manifest, error) {
	var m Manifest
	b, err := os.ReadFile(file)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, refused(file, "this is no manifest: "+err.Error(), "")
	}
	return m, nil
}

// OpenTools gets the programs that look at file systems, where there are none
// by building their layer.
func OpenTools(ctx context.Context, s *imagebuild.Store) (*disk.Tools, error) {
	layers, err := ToolLayers(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	return disk.NewTools(dirs(layers)...)
}
