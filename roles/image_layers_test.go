package roles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMountedLayers(t *testing.T) {
	proc := t.TempDir()
	one, two, never := strings.Repeat("1a", 32), strings.Repeat("2b", 32), strings.Repeat("3c", 32)
	for pid, text := range map[string]string{
		"1":    "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
		"77":   "50 49 0:44 / / rw - overlay none rw,lowerdir=/data/images/layers/" + two + "/rootfs:/data/images/layers/" + one + "/rootfs,upperdir=/u,workdir=/w\n",
		"self": "50 49 0:44 / / rw - overlay none rw,lowerdir=/data/images/layers/" + never + "/rootfs\n",
	} {
		dir := filepath.Join(proc, pid)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mountinfo"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	used, err := mountedLayers(proc)
	if err != nil || len(used) != 2 || !used[one] || !used[two] {
		t.Errorf("got %v, %v", used, err)
	}
}
