package roles

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
	cloudcontext "nutshell/cloud/context"
)

// contextAuto stands for wherever the cloud left the context.
const contextAuto = "auto"

// metadataAddress is that of all clouds' metadata services.
const metadataAddress = "http://169.254.169.254"

// findContext returns a file with the context of this instance. What was found
// once stays: a cloud may forget it, and an instance that starts again is the
// same one.
func findContext(ctx context.Context, dir string, log *slog.Logger) (string, error) {
	kept := filepath.Join(dir, "context.json")
	if b, err := os.ReadFile(kept); err == nil {
		if _, err := cloudcontext.Parse(b); err == nil {
			return kept, nil
		}
	}
	said := map[string]string{}
	f := cloudFinder(func(where string, err error) {
		if said[where] != err.Error() { // once, not each second
			log.Info("no context here", "where", where, "error", err)
		}
		said[where] = err.Error()
	})
	f.Files = []string{"/etc/nutshell/context.json"}
	c, where, err := f.Find(ctx)
	if err != nil {
		return "", err
	}
	log.Info("context found", "where", where, "identity", c.Identity)
	b, err := cloudcontext.Encode(c)
	if err != nil {
		return "", err
	}
	return kept, cloud.SaveFile(kept, b)
}

// cloudFinder looks on this machine's disks, and asks the metadata service.
func cloudFinder(said func(where string, err error)) cloudcontext.Finder {
	return cloudcontext.Finder{Disks: func() map[string]string { return cloudcontext.Disks("/sys/class/block", "/dev") }, Mount: mountReadOnly, Metadata: metadataAddress, Said: said,
		HTTP: &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext, DisableKeepAlives: true}}} // and no proxy
}

// mountReadOnly makes the files of a disk readable.
func mountReadOnly(device string) (dir string, unmount func(), err error) {
	if dir, err = os.MkdirTemp("", "nutshell-context-"); err != nil {
		return "", nil, err
	}
	for _, kind := range []string{"iso9660", "vfat", "ext4"} {
		if err = unix.Mount(device, dir, kind, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err == nil {
			return dir, func() {
				_ = unix.Unmount(dir, unix.MNT_DETACH) // what stays mounted is read only
				_ = os.Remove(dir)
			}, nil
		}
	}
	_ = os.Remove(dir)
	return "", nil, &os.PathError{Op: "mount", Path: device, Err: err}
}
