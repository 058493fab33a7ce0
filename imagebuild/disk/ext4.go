package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// Ext4 describes a file system.
type Ext4 struct {
	Bytes int64
	Label string
	UUID  string
	Time  time.Time // what was made by this build bears it

	BytesPerInode int // 0: as mke2fs thinks
}

// WriteExt4 makes a file system at path and puts what the tar holds into it.
// The same input gives the same bytes. It takes no root and mounts nothing.
func WriteExt4(ctx context.Context, tools *Tools, path string, e Ext4, tar io.Reader) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(e.Bytes), f.Close())
	if err != nil {
		return err
	}
	conf, err := tools.Path("etc/mke2fs.conf")
	if err != nil {
		return err
	}
	args := []string{"-q", "-t", "ext4", "-d", "-", "-L", e.Label, "-U", e.UUID,
		"-E", "hash_seed=" + e.UUID + ",lazy_itable_init=1,root_owner=0:0", "-m", "1"}
	if e.BytesPerInode > 0 {
		args = append(args, "-i", strconv.Itoa(e.BytesPerInode))
	}
	cmd, err := tools.Command(ctx, "mke2fs", append(args, path)...)
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "MKE2FS_CONFIG="+conf, "SOURCE_DATE_EPOCH="+strconv.FormatInt(e.Time.Unix(), 10))
	cmd.Stdin = tar
	if err := run(cmd); err != nil {
		return fmt.Errorf("make ext4: %w", err)
	}
	return nil
}
