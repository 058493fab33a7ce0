package roles

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUntouchedMappings(t *testing.T) {
	const smaps = `00400000-01c7f000 r-xp 00000000 fe:00 10070388                           /usr/bin/nutshell
Rss:               14780 kB
Private_Dirty:       120 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
01c7f000-037a0000 r--p 0187f000 fe:00 10070388                           /usr/bin/nutshell
Anonymous:             8 kB
037a0000-038a9000 rw-p 033a0000 fe:00 10070388                           /usr/bin/nutshell
Anonymous:             0 kB
040a0000-040a9000 r--p 033a0000 fe:00 10070388                           /usr/bin/nutshell
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 7                          /usr/lib/locale/C.utf8
Anonymous:             0 kB
7f0000002000-7f0000003000 r-xp 00000000 00:00 0                          [vdso]
`
	list, err := untouched(strings.NewReader(smaps), "/usr/bin/nutshell")
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{{0x400000, 0x1c7f000}, {0x40a0000, 0x40a9000}}
	if diff := cmp.Diff(want, list, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

// TestLetGo gives back what this test's own start needed, and goes on.
func TestLetGo(t *testing.T) {
	before := residentFile(t)
	if err := giveBack(); err != nil {
		t.Fatal(err)
	}
	if after := residentFile(t); after >= before {
		t.Errorf("%d KiB of the program are in memory, %d were", after, before)
	}
}

// residentFile reads how much of its files this process has in memory, in KiB.
func residentFile(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "RssFile:" {
			kib, err := strconv.Atoi(words[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("the kernel does not say RssFile")
	return 0
}
