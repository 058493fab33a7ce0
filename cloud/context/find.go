package context

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Times of the search. A metadata service may come up after the instance, a
// disk does not.
const (
	askTime   = 3 * time.Second
	firstWait = 500 * time.Millisecond
	lastWait  = 5 * time.Second
)

// mostBytes bounds what a cloud can make us read.
const mostBytes = 1 << 20

// errNothing says that a place has no context.
var errNothing = errors.New("there is nothing")

// drive is a disk on which clouds leave files, known by its label.
type drive struct {
	label   string   // in small letters
	files   []string // with the context, in the order in which they are tried
	machine func(reader) (Machine, error)
}

// drives are those of OpenStack (config drive), NoCloud, and OpenNebula's
// context ISO; VirtualBox and others can carry any of them.
var drives = []drive{
	{"config-2", []string{"openstack/latest/user_data", "ec2/latest/user-data"}, openStack},
	{"cidata", []string{"user-data"}, noCloud},
	{"context", []string{"context.sh"}, openNebula},
}

// Finder looks for what the cloud told this instance, in each form that
// clouds have. Nothing is changed on the disks that it reads.
type Finder struct {
	Files    []string                                                    // of this machine, tried first
	Disks    func() map[string]string                                    // devices by label, see Disks; nil: there are none
	Mount    func(device string) (dir string, unmount func(), err error) // makes a disk's files readable
	Metadata string                                                      // base URL of the metadata service: http://169.254.169.254
	HTTP     *http.Client
	Said     func(where string, err error) // is told of each place without a context; may be nil
}

// Find returns the first context that is found and where. It tries all places
// again and again until ctx ends.
func (f Finder) Find(ctx context.Context) (c Context, where string, err error) {
	wait := firstWait
	for {
		for _, p := range f.places() {
			var b []byte
			if b, err = p.read(ctx); err == nil {
				if c, err = Decode(b); err == nil {
					return c, p.name, nil
				}
			}
			if f.Said != nil {
				f.Said(p.name, err)
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return Context{}, "", fmt.Errorf("no context was found, the last place said: %w", err)
		case <-t.C:
		}
		wait = min(2*wait, lastWait)
	}
}

// place is where a context may be.
type place struct {
	name string
	read func(context.Context) ([]byte, error)
}

func (f Finder) places() []place {
	var list []place
	for _, name := range f.Files {
		list = append(list, place{name, func(context.Context) ([]byte, error) { return readFile(name) }})
	}
	disks := f.disks()
	for _, d := range drives {
		if device, ok := disks[d.label]; ok {
			list = append(list, place{"disk " + d.label, func(context.Context) ([]byte, error) { return f.drive(device, d) }})
		}
	}
	if f.Metadata != "" {
		list = append(list, place{f.Metadata, f.metadata})
	}
	return list
}

func (f Finder) disks() map[string]string {
	if f.Disks == nil || f.Mount == nil {
		return nil
	}
	return f.Disks()
}

// mounted gives the files of a disk to do.
func (f Finder) mounted(device string, do func(reader) error) error {
	dir, unmount, err := f.Mount(device)
	if err != nil {
		return err
	}
	defer unmount()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() // before it is unmounted
	return do(func(name string) ([]byte, error) { return readWithin(root, name) })
}

// readWithin reads a file of a disk that somebody else has filled: its links
// lead nowhere else on this machine, and nothing on it lets a boot wait.
func readWithin(root *os.Root, name string) ([]byte, error) {
	file, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return bounded(file)
}

func (f Finder) drive(device string, d drive) (b []byte, err error) {
	err = f.mounted(device, func(read reader) error {
		for _, name := range d.files {
			if b, err = read(name); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return errNothing
	})
	return b, err
}

func readFile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return bounded(file)
}

func bounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, mostBytes+1))
	if err == nil && len(b) > mostBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", mostBytes)
	}
	return b, err
}

// metadata asks as EC2's service is asked, which OpenStack and others have,
// too: with a token where the service gives one.
func (f Finder) metadata(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	header, err := f.token(ctx)
	if err != nil {
		return nil, err
	}
	b, err := f.ask(ctx, http.MethodGet, "/latest/user-data", header)
	if errors.Is(err, errNothing) {
		return f.ask(ctx, http.MethodGet, "/openstack/latest/user_data", nil)
	}
	return b, err
}

// token is what newer services want to see with each question.
func (f Finder) token(ctx context.Context) (http.Header, error) {
	token, err := f.ask(ctx, http.MethodPut, "/latest/api/token", http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}})
	header := http.Header{}
	if err == nil {
		header.Set("X-Aws-Ec2-Metadata-Token", strings.TrimSpace(string(token)))
	}
	if err != nil && !errors.Is(err, errNothing) {
		return nil, err // nobody is there
	}
	return header, nil
}

func (f Finder) ask(ctx context.Context, method, path string, header http.Header) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, f.Metadata+path, nil)
	if err != nil {
		return nil, err
	}
	if header != nil {
		r.Header = header
	}
	resp, err := f.HTTP.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s says %s", errNothing, path, resp.Status)
	}
	return bounded(resp.Body)
}

// Decode is Parse for what clouds make of the bytes on the way: packed by
// gzip, in base64, or as OpenNebula's context.sh.
func Decode(b []byte) (Context, error) {
	for range 4 { // each of the wrappings once
		b = bytes.TrimSpace(b)
		switch {
		case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				return Context{}, err
			}
			if b, err = bounded(z); err != nil {
				return Context{}, err
			}
		case bytes.HasPrefix(b, []byte("{")):
			return Parse(b)
		default:
			next, err := unwrap(b)
			if err != nil {
				return Context{}, err
			}
			b = next
		}
	}
	return Context{}, errors.New("it is wrapped too often")
}

// unwrap reads shell variables, base64 or hex.
func unwrap(b []byte) ([]byte, error) {
	if value, ok := variable(b); ok {
		return value, nil
	}
	text := strings.Join(strings.Fields(string(b)), "")
	if d, err := hex.DecodeString(text); err == nil && len(d) > 0 {
		return d, nil
	}
	if d, err := base64.StdEncoding.DecodeString(text); err == nil && len(d) > 0 {
		return d, nil
	}
	return nil, fmt.Errorf("%w of ours: it is somebody else's user data", errNothing)
}

// variable finds user data in OpenNebula's context.sh.
func variable(b []byte) ([]byte, bool) {
	v := variables(b)
	for _, name := range []string{"USER_DATA", "USERDATA"} {
		if value, ok := v[name]; ok {
			return []byte(value), true
		}
	}
	return nil, false
}
