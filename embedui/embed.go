// Package embedui holds the web interface as it was built by Vite, so that
// the one binary can serve it. Only a placeholder is committed; `make ui`
// builds the real pages into dist before the binary is compiled.
package embedui

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

//go:embed package-lock.json
var lock []byte

// Lock is npm's list of what the pages are built of and with.
func Lock() []byte { return lock }

// FS is the web interface, with index.html at its top. Where the binary was
// compiled without the built pages, index.html is a page that says how to
// build them.
func FS() fs.FS {
	built, err := fs.Sub(dist, "dist")
	if err != nil {
		panic("embedui: " + err.Error()) // the path is a constant: only a bug gets here
	}
	if _, err := fs.Stat(built, "index.html"); err != nil {
		return placeholder{built}
	}
	return built
}

// Built reports whether the real pages are in this binary.
func Built() bool {
	_, err := fs.Stat(dist, "dist/index.html")
	return err == nil
}

// placeholder answers placeholder.html where index.html is asked for.
type placeholder struct{ fs.FS }

// Open opens a file of the interface.
func (p placeholder) Open(name string) (fs.File, error) {
	if name == "index.html" {
		name = "placeholder.html"
	}
	return p.FS.Open(name)
}
