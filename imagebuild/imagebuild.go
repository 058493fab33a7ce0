// Package imagebuild makes the root file systems that instances run on: a
// base layer and one layer for each service kind, from Debian packages, built
// once and kept by digest in a Store. It knows neither clouds nor kinds; it is
// told names of packages and hands out directories.
package imagebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"nutshell/imagebuild/recipe"
	"nutshell/imagebuild/rootfs"
)

// Suites are what a base layer is made of when nobody says otherwise: the
// first that the machine's mirror offers.
var suites = []string{"trixie", "bookworm"}

var suiteName = regexp.MustCompile(`^[a-z]{2,20}$`)

// Progress is told what is being done and how much of the whole is, 0 to 1.
type Progress = func(step string, fraction float64)

// Config says where a store is and what its images are made of.
type Config struct {
	Dir    string       // absolute
	Log    *slog.Logger // required
	Suite  string       // Debian's code name; empty: the newest stable one that the mirror offers
	Mirror string       // of Debian; empty: that of the machine's apt configuration
	Arch   string       // Debian's name of the architecture; empty: this machine's
}

// Store keeps layers by digest. It may be used by many at once, and several
// processes may have the same directory open.
type Store struct {
	dir, mirror, arch string
	log               *slog.Logger
	builds            *flights
	failed            *failures

	mu    sync.Mutex
	suite string          // decided at the first build, then kept on disk
	host  *rootfs.Archive // asked once
}

// Open opens the store in dir with this machine's defaults.
func Open(dir string, log *slog.Logger) (*Store, error) {
	return New(Config{Dir: dir, Log: log})
}

// New opens a store and clears what killed builds left behind. It needs
// neither root nor a network; building does.
func New(c Config) (*Store, error) {
	switch {
	case c.Log == nil:
		return nil, errors.New("imagebuild: Log is required")
	case !filepath.IsAbs(c.Dir):
		return nil, fmt.Errorf("imagebuild: %q is not an absolute directory", c.Dir)
	}
	if c.Suite != "" && !suiteName.MatchString(c.Suite) {
		return nil, fmt.Errorf("imagebuild: %q is not the code name of a Debian suite", c.Suite)
	}
	if c.Arch == "" {
		c.Arch = debianArch()
	}
	if err := rootfs.CheckPath(c.Dir); err != nil {
		return nil, fmt.Errorf("imagebuild: %w", err)
	}
	s := &Store{dir: filepath.Clean(c.Dir), mirror: c.Mirror, suite: c.Suite, arch: c.Arch, log: c.Log, builds: &flights{}, failed: &failures{}}
	for _, d := range []string{"layers", "build", "debs", "lists", "logs"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("open image store: %w", err)
		}
	}
	if s.suite == "" {
		b, err := os.ReadFile(s.path("suite"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open image store: %w", err)
		}
		s.suite = strings.TrimSpace(string(b))
	}
	return s, s.sweep()
}

// Arch is Debian's name of the architecture whose layers this store makes.
func (s *Store) Arch() string { return s.arch }

// For is the same store for layers of another architecture, by Debian's name of
// it. Recipes that only unpack are built anywhere; for all others this machine
// must be able to run the architecture's programs.
func (s *Store) For(arch string) *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Store{dir: s.dir, mirror: s.mirror, suite: s.suite, arch: arch, log: s.log, builds: s.builds, failed: s.failed, host: s.host}
}

