package context

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// superblocks are where file systems that carry contexts keep their labels.
var superblocks = []struct {
	at    int64 // of what tells the file system
	tells string
	label int64
	bytes int
}{
	{0x8001, "CD001", 0x8028, 32},
	{0x36, "FAT", 0x2b, 11},
	{0x52, "FAT32", 0x47, 11},
	{0x438, "\x53\xef", 0x478, 16},
}

// Disks finds the disks and partitions of this machine that have a label. The
// kernel knows them before udev has made links for them, which a machine that
// needs its network cannot wait for. sys and dev are where the kernel shows
// them: /sys/class/block and /dev.
func Disks(sys, dev string) map[string]string {
	list := map[string]string{}
	entries, err := os.ReadDir(sys)
	if err != nil {
		return list
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, "fd") || strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") || strings.HasPrefix(name, "zram") {
			continue // a floppy drive takes seconds to say that it is empty
		}
		size, _ := os.ReadFile(filepath.Join(sys, name, "size"))
		if n, err := strconv.ParseInt(strings.TrimSpace(string(size)), 10, 64); err != nil || n == 0 {
			continue
		}
		device := filepath.Join(dev, name)
		if label := Label(device); label != "" && list[label] == "" {
			list[label] = device
		}
	}
	return list
}

// Label reads the label of a file system, in small letters: FAT has it in
// either. It is empty if there is none.
func Label(device string) string {
	f, err := os.Open(device)
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, s := range superblocks {
		b := make([]byte, max(len(s.tells), s.bytes))
		if _, err := f.ReadAt(b[:len(s.tells)], s.at); err != nil || string(b[:len(s.tells)]) != s.tells {
			continue
		}
		if _, err := f.ReadAt(b[:s.bytes], s.label); err == nil {
			return strings.ToLower(strings.Trim(string(b[:s.bytes]), " \x00"))
		}
	}
	return ""
}
