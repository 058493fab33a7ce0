package agent

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"nutshell/roles/api"
)

var volumeName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// mount finds the volumes of a configuration on this machine. One that is not
// there ends the configuration: what belongs on a volume must never be
// written to the instance's own disk, where it would be lost with it.
func (a *Agent) mount(c *api.AgentConfig) error {
	for i, v := range c.Volumes {
		path, err := volumePath(a.c.Volumes, v.Name)
		if err != nil {
			return &api.Error{Code: api.CodeUnavailable, Op: "use", Object: "volume " + api.Shorten(v.Name) + " (" + v.ID + ")", Message: err.Error(),
				Hint: "nothing is written without it; see the state of the volume and of its cloud"}
		}
		c.Volumes[i].Path = path
	}
	return nil
}

// volumePath is where a volume is, seen to be really there: a mount point, or
// a symbolic link to a directory.
func volumePath(dir, name string) (string, error) {
	switch {
	case dir == "":
		return "", errors.New("this instance was started without volumes")
	case !volumeName.MatchString(name):
		return "", errors.New("this cannot be the name of a volume")
	}
	path := filepath.Join(dir, name)
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", errors.New("it is not in this instance")
	case err != nil:
		return "", err
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Stat(path)
		if err != nil || !target.IsDir() {
			return "", errors.New("its link leads nowhere")
		}
		return path, nil
	case !info.IsDir():
		return "", errors.New("it is no directory")
	}
	mounted, err := isMountPoint(path)
	if err != nil {
		return "", err
	}
	if !mounted {
		return "", errors.New("its directory is there and nothing is mounted on it")
	}
	return path, nil
}

// unescaped undoes how the kernel writes blanks in the table of mounts.
var unescaped = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func isMountPoint(path string) (bool, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, err
	}
	f, err := os.Open("/proc/self/mountinfo") // of each device and of each directory of one, too
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && unescaped.Replace(fields[4]) == real {
			return true, nil
		}
	}
	return false, nil
}
