// Package deb makes a Debian package of the binary, for people who want neither
// an appliance nor a card: the binary with ConPaaS's command names, units, a
// configuration file. It writes the bytes itself, without root and without
// Debian's tools, and the same input gives the same bytes.
package deb

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip" // every dpkg reads it
	"context"
	"crypto/md5" //nolint:gosec // what dpkg keeps to compare files with, no more
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"nutshell/appliance"
	"nutshell/imagebuild/tree"
)

//go:embed control
var control embed.FS

// Options say what is packed.
type Options struct {
	Binary  string    // path of the nutshell binary
	Version string    // of the module: v1.2.3, or one made of time and commit
	Arch    string    // Debian's name: amd64, arm64
	At      time.Time // that all files bear; not the present, or no two builds are equal
	Links   []string  // commands that are links to the binary
}

// Conffiles of the package: dpkg asks before it replaces what was changed.
const confDir = "/etc/"

var goodVersion = regexp.MustCompile(`[^A-Za-z0-9.+~]+`)

// Version is a module's version as Debian writes it: parts behind a dash come
// before the bare version, as Go has it, and a commit follows a plus.
func Version(module string) string {
	v := strings.TrimPrefix(module, "v")
	if v == "" || v[0] < '0' || v[0] > '9' {
		v = "0.0.0-" + strings.Trim(v, "()")
	}
	v, dirty := strings.CutSuffix(v, "+dirty")
	parts := strings.Split(v, "-")
	v = parts[0]
	for i, p := range parts[1:] {
		if i == 0 {
			v += "~" + p
		} else {
			v += "+" + p
		}
	}
	if dirty {
		v += "+dirty"
	}
	return goodVersion.ReplaceAllString(v, ".")
}

// Name is the file name that Debian gives such a package.
func Name(o Options) string { return "nutshell_" + Version(o.Version) + "_" + o.Arch + ".deb" }

// Write packs.
func Write(ctx context.Context, w io.Writer, o Options) error {
	switch {
	case o.Binary == "" || o.Version == "" || o.Arch == "":
		return errors.New("deb: Binary, Version and Arch are required")
	case o.At.IsZero():
		return errors.New("deb: At is required")
	}
	t, err := files(o)
	if err != nil {
		return fmt.Errorf("make Debian package: %w", err)
	}
	data, sums, size, conf, err := pack(ctx, t, o.At)
	if err != nil {
		return fmt.Errorf("make Debian package: %w", err)
	}
	info, err := controlTar(o, sums, conf, size) //nolint:contextcheck // it works in memory
	if err != nil {
		return fmt.Errorf("make Debian package: %w", err)
	}
	if _, err := io.WriteString(w, "!<arch>\n"); err != nil {
		return err
	}
	for _, m := range []struct {
		name string
		body []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", info}, {"data.tar.gz", data}} {
		if err := member(w, m.name, m.body, o.At); err != nil {
			return err
		}
	}
	return nil
}

// member writes one file of an ar archive.
func member(w io.Writer, name string, body []byte, at time.Time) error {
	if _, err := fmt.Fprintf(w, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, at.Unix(), 0, 0, "100644", len(body)); err != nil {
		return err
	}
	if len(body)%2 == 1 {
		body = append(slices.Clip(body), '\n')
	}
	_, err := w.Write(body)
	return err
}

// files lays out what the package installs.
func files(o Options) (*tree.Tree, error) {
	t, err := tree.New()
	if err != nil {
		return nil, err
	}
	if err := appliance.Install(t, appliance.Options{Profile: appliance.Package}); err != nil {
		return nil, err
	}
	if err := t.WriteFile("/usr/bin/nutshell", o.Binary, 0o755); err != nil {
		return nil, err
	}
	for _, l := range o.Links {
		t.Symlink("/usr/bin/"+l, "nutshell")
	}
	for name, to := range map[string]string{"copyright": "/usr/share/doc/nutshell/copyright", "overrides": "/usr/share/lintian/overrides/nutshell"} {
		text, err := control.ReadFile("control/" + name)
		if err != nil {
			return nil, err
		}
		t.Write(to, text, 0o644)
	}
	return t, nil
}

// pack makes the tar of the files, and from it what dpkg wants to know of them.
func pack(ctx context.Context, t *tree.Tree, at time.Time) (data []byte, sums, size, conf string, err error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, "", "", "", err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(t.WriteTar(ctx, io.MultiWriter(z, w), at, nil)) }()
	defer func() { _ = r.Close() }()
	var listed, kept []string
	kb := int64(0)
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, "", "", "", err
		}
		kb += (h.Size + 1023) >> 10
		if h.Typeflag == tar.TypeDir {
			kb++
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := strings.TrimPrefix(h.Name, ".")
		if strings.HasPrefix(name, confDir) {
			kept = append(kept, name)
			continue
		}
		sum := md5.New()                            //nolint:gosec // see above
		if _, err := io.Copy(sum, in); err != nil { //nolint:gosec // we made it
			return nil, "", "", "", err
		}
		listed = append(listed, hex.EncodeToString(sum.Sum(nil))+"  "+name[1:])
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what follows the last file
		return nil, "", "", "", err
	}
	if err := z.Close(); err != nil {
		return nil, "", "", "", err
	}
	return out.Bytes(), lines(listed), fmt.Sprint(kb), lines(kept), nil
}

func lines(list []string) string {
	slices.SortFunc(list, func(a, b string) int { return cmp.Compare(a, b) })
	if len(list) == 0 {
		return ""
	}
	return strings.Join(list, "\n") + "\n"
}

// controlTar is what dpkg reads: the description, scripts, lists.
func controlTar(o Options, sums, conf, size string) ([]byte, error) {
	t, err := tree.New()
	if err != nil {
		return nil, err
	}
	text, err := control.ReadFile("control/control.tmpl")
	if err != nil {
		return nil, err
	}
	form, err := template.New("control").Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := form.Execute(&b, map[string]string{"Version": Version(o.Version), "Arch": o.Arch, "Size": size}); err != nil {
		return nil, err
	}
	t.Write("control", b.Bytes(), 0o644)
	t.Write("md5sums", []byte(sums), 0o644)
	t.Write("conffiles", []byte(conf), 0o644)
	for name, mode := range map[string]os.FileMode{"postinst": 0o755, "prerm": 0o755, "postrm": 0o755, "templates": 0o644} {
		text, err := control.ReadFile("control/" + name)
		if err != nil {
			return nil, err
		}
		t.Write(name, text, mode)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if err := t.WriteTar(context.Background(), z, o.At, nil); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
