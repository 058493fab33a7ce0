// Package manifest reads and writes the files that describe an application
// made of services, in the form that ConPaaS gave them and with what Nutshell
// adds. It is pure: it opens no file and no connection, and knows no service
// kind. What a manifest asks for is carried out by the director.
package manifest

import (
	"path"
	"slices"
	"strings"
)

// MaxBytes bounds the text of a manifest.
const MaxBytes = 10 << 20

// Manifest is one application. The tag help is for people, also in the schema.
type Manifest struct {
	Description string    `help:"what it is, for people"`
	Application string    `help:"name of the application; where it is taken, a number is added. Default: made of Description"`
	Cloud       string    `help:"cloud of the application's manager, and of services that name none"`
	Services    []Service `help:"the services, in any order: what they offer each other reaches them however late it comes"`
}

// Service is one service of an application.
type Service struct {
	Type             string              `help:"kind of the service: php, java, mysql, generic, …" required:"true"`
	ServiceName      string              `help:"name of the service, once in a manifest. Default: its type, with a number where taken"`
	Cloud            string              `help:"cloud of its instances"`
	Start            *Flag               `help:"0: it is made but not started. Default: 1"`
	StartupScript    string              `help:"script that each new instance runs first: a URL, a file beside the manifest, or the script itself, beginning with #!"`
	StartupInstances map[string]Count    `help:"how many instances hold each role, such as {backend: 2}. 'count' is the role that grows most; ConPaaS's older names are known"`
	StartRole        string              `help:"read for ConPaaS's sake, without effect"`
	Archive          string              `help:"code: a URL, a file beside the manifest, or debian:PACKAGE"`
	Files            map[string]string   `help:"small text files by their path in the code; they replace those of Archive, or are the whole code"`
	Dump             string              `help:"SQL that is loaded when the service runs: a URL, a file beside the manifest, or debian:PACKAGE/PATH"`
	Password         string              `help:"password of the service's own user (mysqldb of mysql). Default: a random one, shown once on request"`
	VolumeStartup    *VolumeStartup      `help:"volume of an xtreemfs service"`
	Settings         map[string]any      `help:"settings of the kind; others keep their defaults"`
	Environment      map[string]Variable `help:"environment variables: a text, {secret: TEXT}, or {random: LENGTH} for a secret that is made up"`
	Volumes          []Volume            `help:"volumes that instances of the service get, where its kind takes some"`
	Databases        []string            `help:"databases that are made, beside the one in the settings"`
	Bind             []string            `help:"names of the services whose offers it gets. Default: those of all"`
	Sites            []string            `help:"host names under which the director shows the service"`
	AutoDeploy       *Flag               `help:"0: a git push does not activate what it brings. Default: 1"`
	KeepVersions     int                 `help:"how many of the newest code versions are kept; 0: all"`

	// Line is where the service begins in the text, from 1.
	Line int `manifest:"-"`
}

// VolumeStartup is the first volume of an xtreemfs service.
type VolumeStartup struct {
	VolumeName string `json:"volumeName" help:"name of the volume"`
	Owner      string `json:"owner" help:"account that owns it"`
}

// Volume is a volume that users make.
type Volume struct {
	Name string `help:"letters, digits, - and _" required:"true"`
	Size Size   `help:"such as 2G or 500M; a plain number is MB, as in ConPaaS" required:"true"`
	Node *Count `help:"which instance gets it, from 1 in the order of their start; 0: none yet. Default: 1"`
}

// Flag is 0 or 1; true and false are taken, too.
type Flag bool

// Count is a number of instances.
type Count int

// Size is a number of bytes.
type Size int64

// Variable is the value of an environment variable.
type Variable struct {
	Value  string
	Secret bool
	Random int  // length of a secret that is made up; 0: Value is it
	Left   bool // a secret whose value was left out when the manifest was downloaded
}

// Started reports whether a service is to be started.
func (s Service) Started() bool { return s.Start == nil || bool(*s.Start) }

// Deploys reports whether a git push activates what it brings.
func (s Service) Deploys() bool { return s.AutoDeploy == nil || bool(*s.AutoDeploy) }

// Kinds of sources.
const (
	SourceNone   = ""
	SourceURL    = "url"
	SourceFile   = "file"   // beside the manifest
	SourceDebian = "debian" // a package, or a file of one
	SourceText   = "text"   // it is the thing itself
)

// Source is where something comes from.
type Source struct {
	Kind string
	Name string // URL, path, or package
	Path string // of a file in a package
	Text string
}

const debianPrefix = "debian:"

// SourceOf reads the value of Archive, Dump or StartupScript.
func SourceOf(text string) Source {
	lower := strings.ToLower(text)
	switch {
	case text == "":
		return Source{}
	case strings.HasPrefix(text, "#!") || strings.Contains(text, "\n"):
		return Source{Kind: SourceText, Text: text}
	case strings.HasPrefix(text, debianPrefix):
		name, inside, _ := strings.Cut(strings.TrimPrefix(text, debianPrefix), "/")
		return Source{Kind: SourceDebian, Name: name, Path: inside}
	case strings.HasPrefix(lower, "http://"), strings.HasPrefix(lower, "https://"):
		return Source{Kind: SourceURL, Name: text}
	}
	return Source{Kind: SourceFile, Name: text}
}

// Sources are the places of a service that say where something comes from,
// by the names of their fields.
func (s Service) Sources() map[string]Source {
	all := map[string]Source{"Archive": SourceOf(s.Archive), "Dump": SourceOf(s.Dump), "StartupScript": SourceOf(s.StartupScript)}
	for field, source := range all {
		if source.Kind == SourceNone {
			delete(all, field)
		}
	}
	return all
}

// Needs lists the files beside the manifest that it names, sorted.
func (m Manifest) Needs() []string {
	var list []string
	for _, s := range m.Services {
		for _, source := range s.Sources() {
			if source.Kind == SourceFile && !slices.Contains(list, path.Clean(source.Name)) {
				list = append(list, path.Clean(source.Name))
			}
		}
	}
	slices.Sort(list)
	return list
}

// older are the roles as ConPaaS called them before, by type.
var older = map[string]map[string]string{
	"mysql":    {"slaves": "mysql", "masters": "mysql", "nodes": "mysql", "glb_nodes": "glb"},
	"generic":  {"nodes": "node"},
	"xtreemfs": {"osds": "osd"},
}

// Role is what a role is called today.
func Role(kind, name string) string {
	if now, ok := older[kind][name]; ok {
		return now
	}
	return name
}
