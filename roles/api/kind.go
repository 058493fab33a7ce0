package api

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Kind describes a service kind to clients: the CLI makes sub-commands of it
// and the UI makes forms.
type Kind struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Summary  string    `json:"summary"`
	Parts    []Part    `json:"parts"`
	Settings []Setting `json:"settings"`
	Actions  []Action  `json:"actions"`
	Code     CodeRules `json:"code"`
	Packages []string  `json:"packages"` // Debian packages of its image layer
	Offers   []Offer   `json:"offers"`   // to siblings
	Secrets  []Secret  `json:"secrets"`
	// Volumes says that users may make volumes for its instances.
	Volumes bool `json:"volumes"`
	Backups bool `json:"backups"` // it can be backed up and restored
}

// UsualPart is the part that is meant where a number of nodes is asked for
// without a part: the one that may grow most. It is false for a kind whose
// counts are fixed.
func (k Kind) UsualPart() (Part, bool) {
	var usual Part
	for _, p := range k.Parts {
		if !p.Fixed && p.Max > usual.Max {
			usual = p
		}
	}
	return usual, usual.Name != ""
}

// Part is what an instance of a service can hold. ConPaaS calls it a role.
type Part struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Summary string `json:"summary"`
	Default int    `json:"default"` // count at start
	Min     int    `json:"min"`     // least count while started
	Max     int    `json:"max"`
	Fixed   bool   `json:"fixed"` // its count cannot be changed by users
	Ports   []Port `json:"ports"`
	// To are parts of the same kind that it passes requests to.
	To     []string `json:"to"`
	Volume string   `json:"volume,omitempty"` // name of the volume that each of its holders has
}

// Port is a port that a part listens on.
type Port struct {
	Number int    `json:"number"`
	Use    string `json:"use"`
	Public bool   `json:"public"` // users reach it from outside the application
}

// Setting describes one field of a kind's settings.
type Setting struct {
	Name    string          `json:"name"`
	Title   string          `json:"title"`
	Help    string          `json:"help"`
	Type    string          `json:"type"` // string, integer, boolean, size, list, text
	Default json.RawMessage `json:"default"`
	Enum    []string        `json:"enum,omitempty"`
	Pattern string          `json:"pattern,omitempty"`
	Min     *int64          `json:"min,omitempty"`
	Max     *int64          `json:"max,omitempty"`
	Unit    string          `json:"unit,omitempty"`
	Restart bool            `json:"restart"` // changing it restarts a daemon
}

// Action is something a kind can be told to do, typed by its parameters.
type Action struct {
	Name    string      `json:"name"` // also the CLI sub-command
	Title   string      `json:"title"`
	Summary string      `json:"summary"`
	Params  []Parameter `json:"params"`
	Reads   bool        `json:"reads"`           // it changes nothing
	Takes   string      `json:"takes,omitempty"` // what the file is that it is sent, for people; empty: it takes none
	Gives   string      `json:"gives,omitempty"` // name of the file that it answers, such as dump.sql; empty: none
	// Secret says that it changes this secret to what its parameter
	// "password" says, or to a random one.
	Secret string `json:"secret,omitempty"`
}

// Parameter is one parameter of an action. One that is called confirm is asked
// for by people and pages alike before what the action destroys is lost: it
// takes "yes", or the name of the thing once more.
type Parameter struct {
	Name     string   `json:"name"`
	Help     string   `json:"help"`
	Required bool     `json:"required"`
	Enum     []string `json:"enum,omitempty"`
	Type     string   `json:"type,omitempty"` // string (where it is empty), integer, boolean, size, text
}

// Fits reports whether a value is of the parameter's type; any text is a
// string, whatever it holds.
func (p Parameter) Fits(value string) bool {
	switch p.Type {
	case "integer":
		_, err := strconv.ParseInt(value, 10, 64)
		return err == nil
	case "boolean":
		return value == "true" || value == "false"
	case "size":
		digits := strings.TrimRight(value, "KMG")
		n, err := strconv.ParseInt(digits, 10, 40)
		return err == nil && n > 0 && len(value)-len(digits) <= 1
	}
	return true
}

// CodeRules says whether a kind keeps code versions.
type CodeRules struct {
	Accepts bool   `json:"accepts"`
	Help    string `json:"help"`
}
