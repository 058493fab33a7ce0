// Package director is the one place of durable truth: users, applications,
// services, their instances, code and operations. It decides what may happen,
// stores it before it begins, asks clouds for instances and starts lost
// managers again. What happens inside a service is its manager's business.
package director

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
	"nutshell/roles/director/codestore"
	"nutshell/roles/director/credit"
	"nutshell/roles/director/gitserver"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/config"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/metrics"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/seal"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// Config is what New needs.
type Config struct {
	Dir          string   // data directory
	Listen       []string // host:port; port 0 takes any
	Names        []string // host names and addresses that clients reach us by, beside those of Listen
	Clouds       []CloudConfig
	DefaultCloud string // name; the first cloud if empty
	Drivers      *cloud.Registry
	Services     *services.Registry
	// Layers gives the root file system of a kind's instances for an
	// architecture, as Go names it, and what an operator should know of it; nil
	// where no cloud needs one.
	Layers func(ctx context.Context, arch, kind string, packages, extra []string, progress func(step string, fraction float64)) (dirs []string, warning string, err error)
	// Package gives the archive of the web application in a Debian package, of
	// the release that layers are made of if layered; nil: there is no apt.
	Package func(ctx context.Context, name string, layered bool, progress func(step string, fraction float64)) (path string, err error)
	// Layer writes a layer that Layers gave, as a compressed tar, for another
	// machine; nil where Layers is.
	Layer func(ctx context.Context, digest string, w io.Writer) error
	// FetchPrivate lets manifests name URLs at addresses that are not public.
	FetchPrivate bool

	UI     fs.FS // built pages; nil: none
	Binary string
	Limits Limits
	Edge   EdgeConfig
	Git    GitConfig
	// Metrics bounds the history of what instances measured; zero fields get defaults.
	Metrics MetricsConfig
	Credit  CreditConfig
	Nodes   NodesConfig
	Keep    KeepConfig
	// Settings is the whole configuration as it is shown to administrators, and
	// from which follows what they may change while the director runs; may be nil.
	Settings []config.Entry
	Now      func() time.Time
	Log      *slog.Logger
}

// CloudConfig is one cloud of the configuration.
type CloudConfig struct {
	Name, Driver string
	Options      map[string]string
}

// Limits bound what instances and users may use; zero fields get defaults.
type Limits struct {
	ManagerMemory, AgentMemory int64 // bytes
	AgentCPU                   int   // percent of one core, 0: no limit
	Processes                  int   // of one instance
	Instances                  int   // of one application
	Upload                     int64 // bytes of one archive
}

func (l Limits) withDefaults() Limits {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.ManagerMemory, 256<<20)
	def(&l.AgentMemory, 512<<20)
	def(&l.Upload, 2<<30)
	if l.Processes == 0 {
		l.Processes = 512
	}
	if l.Instances == 0 {
		l.Instances = 64
	}
	return l
}

