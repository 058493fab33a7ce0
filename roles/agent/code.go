package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
	"nutshell/roles/internal/rpc"
)

// code keeps code versions unpacked, each in a directory named by its content.
type code struct {
	dir      string
	uid, gid int
	log      *slog.Logger
	boot     string         // of this machine, from its start to its end
	settling sync.WaitGroup // versions that are on their way to the disk
	stopped  chan struct{}  // is closed when they stay where they are

	mu   sync.Mutex
	have map[string]string // version id → directory
}

func (c *code) path(version string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.have[version]; ok {
		return d, nil
	}
	return "", api.NotFoundf("code version %s is not on this instance", api.Shorten(version))
}

// ensure fetches and unpacks a version unless it is there. Unpacking ends with
// a rename, so a directory that exists is whole, unless the machine has lost
// its power since.
func (c *code) ensure(ctx context.Context, director *rpc.Client, v api.CodeVersion) error {
	if len(v.SHA256) != 64 || strings.ContainsAny(v.ID+v.SHA256, "/.\x00") {
		return api.Invalidf("code version %s is not well formed", api.Shorten(v.ID))
	}
	dir := filepath.Join(c.dir, v.ID+"-"+v.SHA256[:8])
	if !c.survived(dir) {
		c.log.Warn("code was not on the disk yet when this machine went down; it is fetched again", "version", v.ID)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("fetch code %s again: %w", v.ID, err)
		}
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := c.fetch(ctx, director, v, dir); err != nil {
			return fmt.Errorf("fetch code %s: %w", v.ID, err)
		}
		c.log.Info("code unpacked", "version", v.ID, "bytes", v.Bytes)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have[v.ID] == "" && c.unsettled(dir) {
		c.settling.Go(func() { c.settle(dir, settleAfter) })
	}
	if c.have == nil {
		c.have = map[string]string{}
	}
	c.have[v.ID] = dir
	return nil
}

func (c *code) fetch(ctx context.Context, director *rpc.Client, v api.CodeVersion, dir string) error {
	resp, err := director.Stream(ctx, http.MethodGet, "/api/v1/blobs/"+v.SHA256, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	f, err := os.CreateTemp(c.dir, "fetch-*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), resp.Body)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != v.SHA256 {
		return fmt.Errorf("the director sent %s instead", got[:8])
	}
	if err := os.WriteFile(dir+noteEnd, []byte(c.boot), 0o600); err != nil { // before the directory is there
		return err
	}
	return archive.Unpack(ctx, f.Name(), dir, v.Strip, c.uid, c.gid, archive.Limits{})
}

// keep removes the versions that no configuration names any more.
func (c *code) keep(versions []api.CodeVersion) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[string]bool{}
	for _, v := range versions {
		wanted[c.have[v.ID]], wanted[c.have[v.ID]+noteEnd] = true, true
	}
	for id, d := range c.have {
		if !wanted[d] {
			delete(c.have, id)
		}
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if path := filepath.Join(c.dir, e.Name()); !wanted[path] {
			if err := os.RemoveAll(path); err != nil {
				c.log.Warn("old code not removed", "directory", path, "error", err)
			}
		}
	}
}
