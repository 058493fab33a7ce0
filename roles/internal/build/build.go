// Package build tells what this binary is made of: its version and commit, the
// libraries in it, and the same as a bill of materials. It asks the Go runtime
// and what is handed to it; it runs nothing and opens no file but the binary.
package build

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
)

// Facts are what is known about this binary. Fields that the build did not
// record are empty.
type Facts struct {
	Version string  `json:"version"`          // of the module: a tag, or one made of time and commit
	Commit  string  `json:"commit,omitempty"` // git's full hash
	Dirty   bool    `json:"dirty"`            // sources were changed behind that commit
	Time    string  `json:"time,omitempty"`   // of the commit, RFC 3339
	Go      string  `json:"go"`
	OS      string  `json:"os"`
	Arch    string  `json:"arch"`
	Helper  *Helper `json:"helper,omitempty"` // the program that drives containers; nil: built without
	Pages   string  `json:"pages,omitempty"`  // sha256 over the web pages; empty: built without
	SHA256  string  `json:"sha256,omitempty"` // of the whole file
}

// Helper is the embedded program that drives liblxc.
type Helper struct {
	SHA256 string `json:"sha256"`
	Go     string `json:"go"`
}

// Of collects the facts. helper may be nil; pages may be nil.
func Of(helper []byte, pages fs.FS) (Facts, error) {
	f := Recorded()
	if helper != nil {
		f.Helper = &Helper{SHA256: sum(helper)}
		if info, err := buildinfo.Read(bytes.NewReader(helper)); err == nil {
			f.Helper.Go = info.GoVersion
		}
	}
	var err error
	if pages != nil {
		if f.Pages, err = treeSum(pages); err != nil {
			return f, err
		}
	}
	f.SHA256, err = ownSum()
	return f, err
}

// Recorded are the facts that the compiler wrote down; no sums.
func Recorded() Facts {
	f := Facts{Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		f.read(info)
	}
	return f
}

// Read are the facts recorded in another binary of ours, without those of the
// machine that it is for.
func Read(info *debug.BuildInfo) Facts {
	f := Facts{Version: "unknown", Go: info.GoVersion}
	f.read(info)
	return f
}

// Version is the module's version, or the revision it was built from.
func Version() string { return Recorded().Version }

func (f *Facts) read(info *debug.BuildInfo) {
	f.Version = info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			f.Commit = s.Value
		case "vcs.time":
			f.Time = s.Value
		case "vcs.modified":
			f.Dirty = s.Value == "true"
		}
	}
	switch {
	case f.Version != "" && f.Version != "(devel)":
	case f.Commit != "":
		f.Version = "devel-" + f.Commit[:min(len(f.Commit), 12)]
	default:
		f.Version = "(devel)"
	}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// treeSum is one sum over names and content of all files.
func treeSum(tree fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error { // in the order of names
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(tree, name)
		if err == nil {
			fmt.Fprintf(h, "%s  %s\n", sum(b), name)
		}
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// ownSum reads the running program as the kernel has it, so that a file that
// was replaced meanwhile is not taken for it.
func ownSum() (string, error) {
	path := "/proc/self/exe"
	if _, err := os.Stat(path); err != nil {
		if path, err = os.Executable(); err != nil {
			return "", err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
