// Package wire passes a cloud driver's orders from one machine to another: a
// node serves its own driver with Handler, and Client is a driver that asks
// it. Requests and answers are JSON. What an order came to is in the answer's
// body, with status 200, so that kinds of errors survive any transport; other
// statuses are the transport's trouble.
package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"nutshell/cloud"
)

// Prefix begins the paths of all orders; each is a POST.
const Prefix = "/cloud/"

// Bounds of what crosses the wire.
const (
	maxRequest = 16 << 20 // bytes: a thousand specs with their contexts
	maxLog     = 256 << 10
	maxText    = 4 << 10 // bytes of one error
	maxTexts   = 1 << 20 // bytes of all errors of an answer
)

// limits are how long each order may take, whatever its caller says. A launch
// may have to fetch layers first.
var limits = map[string]time.Duration{
	"launch": 20 * time.Minute, "terminate": 5 * time.Minute, "stop": 5 * time.Minute, "list": time.Minute, "check": time.Minute, "log": time.Minute,
	"volume/create": 5 * time.Minute, "volume/list": time.Minute, "volume/delete": 5 * time.Minute, "volume/attach": time.Minute,
	"volume/detach": 5 * time.Minute, "volume/grow": 5 * time.Minute,
	"snapshot/create": time.Hour, "snapshot/list": time.Minute, "snapshot/restore": time.Hour, "snapshot/delete": 5 * time.Minute,
}

// ask is what an order says. Each uses the fields that it needs.
type ask struct {
	Specs    []cloud.Spec     `json:"specs,omitempty"` // with digests of layers in place of directories
	IDs      []string         `json:"ids,omitempty"`
	Volume   string           `json:"volume,omitempty"`
	Spec     cloud.VolumeSpec `json:"spec,omitzero"`
	Instance string           `json:"instance,omitempty"`
	Name     string           `json:"name,omitempty"`
	Bytes    int64            `json:"bytes,omitempty"`
}

// answer is what became of it: results and errors, since a launch may have
// both.
type answer struct {
	Instances []cloud.Instance `json:"instances,omitempty"`
	Volumes   []cloud.Volume   `json:"volumes,omitempty"`
	Snapshots []cloud.Snapshot `json:"snapshots,omitempty"`
	Log       []byte           `json:"log,omitempty"`
	Faults    []fault          `json:"faults,omitempty"`
}

// fault is one error.
type fault struct {
	Instance string   `json:"instance,omitempty"` // of a *cloud.LaunchError
	Kinds    []string `json:"kinds,omitempty"`
	Text     string   `json:"text"`
}

// kinds are the errors that callers tell apart.
var kinds = map[string]error{
	"quota": cloud.ErrQuota, "unavailable": cloud.ErrUnavailable, "invalid": cloud.ErrInvalid, "in-use": cloud.ErrInUse,
	"none": fs.ErrNotExist, "cancelled": context.Canceled, "deadline": context.DeadlineExceeded,
}

// faults takes an error apart, so that each instance keeps its own.
func faults(err error) []fault {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // what is wrapped further down belongs to its wrapper
		var list []fault
		all := true // a %w of several errors is one error with a text of its own
		for _, e := range joined.Unwrap() {
			list = append(list, faults(e)...)
			all = all && strings.Contains("\n"+err.Error()+"\n", "\n"+e.Error()+"\n")
		}
		if all && len(list) > 0 { // an error of a machine that this one asked may have no parts
			return list
		}
	}
	f := fault{Text: err.Error()}
	var l *cloud.LaunchError
	if errors.As(err, &l) {
		f.Instance, f.Text = l.Name, l.Err.Error()
	}
	f.Text = shorten(f.Text)
	for name, kind := range kinds {
		if errors.Is(err, kind) {
			f.Kinds = append(f.Kinds, name)
		}
	}
	return []fault{f}
}

func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// far is an error of the other machine.
type far struct {
	text  string
	kinds []error
}

func (f *far) Error() string   { return f.text }
func (f *far) Unwrap() []error { return f.kinds }

// err puts an answer's faults together again.
func (a answer) err() error {
	var errs []error
	room := maxTexts // errors are logged, stored and shown
	for n, f := range a.Faults {
		if room -= min(len(f.Instance), maxText) + min(len(f.Text), maxText) + 64; room < 0 {
			errs = append(errs, fmt.Errorf("and %d more", len(a.Faults)-n))
			break
		}
		e := &far{text: shorten(f.Text)}
		for _, name := range f.Kinds[:min(len(f.Kinds), len(kinds))] {
			if kind, ok := kinds[name]; ok {
				e.kinds = append(e.kinds, kind)
			}
		}
		if f.Instance != "" {
			errs = append(errs, &cloud.LaunchError{Name: shorten(f.Instance), Err: e})
			continue
		}
		errs = append(errs, e)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

var goodDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Digest finds the digest of a layer in the path of its directory: layers lie
// in directories that are named so.
func Digest(dir string) (string, error) {
	for p := filepath.Clean(dir); p != "/" && p != "."; p = filepath.Dir(p) {
		if name := filepath.Base(p); goodDigest.MatchString(name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: layer %s does not lie in a directory that bears its digest, so no other machine can ask for it", cloud.ErrInvalid, dir)
}
