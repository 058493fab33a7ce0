package imagebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"nutshell/imagebuild/recipe"
)

// againAfter is how long a layer that could not be made is not tried again
// while an older one can stand in: a mirror that does not answer takes a minute
// to be given up, at each start of a service.
const againAfter = 30 * time.Minute

// Older says that layers of an older recipe are used, as those that this
// program would make are not here and cannot be made.
type Older struct {
	Name    string    // of the layer on top: a service kind, or base
	Arch    string    // Debian's name
	Created time.Time // of the layer on top
	Lacks   []string  // packages that the recipe of today has beside
	Why     error     // nothing newer could be made; nil: that was tried a while ago
}

// String is what people are told.
func (o Older) String() string {
	lacks := ""
	if len(o.Lacks) > 0 {
		lacks = " and lacks " + strings.Join(o.Lacks, ", ")
	}
	return fmt.Sprintf("the %s image for %s is of %s: it was made by an older recipe%s; run nutshell image layers build%s when this machine can make images and reaches the Debian mirror",
		o.Name, o.Arch, o.Created.Format(time.DateOnly), lacks, archOption(o.Arch))
}

func archOption(arch string) string {
	if arch == debianArch() {
		return ""
	}
	return " --arch " + arch
}

// failures remembers what could not be made, by digest. It is shared by the
// stores of one directory for several architectures.
type failures struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (f *failures) note(digest string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		f.at = map[string]time.Time{}
	}
	f.at[digest] = time.Now()
}

func (f *failures) recent(digest string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.at[digest]
	return ok && time.Since(at) < againAfter
}

// LayersOrOlder is LayersWith for who would rather launch with yesterday's
// layers than not at all. Where a layer is missing and cannot be made (no
// network, no emulator, no space), the newest of the same kind, suite and
// architecture is used, and said.
func (s *Store) LayersOrOlder(ctx context.Context, kind string, packages, extra []string, progress Progress) ([]string, *Older, error) {
	if progress == nil {
		progress = func(string, float64) {}
	}
	chain, err := chainWith(kind, packages, extra)
	if err != nil {
		return nil, nil, err
	}
	wanted := s.digests(chain)
	there := len(wanted) > 0 && !slices.ContainsFunc(wanted, func(d string) bool { _, err := s.read(d); return err != nil })
	if !there && len(wanted) > 0 && s.failed.recent(wanted[len(wanted)-1]) {
		if dirs, older := s.older(ctx, chain, nil, progress); older != nil {
			return dirs, older, nil
		}
	}
	dirs, err := s.layers(ctx, chain, progress)
	if err == nil || ctx.Err() != nil {
		return dirs, nil, err
	}
	dirs, older := s.older(ctx, chain, err, progress)
	if older == nil {
		return nil, nil, err
	}
	if wanted = s.digests(chain); !there && len(wanted) > 0 {
		s.failed.note(wanted[len(wanted)-1])
	}
	s.log.Warn("older image layers are used", "name", older.Name, "arch", older.Arch, "made", older.Created, "error", err)
	return dirs, older, nil
}

// older makes the newest stack ready that can stand in for a chain.
func (s *Store) older(ctx context.Context, chain []recipe.Recipe, why error, progress Progress) ([]string, *Older) {
	stacks, err := s.standIns(chain)
	if err != nil {
		s.log.Warn("image layers not listed", "error", err)
	}
	for _, stack := range stacks {
		dirs := make([]string, len(stack))
		var err error
		for i, l := range stack {
			dirs[i] = l.Dir
			if err == nil && s.arch == debianArch() { // those of others are handed out, not run here
				err = s.unpack(ctx, l.Digest, progress)
			}
		}
		if err != nil {
			s.log.Warn("older image layer not usable", "name", stack[len(stack)-1].Name, "error", err)
			continue
		}
		top, want := stack[len(stack)-1], chain[len(chain)-1]
		o := &Older{Name: want.Name, Arch: s.arch, Created: top.Created, Why: why}
		for _, p := range want.Packages {
			if !slices.Contains(top.Packages, p) {
				o.Lacks = append(o.Lacks, p)
			}
		}
		progress(want.Name+" image: made by an older recipe, as a new one cannot be made now", 1)
		return dirs, o
	}
	return nil, nil
}

// standIns are the stacks of the store that have the shape of a chain, newest
// first, each lowest layer first.
func (s *Store) standIns(chain []recipe.Recipe) ([][]Layer, error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	suite := s.suite
	s.mu.Unlock()
	wanted, by := s.digests(chain), map[string]Layer{}
	for _, l := range list {
		by[l.Digest] = l
	}
	var stacks [][]Layer
	for _, l := range slices.Backward(list) { // List has the oldest first
		stack := make([]Layer, len(chain))
		fits := !slices.Contains(wanted[max(0, len(wanted)-1):], l.Digest)
		for i := len(chain) - 1; fits && i >= 0; i-- {
			stack[i] = l
			fits = l.Suite == suite && l.Arch == s.arch && standsIn(l, chain[i])
			if i == 0 {
				fits = fits && l.Below == ""
			} else if fits {
				l, fits = by[l.Below]
			}
		}
		if fits {
			stacks = append(stacks, stack)
		}
	}
	return stacks, nil
}

// standsIn reports whether a layer was made by a recipe of that name, or of the
// same packages: kinds that ask for the same share a layer. Of what one service
// asked for, nothing may be missing.
func standsIn(l Layer, r recipe.Recipe) bool {
	covers := !slices.ContainsFunc(r.Packages, func(p string) bool { return !slices.Contains(l.Packages, p) })
	if l.Name != r.Name {
		return covers && len(l.Packages) == len(r.Packages)
	}
	return covers || !strings.HasSuffix(r.Name, extraSuffix)
}

// Standing names the layers that LayersOrOlder would use without making any:
// those that it wants, and, where one of them is missing, what stands in.
func (s *Store) Standing(kind string, packages []string) (digests []string, older bool, err error) {
	chain, err := chainWith(kind, packages, nil)
	if err != nil {
		return nil, false, err
	}
	digests = s.digests(chain)
	for _, d := range digests {
		if _, err := s.read(d); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		stacks, err := s.standIns(chain)
		if err != nil || len(stacks) == 0 {
			return digests, false, err
		}
		for _, l := range stacks[0] {
			digests = append(digests, l.Digest)
		}
		return digests, true, nil
	}
	return digests, false, nil
}

// digests are those of a chain's layers; none before the store's first build.
func (s *Store) digests(chain []recipe.Recipe) (digests []string) {
	s.mu.Lock()
	suite := s.suite
	s.mu.Unlock()
	if suite == "" {
		return nil
	}
	below := ""
	for _, r := range chain {
		below = r.Digest(below, suite, s.arch)
		digests = append(digests, below)
	}
	return digests
}