// sweep removes unfinished builds, unless somebody is building now.
func (s *Store) sweep() error {
	unlock, ok, err := tryLock(s.path("lock"))
	if err != nil || !ok {
		return err
	}
	defer unlock()
	left, err := os.ReadDir(s.path("build"))
	if err != nil {
		return err
	}
	for _, d := range left {
		s.log.Info("unfinished image build removed", "dir", d.Name())
		if err := os.RemoveAll(s.path("build", d.Name())); err != nil {
			return fmt.Errorf("remove unfinished image build: %w", err)
		}
	}
	return nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// Layers returns the directories of the layers of a service kind with these
// Debian packages, lowest first, and builds what is missing. No packages: the
// base alone. Callers that ask for the same at once share one build, which
// goes on until the last of them gives up. Progress may be nil.
func (s *Store) Layers(ctx context.Context, kind string, packages []string, progress func(step string, fraction float64)) ([]string, error) {
	return s.LayersWith(ctx, kind, packages, nil, progress)
}

// LayersWith is Layers with a further layer on top, of packages that one
// service has asked for. Services that ask for the same share it.
func (s *Store) LayersWith(ctx context.Context, kind string, packages, extra []string, progress func(step string, fraction float64)) ([]string, error) {
	if progress == nil {
		progress = func(string, float64) {}
	}
	chain, err := chainWith(kind, packages, extra)
	if err != nil {
		return nil, err
	}
	return s.layers(ctx, chain, progress)
}

// Recipe returns the directories of the layers of an embedded recipe, lowest
// first, with further packages in the highest, and builds what is missing.
func (s *Store) Recipe(ctx context.Context, name string, packages []string, progress Progress) ([]string, error) {
	r, err := recipe.Load(name)
	if err != nil {
		return nil, err
	}
	chain, err := recipe.Chain(r.With(packages))
	if err != nil {
		return nil, err
	}
	return s.layers(ctx, chain, progress)
}

// layers builds what is missing of a chain.
func (s *Store) layers(ctx context.Context, chain []recipe.Recipe, progress Progress) ([]string, error) {
	suite, arch, err := s.target(ctx)
	if err != nil {
		return nil, err
	}
	dirs := make([]string, 0, len(chain))
	below := ""
	for i, r := range chain {
		digest := r.Digest(below, suite, arch)
		share := func(step string, fraction float64) {
			progress(r.Name+" image: "+step, (float64(i)+fraction)/float64(len(chain)))
		}
		if _, err := s.read(digest); err == nil {
			if s.arch == debianArch() { // those of others are handed out, not run here
				err = s.unpack(ctx, digest, share)
			}
			if err != nil {
				return nil, err
			}
		} else {
			lowers := append([]string(nil), dirs...)
			for _, dir := range lowers {
				if err := s.unpack(ctx, filepath.Base(filepath.Dir(dir)), share); err != nil {
					return nil, err
				}
			}
			err := s.builds.do(ctx, digest, share, func(ctx context.Context, progress Progress) error {
				return s.build(ctx, r, digest, below, suite, lowers, progress)
			})
			if err != nil {
				return nil, err
			}
		}
		dirs = append(dirs, s.rootDir(digest))
		below = digest
	}
	progress("image ready", 1)
	return dirs, nil
}

// Digests names the layers that Layers would return, lowest first, without
// building them. Before the store's first build it returns nothing.
func (s *Store) Digests(kind string, packages []string) ([]string, error) {
	chain, err := chainOf(kind, packages)
	if err != nil {
		return nil, err
	}
	return s.digests(chain), nil
}

// extraSuffix is what the name of a layer of one service's own packages ends with.
const extraSuffix = "-extra"

// chainWith is chainOf with one service's own packages on top.
func chainWith(kind string, packages, extra []string) ([]recipe.Recipe, error) {
	chain, err := chainOf(kind, packages)
	if err != nil || len(extra) == 0 {
		return chain, err
	}
	r, err := recipe.ForKind(kind+extraSuffix, extra)
	return append(chain, r), err
}

func chainOf(kind string, packages []string) ([]recipe.Recipe, error) {
	if len(packages) == 0 {
		base, err := recipe.Load("base")
		return []recipe.Recipe{base}, err
	}
	r, err := recipe.ForKind(kind, packages)
	if err != nil {
		return nil, fmt.Errorf("image of service kind %s: %w", kind, err)
	}
	return recipe.Chain(r)
}

// target decides once what suite the store's layers are made of. A store that
// has decided needs no mirror to hand out what it has.
func (s *Store) target(ctx context.Context) (suite, arch string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suite == "" {
		if err := rootfs.Tools(); err != nil {
			return "", "", err
		}
		host, err := s.archive(ctx)
		if err != nil {
			return "", "", err
		}
		if s.suite, err = host.Suite(ctx, suites...); err != nil {
			return "", "", err
		}
		if err := os.WriteFile(s.path("suite"), []byte(s.suite+"\n"), 0o644); err != nil {
			return "", "", err
		}
	}
	return s.suite, s.arch, nil
}

// archive is called with s.mu held.
func (s *Store) archive(ctx context.Context) (*rootfs.Archive, error) {
	if s.host == nil {
		a, err := rootfs.Host(ctx, s.mirror)
		if err != nil {
			return nil, err
		}
		s.host = &a
	}
	return s.host, nil
}

// build makes one layer, unless another process has made it meanwhile.
func (s *Store) build(ctx context.Context, r recipe.Recipe, digest, below, suite string, lowers []string, progress Progress) (err error) {
	if err := rootfs.Tools(); err != nil {
		return err
	}
	if !r.Unpack {
		if err := rootfs.Runs(s.arch); err != nil {
			return err
		}
	}
	// One build at a time: they share apt's caches, which take one user each.
	unlock, err := lock(ctx, s.path("lock"), func() { progress("waiting for another image build", 0) })
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.read(digest); err == nil {
		return nil
	}
	if err := s.checkSpace(r); err != nil {
		return err
	}
	s.mu.Lock()
	host, err := s.archive(ctx)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	began := time.Now()
	job, clean, err := s.job(r, digest, suite)
	if err != nil {
		return err
	}
	defer clean()
	job.Options = host.Options()
	switch {
	case r.Unpack:
		job.Sources, job.Recipe.Packages = host.SourcesOf(ctx, suite, r)
		err = rootfs.Unpack(ctx, job, progress)
	case below == "":
		job.Sources = host.Sources(ctx, suite)
		err = rootfs.Bootstrap(ctx, job, progress)
	default:
		err = rootfs.Install(ctx, job, lowers, progress)
	}
	if err != nil {
		return err
	}
	l := Layer{Digest: digest, Below: below, Name: r.Name, Suite: suite, Arch: s.arch, Packages: r.Packages, Created: began.UTC()}
	if err := s.keep(&l, job.Dir); err != nil {
		return err
	}
	s.log.Info("image layer built", "name", r.Name, "digest", digest[:12], "suite", suite, "bytes", l.Bytes, "took", time.Since(began))
	return nil
}

// job makes the directories of one build; clean removes what is left of them.
func (s *Store) job(r recipe.Recipe, digest, suite string) (rootfs.Job, func(), error) {
	dir, err := os.MkdirTemp(s.path("build"), r.Name+"-")
	if err != nil {
		return rootfs.Job{}, nil, err
	}
	lists := suite
	if s.arch != debianArch() {
		lists += "-" + s.arch
	}
	j := rootfs.Job{Recipe: r, Suite: suite, Arch: s.arch, Dir: filepath.Join(dir, "layer", "rootfs"), Work: filepath.Join(dir, "work"),
		Debs: s.path("debs", suite), Lists: s.path("lists", lists)}
	for _, d := range []string{j.Dir, j.Work, filepath.Join(j.Debs, "partial"), filepath.Join(j.Lists, "partial")} {
		err = errors.Join(err, os.MkdirAll(d, 0o755))
	}
	logFile, logErr := os.OpenFile(s.path("logs", r.Name+"-"+digest[:12]+".log"), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	j.Log = logFile
	clean := func() {
		if logErr == nil {
			logFile.Close()
		}
		if err := os.RemoveAll(dir); err != nil {
			s.log.Warn("image build directory not removed", "dir", dir, "error", err)
		}
	}
	if err := errors.Join(err, logErr); err != nil {
		clean()
		return rootfs.Job{}, nil, err
	}
	return j, clean, nil
}
