package process

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"nutshell/cloud"
)

const (
	newPrefix  = ".new-"  // a directory that is being made
	gonePrefix = ".gone-" // a directory that is being removed
	termSignal = syscall.SIGTERM
	// bootLogMax is where a boot log is put aside at the next start.
	bootLogMax = 1 << 20
)

// record is what instance.json says. It is written before the process starts.
type record struct {
	Installation string            `json:"installation"`
	Name         string            `json:"name"`
	Group        string            `json:"group"`
	Address      string            `json:"address"`
	Created      time.Time         `json:"created"`
	Tags         map[string]string `json:"tags,omitempty"`
	Limits       cloud.Limits      `json:"limits"`
}

func (r record) instance(running bool) cloud.Instance {
	return cloud.Instance{
		ID: r.Name, Name: r.Name, Group: r.Group, Address: r.Address,
		Running: running, Created: r.Created, Tags: r.Tags,
	}
}

func (d *driver) dir(name string) string         { return filepath.Join(d.c.Dir, name) }
func (d *driver) recordFile(name string) string  { return filepath.Join(d.dir(name), "instance.json") }
func (d *driver) processFile(name string) string { return filepath.Join(d.dir(name), "process.json") }
func (d *driver) contextFile(name string) string {
	return filepath.Join(d.dir(name), "etc", "nutshell", "context.json")
}

// socketsDir is where an instance keeps a short name for its sockets, should
// its own directory's be too long. It goes when the instance stops.
func (d *driver) socketsDir(name string) string {
	return "/tmp/nutshell-" + fmt.Sprintf("%x", sha256.Sum256([]byte(d.dir(name))))[:12]
}

func (d *driver) load(name string) (record, error) {
	var r record
	if err := cloud.LoadState(d.recordFile(name), &r); err != nil {
		return record{}, err
	}
	if r.Installation != d.c.Installation || r.Name != name {
		return record{}, fmt.Errorf("%s belongs to installation %q, not to %q", d.dir(name), r.Installation, d.c.Installation)
	}
	return r, nil
}

// records reads all instances of this installation.
func (d *driver) records() ([]record, error) { return cloud.Records(d.c.Dir, d.load, d.log) }

// create makes the directory under another name first: it is whole, with its
// record, or absent.
func (d *driver) create(s cloud.Spec) (record, error) {
	address, release, err := d.reserve(s.Name)
	if err != nil {
		return record{}, err
	}
	defer release() // the record has it by then
	r := record{
		Installation: d.c.Installation, Name: s.Name, Group: s.Group, Address: address,
		Created: time.Now().UTC().Truncate(time.Second), Tags: s.Tags, Limits: s.Limits,
	}
	fresh := filepath.Join(d.c.Dir, newPrefix+s.Name)
	if err := os.RemoveAll(fresh); err != nil {
		return record{}, err
	}
	// Daemons of an instance may run as other users when Nutshell is root, so
	// directories can be entered; the context is for its owner only.
	for _, sub := range []string{filepath.Join("etc", "nutshell"), "var", "volumes"} {
		if err := os.MkdirAll(filepath.Join(fresh, sub), 0o755); err != nil {
			return record{}, err
		}
	}
	err = errors.Join(
		cloud.SaveFile(filepath.Join(fresh, "etc", "nutshell", "context.json"), s.Context),
		cloud.SaveRuntime(filepath.Join(fresh, "process.json"), cloud.Process{}),
		cloud.SaveState(filepath.Join(fresh, "instance.json"), r),
	)
	if err == nil {
		err = os.Rename(fresh, d.dir(s.Name))
	}
	if err != nil {
		return record{}, errors.Join(err, os.RemoveAll(fresh))
	}
	return r, nil
}

// renew takes over what a new Launch of a stopped instance says.
func (d *driver) renew(r *record, s cloud.Spec) error {
	r.Tags, r.Limits = s.Tags, s.Limits
	if len(s.Context) > 0 {
		if err := cloud.SaveFile(d.contextFile(s.Name), s.Context); err != nil {
			return err
		}
	}
	return cloud.SaveState(d.recordFile(s.Name), *r)
}

// start runs the instance's leader in a session of its own, so that it
// outlives this process.
func (d *driver) start(r record) (cloud.Instance, error) {
	dir := d.dir(r.Name)
	if err := cloud.ClearEnding(dir); err != nil {
		return cloud.Instance{}, err
	}
	logFile := filepath.Join(dir, "boot.log")
	if st, err := os.Stat(logFile); err == nil && st.Size() > bootLogMax {
		if err := os.Rename(logFile, logFile+".1"); err != nil {
			return cloud.Instance{}, err
		}
	}
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return cloud.Instance{}, err
	}
	defer func() { _ = out.Close() }()
	// While the file is missing, leader() looks for the process itself: a
	// director that dies between the two lines below loses nothing.
	if err := os.Remove(d.processFile(r.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return cloud.Instance{}, err
	}
	cmd := exec.Command(d.c.Binary, "--role", "init", "--context", d.contextFile(r.Name), "--dir", filepath.Join(dir, "var")) //nolint:noctx // it outlives every context of ours
	cmd.Env = d.environment(r)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return cloud.Instance{}, errors.Join(err, cloud.SaveRuntime(d.processFile(r.Name), cloud.Process{}))
	}
	p, err := cloud.FindProcess(cmd.Process.Pid)
	if err == nil {
		err = cloud.SaveRuntime(d.processFile(r.Name), p)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return cloud.Instance{}, err
	}
	go func() { // takes the zombie away; its fate is seen by List
		err := cmd.Wait()
		d.log.Info("instance ended", "instance", r.Name, "cause", fmt.Sprint(err))
	}()
	return r.instance(true), nil
}

func (d *driver) environment(r record) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + filepath.Join(d.dir(r.Name), "var"),
		"LANG=C.UTF-8",
		"NUTSHELL_ADDRESS=" + r.Address,
		"NUTSHELL_VOLUMES=" + d.mountDir(r.Name),
		"NUTSHELL_SOCKETS=" + d.socketsDir(r.Name),
		instanceEnv + r.Name,
		markEnv + d.mark(),
	}
	if r.Limits.MemoryBytes > 0 {
		env = append(env, "NUTSHELL_MEMORY="+strconv.FormatInt(r.Limits.MemoryBytes, 10))
	}
	return env
}

// mark tells the processes of this installation's directory from those of
// another that uses the same names. It is no secret.
func (d *driver) mark() string {
	return d.c.Installation + "-" + fmt.Sprintf("%x", sha256.Sum256([]byte(d.c.Dir)))[:12]
}