// Director is the director role.
type Director struct {
	c            Config
	store        *store.Store
	code         *codestore.Store
	ca           *pki.Authority
	secrets      *seal.Box // seals what the database must not tell
	http         *httpapi.Server
	clouds       []*place
	nodes        *nodes
	began        time.Time
	joins        *auth.Limiter            // of machines that want to join
	newcomers    *auth.Limiter            // of those that never did before
	neighbours   func() map[string]string // network card by address
	challenges   *challenges
	limits       *auth.Limiter
	codes        *auth.Limiter // of second factors: fewer tries than of passwords, for there are fewer codes
	proofs       *proofs
	enrolments   *enrolments
	ceremonies   *ceremonies
	present      *attendance
	passwords    *auth.Passwords
	live         *live
	front        *front
	git          *gitserver.Server
	metrics      *metrics.Store
	own          *metrics.Own // figures of this process
	installation string
	password     string // of the first admin, until it was handed out
	clock        credit.Clock
	chosenCloud  string // the default one, where the configuration names none; guarded by mu

	ctx        context.Context // ends when the director does
	end        context.CancelFunc
	waits      context.Context // ends when no more requests are answered: who waits for news is sent away
	endWait    context.CancelFunc
	work       sync.WaitGroup // everything that runs beside requests
	mu         sync.Mutex
	running    map[string]context.CancelCauseFunc // director-run operations by id
	closed     bool                               // Close was called: nothing new begins
	halted     bool                               // Shutdown was called: nothing new is launched
	address    []string                           // host:port where we listen
	pushing    sync.Map                           // a lock for each application, while code versions are made of a push
	gitAddress []string                           // host:port where the git server listens
	gitProblem string                             // why it does not
	binary     func() (string, error)             // sha256 of our own executable
	blobs      sync.RWMutex                       // uploads read, the removal of blobs writes
	garbage    []string                           // blobs that may not be needed any more
	readers    chan struct{}                      // full of those who read archives through
	known      sync.Map                           // passwords that were right a moment ago
	strays     sync.Map                           // volumes without a row (false: told of), and "missing" ones of rows
	streams    sync.Map                           // files on their way to services
	terminals  *terminals
	backups    *backups
	tuned      atomic.Pointer[tuning] // settings that administrators may change meanwhile
}

// New opens the data directory and everything in it. It starts nothing.
func New(ctx context.Context, c Config) (*Director, error) {
	switch {
	case c.Dir == "":
		return nil, errors.New("director: Dir is required")
	case c.Drivers == nil || c.Services == nil:
		return nil, errors.New("director: Drivers and Services are required")
	case len(c.Clouds) == 0:
		return nil, &api.Error{Code: api.CodeInvalid, Op: "start", Object: "director", Message: "no cloud is configured", Hint: "name one under clouds in nutshell.yaml"}
	case c.Now == nil || c.Log == nil:
		return nil, errors.New("director: Now and Log are required")
	}
	c.Limits = c.Limits.withDefaults()
	d := &Director{c: c, began: c.Now(), live: newLive(), own: metrics.NewOwn(), running: map[string]context.CancelCauseFunc{}, limits: auth.NewLimiter(auth.LimiterConfig{Now: c.Now}),
		codes: auth.NewLimiter(auth.LimiterConfig{Burst: 5, Every: 30 * time.Second, Now: c.Now}), proofs: newProofs(), enrolments: newEnrolments(), ceremonies: newCeremonies(), present: newAttendance(), nodes: newNodes(), joins: newJoinLimiter(c.Now), newcomers: newNewcomerLimiter(c.Now), neighbours: networkCards, challenges: newChallenges(), passwords: auth.NewPasswords(), readers: make(chan struct{}, readersMost), terminals: newTerminals()}
	d.ctx, d.end = context.WithCancel(context.WithoutCancel(ctx))
	d.waits, d.endWait = context.WithCancel(d.ctx) //nolint:gosec // Close ends the parent
	d.binary = sync.OnceValues(func() (string, error) { return fileSHA256(c.Binary) })
	if err := d.open(ctx); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Director) open(ctx context.Context) error {
	var err error
	if d.store, err = store.Open(ctx, d.c.Dir, d.c.Now); err != nil {
		return err
	}
	if err := d.openSettings(ctx); err != nil {
		return err
	}
	if d.code, err = codestore.Open(filepath.Join(d.c.Dir, "blobs")); err != nil {
		return err
	}
	if err := d.openMetrics(); err != nil {
		return err
	}
	if err := d.openInstallation(ctx); err != nil {
		return err
	}
	if err := d.openSecrets(ctx); err != nil {
		return err
	}
	if err := d.openBackups(ctx); err != nil {
		return err
	}
	if err := d.openCredit(ctx); err != nil {
		return err
	}
	if err := d.completeSecrets(ctx, 0); err != nil {
		return err
	}
	if err := d.openGit(); err != nil {
		return err
	}
	if err := d.openClouds(); err != nil {
		return err
	}
	if err := d.openDefaultCloud(ctx); err != nil {
		return err
	}
	if err := d.firstUser(ctx); err != nil {
		return err
	}
	if err := d.openFront(); err != nil { // its connections have contexts of their own
		return err
	}
	fresh := func(h http.Handler) http.Handler { return pki.FreshConnections(d.c.Now, h) }
	d.http, err = httpapi.New(httpapi.Config{Wrap: fresh, Guard: guard{d}, Routes: d.routes(), UI: d.c.UI, Version: version().Version, Log: d.c.Log, Now: d.c.Now, Answered: d.answered}) //nolint:contextcheck // requests have contexts of their own
	return err
}

