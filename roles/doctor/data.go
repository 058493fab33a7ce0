package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrBusy says that something cannot be told now.
var ErrBusy = errors.New("cannot be told now")

const chooseDir = "choose another by data_dir in the configuration, or --data-dir"

// checkData: the director writes there; instances run below it under accounts
// that may pass but not look.
func checkData(_ context.Context, p *Patient) Finding {
	if p.DataDir == "" {
		return fail(chooseDir, "there is no data directory: neither HOME nor data_dir is set")
	}
	st, err := os.Stat(p.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		up := existing(p.DataDir)
		if unix.Access(up, unix.W_OK) != nil {
			return fail(chooseDir+", or make it for this user: install -d -o USER "+p.DataDir, "%s is not there and cannot be made in %s", p.DataDir, up)
		}
		return ok("%s will be made", p.DataDir)
	}
	switch {
	case err != nil:
		return fail(chooseDir, "%v", err)
	case !st.IsDir():
		return fail(chooseDir, "%s is no directory", p.DataDir)
	}
	owner := -1
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		owner = int(s.Uid)
	}
	if p.Euid != 0 && owner != p.Euid {
		return skip("%s belongs to another user; whoever that is must ask: sudo nutshell doctor", p.DataDir)
	}
	if err := writable(p.DataDir); err != nil {
		do := chooseDir
		if errors.Is(err, syscall.EROFS) {
			do = "see why the disk is read-only: dmesg | tail; then: mount -o remount,rw MOUNTPOINT"
		}
		return fail(do, "cannot write in %s: %v", p.DataDir, reason(err))
	}
	for _, name := range []string{"nutshell.db", "client.yaml", "ca/intermediate.key", "ca/root/root.key"} {
		path := filepath.Join(p.DataDir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 {
			return fail("chmod go= "+path, "%s can be read by other accounts (mode %#o)", path, st.Mode().Perm()).closed(path)
		}
	}
	if p.Euid == 0 {
		for dir := p.DataDir; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			if st, err := os.Stat(dir); err == nil && st.Mode()&0o001 == 0 {
				f := fail("chmod o+x "+dir, "daemons of instances run under other accounts, which may not pass %s", dir)
				if dir != p.DataDir { // somebody else's, who may want it closed
					return f
				}
				return f.by(f.Do, func(context.Context) error { return chmod(dir, func(m fs.FileMode) fs.FileMode { return m | 0o001 }) })
			}
		}
	}
	if p.Running > 0 {
		return ok("%s, used by process %d", p.DataDir, p.Running)
	}
	return ok("%s", p.DataDir)
}

// reason is the bare cause of an error about a path that is named already.
func reason(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("x")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// checkSpace: a layer takes up to 600 MB, and SQLite must be able to write.
func checkSpace(_ context.Context, p *Patient) Finding {
	if p.Statfs == nil || p.DataDir == "" {
		return skip("not asked")
	}
	dir := existing(p.DataDir)
	s, err := p.Statfs(dir)
	if err != nil {
		return warn(chooseDir, "%s: %v", dir, err)
	}
	const do = "remove what is not needed: nutshell image layers clean, nutshell bin list; or " + chooseDir
	free := int64(s.Bavail) * s.Bsize >> 20 //nolint:gosec // below 2^63 on any disk
	switch {
	case s.Type == unix.TMPFS_MAGIC:
		return warn(chooseDir, "%s lies in memory: all of it is gone after a restart", dir)
	case p.Containers && (s.Type == unix.OVERLAYFS_SUPER_MAGIC || s.Type == unix.NFS_SUPER_MAGIC || s.Type == unix.V9FS_MAGIC):
		return fail(chooseDir, "%s lies on a file system that cannot take instances' files (overlay or network)", dir)
	case free < 512:
		return fail(do, "%d MB are free in %s", free, dir)
	case free < 4096:
		return warn(do, "%d MB are free in %s: a new kind's layer takes up to 600, building it as much again", free, dir)
	case s.Files > 0 && s.Ffree*50 < s.Files && s.Ffree < 100000:
		return warn(do, "%d more files can be made in %s", s.Ffree, dir)
	}
	return ok("%d MB are free in %s", free, dir)
}

func checkDatabase(ctx context.Context, p *Patient) Finding {
	if p.Database == nil || p.DataDir == "" {
		return skip("not asked")
	}
	switch err := p.Database(ctx, p.DataDir); {
	case err == nil:
		return ok("read through, sound")
	case errors.Is(err, fs.ErrNotExist):
		return ok("none yet: the first start makes it")
	case errors.Is(err, fs.ErrPermission):
		return skip("not readable for this user: sudo nutshell doctor")
	case errors.Is(err, ErrBusy), errors.Is(err, context.DeadlineExceeded):
		return skip("%v", err)
	default:
		return fail("stop the director, keep a copy of "+p.DataDir+", and put back an older copy of the directory", "%v", err)
	}
}

// checkAuthority reads the certificates that everything else hangs on.
func checkAuthority(_ context.Context, p *Patient) []Finding {
	dir := filepath.Join(p.DataDir, "ca")
	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrNotExist) {
		return []Finding{ok("none yet: the first start makes it")}
	} else if errors.Is(err, fs.ErrPermission) {
		return []Finding{skip("not readable for this user: sudo nutshell doctor")}
	}
	_, err := os.Stat(filepath.Join(dir, "root", "root.key"))
	rootKey := err == nil
	var all []Finding
	for _, name := range []string{"root.pem", "intermediate.pem"} {
		path := filepath.Join(dir, name)
		cert, err := readCertificate(path)
		if err != nil {
			all = append(all, fail("put it back from a copy of the data directory", "%v", err))
			continue
		}
		left := cert.NotAfter.Sub(p.Now())
		const year = 365 * 24 * time.Hour
		switch {
		case p.Now().Before(cert.NotBefore):
			all = append(all, fail("set the clock", "%s begins at %s, which is to come", path, cert.NotBefore.Format(time.DateOnly)))
		case left <= 0:
			all = append(all, fail("restore root/root.key there and start the director again: it makes a new intermediate", "%s ended on %s", path, cert.NotAfter.Format(time.DateOnly)))
		case name == "root.pem" && left < year:
			all = append(all, warn("a new root is a new installation: nutshell application manifest saves what is in this one", "%s ends on %s", path, cert.NotAfter.Format(time.DateOnly)))
		case left < year && !rootKey:
			all = append(all, warn("put root/root.key back there and start the director once: it makes a new one", "%s ends on %s, and the root's key is not here", path, cert.NotAfter.Format(time.DateOnly)))
		}
	}
	if len(all) == 0 {
		return []Finding{ok("valid for more than a year")}
	}
	return all
}

