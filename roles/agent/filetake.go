package agent

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// fileMost bounds one file that is sent to an instance.
const fileMost = 16 << 30

const nonBlocking = unix.O_NONBLOCK

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// takeFile writes a file. It stands there whole, or as it was before.
func (a *Agent) takeFile(w http.ResponseWriter, r *http.Request) {
	full, n, err := a.storeFile(r.URL.Query().Get("path"), r.Body)
	if err != nil {
		a.c.Log.Warn("file not taken", "bytes", n, "error", err)
		rpc.WriteError(w, err)
		return
	}
	a.c.Log.Info("file taken", "bytes", n)
	rpc.WriteJSON(w, api.Entry{Name: path.Base(full), Type: "file", Bytes: n, Mode: plainMode.String(), Modified: a.c.Now().UTC()})
}

const plainMode = fs.FileMode(0o644)

func (a *Agent) storeFile(asked string, body io.Reader) (full string, n int64, err error) {
	p, err := a.place()
	if err != nil {
		return "", 0, err
	}
	defer p.close()
	full, name, err := p.inside(asked, a.c.Dir)
	if err != nil {
		return "", 0, err
	}
	n, err = p.store(name, body)
	return full, n, fileError("write", full, err)
}

// store writes beside the file first. A file that was there keeps its owner
// and mode; a link is replaced, not followed.
func (p *place) store(name string, body io.Reader) (int64, error) {
	mode, owner := plainMode, (*syscall.Stat_t)(nil)
	if st, err := p.stat(name); err == nil {
		if !st.Mode().IsRegular() {
			return 0, &api.Error{Code: api.CodeConflict, Op: "write", Object: api.Shorten(path.Base(name)), Message: "there is a " + typeOf(st.Mode()) + " of this name", Hint: "choose another name"}
		}
		mode = st.Mode().Perm()
		owner, _ = st.Sys().(*syscall.Stat_t)
	}
	fresh := path.Join(path.Dir(name), ".nutshell-"+api.NewID(12))
	f, err := p.open(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, io.LimitReader(body, fileMost+1))
	if err == nil && n > fileMost {
		err = &api.Error{Code: api.CodeTooLarge, Op: "write", Object: api.Shorten(path.Base(name)), Message: "it is larger than 16 GiB", Hint: "send it in parts"}
	}
	if err == nil && owner != nil && os.Geteuid() == 0 {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = p.rename(fresh, name)
	}
	if err != nil {
		_ = p.remove(fresh)
		return n, err
	}
	return n, p.syncDir(path.Dir(name)) // its name, too, outlives a loss of power
}

func (p *place) syncDir(name string) error {
	d, err := p.open(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