// openInstallation makes the installation's id and CA at the first start and
// finds them again at each later one.
func (d *Director) openInstallation(ctx context.Context) error {
	var err error
	if d.installation, err = d.store.Meta(ctx, "installation"); err != nil {
		return err
	}
	dir := filepath.Join(d.c.Dir, "ca")
	if d.installation == "" {
		d.installation = api.NewID(8)
		// The CA comes first: an id without one would never get one.
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("make CA: %w", err)
		}
		if d.ca, err = pki.Create(dir, d.installation, d.c.Now); err != nil {
			return err
		}
		return d.store.Write(ctx, func(t *store.Tx) error { return t.SetMeta(ctx, "installation", d.installation) })
	}
	d.ca, err = pki.Open(dir, d.c.Now)
	return err
}

// openSecrets makes the key of secrets at the first start. Later another or
// none is not taken for it: applications would go on without their passwords.
func (d *Director) openSecrets(ctx context.Context) error {
	path := filepath.Join(d.c.Dir, "ca", "secrets.key")
	id, err := d.store.Meta(ctx, "secrets_key")
	if err != nil {
		return err
	}
	if id == "" {
		if d.secrets, err = seal.Make(path); err != nil {
			return err
		}
		return d.store.Write(ctx, func(t *store.Tx) error { return t.SetMeta(ctx, "secrets_key", d.secrets.ID()) })
	}
	if d.secrets, err = seal.Open(path); err != nil {
		return err
	}
	if d.secrets.ID() != id {
		return &api.Error{Code: api.CodeUnavailable, Op: "open", Object: "key of secrets " + path, Message: "it is another than the one of this installation",
			Hint: "put back the one that belongs to this data directory"}
	}
	return nil
}

// Close ends everything that runs here and leaves instances alone: they
// outlive a director, and the next one adopts them.
func (d *Director) Close() error {
	d.finish()
	d.front.close()
	var err error
	if d.metrics != nil {
		err = d.metrics.Close()
	}
	if d.store != nil {
		err = errors.Join(err, d.store.Close())
	}
	return err
}

// finish ends all that runs beside requests and waits for it.
func (d *Director) finish() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.end()
	d.work.Wait()
}

// Installation is the id of this installation.
func (d *Director) Installation() string { return d.installation }

// CASHA256 is the hash that clients pin.
func (d *Director) CASHA256() string { return d.ca.RootSHA256() }

// FirstPassword is the password of the user admin if New has just made it, to
// be shown once. It is stored nowhere.
func (d *Director) FirstPassword() string {
	p := d.password
	d.password = ""
	return p
}

// goWork runs f beside requests until it returns; Close waits for it.
func (d *Director) goWork(f func(ctx context.Context)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.work.Add(1)
	go func() {
		defer d.work.Done()
		f(d.ctx)
	}()
}

// write is one transaction that is finished even when the asker has gone.
func (d *Director) write(ctx context.Context, fn func(ctx context.Context, t *store.Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return d.store.Write(ctx, func(t *store.Tx) error {
		t.By(httpapi.Who(ctx).User.Name, "")
		return fn(ctx, t)
	})
}