func readCertificate(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New(path + " has no certificate in it")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New(path + ": " + err.Error())
	}
	return cert, nil
}

// checkEdge looks at the certificate that the configuration names.
func checkEdge(_ context.Context, p *Patient) Finding {
	if p.EdgeChain == "" {
		return skip("edge.chain is not set")
	}
	pair, err := tls.LoadX509KeyPair(p.EdgeChain, p.EdgeKey)
	if err != nil {
		return fail("edge.chain and edge.key must be a certificate and its own key", "%v", err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return fail("edge.chain and edge.key must be a certificate and its own key", "%v", err)
	}
	return lifetime(p.Now(), cert, 14*24*time.Hour, "renew it, then restart the director", p.EdgeChain)
}

func lifetime(now time.Time, c *x509.Certificate, soon time.Duration, do, name string) Finding {
	end := c.NotAfter.UTC().Format(time.DateTime)
	switch {
	case now.Before(c.NotBefore):
		return fail("set the clock", "%s begins at %s UTC, which is to come", name, c.NotBefore.UTC().Format(time.DateTime))
	case now.After(c.NotAfter):
		return fail(do, "%s ended at %s UTC", name, end)
	case c.NotAfter.Sub(now) < soon:
		return warn(do, "%s ends at %s UTC", name, end)
	}
	return ok("%s is valid until %s UTC", name, end)
}

// checkIdentity looks at the certificate of an instance or a node, which
// renews itself at two thirds of its life.
func checkIdentity(_ context.Context, p *Patient) Finding {
	if p.Identity == nil {
		return skip("not asked")
	}
	who, until, err := p.Identity()
	const do = "see why the director does not renew it: nutshell doctor shows below whether it answers"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return warn("a node waits to be approved: page Nodes of its director, or there: nutshell node list", "it has not joined a director yet")
	case errors.Is(err, fs.ErrPermission):
		return skip("not readable for this user: sudo nutshell doctor")
	case err != nil:
		return fail("remove the identity directory and let it join anew", "%v", err)
	case p.Now().After(until):
		return fail(do, "%s: its certificate ended at %s UTC", who, until.UTC().Format(time.DateTime))
	case until.Sub(p.Now()) < 6*time.Hour:
		return warn(do, "%s: its certificate ends at %s UTC and should have been renewed", who, until.UTC().Format(time.DateTime))
	}
	return ok("%s, certified until %s UTC", who, until.UTC().Format(time.DateTime))
}

// checkSecretFiles: passwords of clouds stand in configuration files.
func checkSecretFiles(_ context.Context, p *Patient) (all []Finding) {
	for _, path := range p.SecretFiles {
		if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 {
			all = append(all, warn("chmod go= "+path, "%s holds secrets and can be read by other accounts", path).closed(path))
		}
	}
	if len(all) == 0 {
		return []Finding{ok("no file of the configuration shows any")}
	}
	return all
}

// newestFile is the file of a director that was written last.
func newestFile(dir string) (name string, at time.Time) {
	for _, n := range []string{"nutshell.db", "nutshell.db-wal", "client.yaml", "log/director.log"} {
		if st, err := os.Stat(filepath.Join(dir, n)); err == nil && st.ModTime().After(at) {
			name, at = filepath.Join(dir, n), st.ModTime()
		}
	}
	return name, at
}
