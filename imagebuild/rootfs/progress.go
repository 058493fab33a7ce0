package rootfs

import (
	"strconv"
	"strings"
)

// aptText reads what apt-get and dpkg print, as mmdebstrap --verbose passes
// it on, and counts packages.
type aptText struct {
	report               Progress
	packages, fetched    int
	unpacked, configured int
	installing           bool
}

func (a *aptText) line(s string) {
	switch {
	case strings.Contains(s, " newly installed, "):
		// "0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded."
		if _, rest, ok := strings.Cut(s, "upgraded, "); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			a.packages = max(a.packages, n) // mmdebstrap asks apt more than once
		}
		return
	case strings.HasPrefix(s, "I: extracting archives"):
		a.installing = true
	case strings.HasPrefix(s, "Get:") && a.packages > 0 && !a.installing:
		a.fetched++
	case strings.HasPrefix(s, "Unpacking "):
		a.unpacked++
	case strings.HasPrefix(s, "Setting up "):
		a.configured++
	default:
		return
	}
	if a.packages == 0 {
		return
	}
	n := float64(a.packages)
	if !a.installing {
		a.report("fetching packages", 0.1+0.3*min(1, float64(a.fetched)/n))
		return
	}
	a.report("installing packages", 0.4+0.57*min(1, float64(a.unpacked+a.configured)/(2*n)))
}

// aptStatus reads apt's status lines: "dlstatus:1:20.3:…" while it fetches,
// "pmstatus:dpkg:53.8:…" while dpkg works. The third field is a percentage.
type aptStatus struct{ report Progress }

func (a *aptStatus) line(s string) {
	f := strings.SplitN(s, ":", 4)
	if len(f) < 3 {
		return
	}
	// A package name may hold its architecture: "pmstatus:libc6:amd64:53.8:…".
	percent, err := strconv.ParseFloat(f[2], 64)
	if err != nil && len(f) == 4 {
		next, _, _ := strings.Cut(f[3], ":")
		percent, err = strconv.ParseFloat(next, 64)
	}
	if err != nil {
		return
	}
	fraction := min(1, max(0, percent/100))
	switch f[0] {
	case "dlstatus":
		a.report("fetching packages", 0.1+0.3*fraction)
	case "pmstatus":
		a.report("installing packages", 0.4+0.57*fraction)
	}
}

// debootstrapText counts debootstrap's lines. It does not say how many
// packages there will be before it has retrieved them.
type debootstrapText struct {
	report   Progress
	packages int
	done     int
}

func (d *debootstrapText) line(s string) {
	word, _, _ := strings.Cut(strings.TrimPrefix(s, "I: "), " ")
	switch word {
	case "Validating":
		d.packages++
		// A minimal Debian has about a hundred packages.
		d.report("fetching packages", 0.05+0.35*min(1, float64(d.packages)/100))
	case "Extracting", "Unpacking", "Configuring":
		d.done++
		d.report("installing packages", 0.4+0.57*min(1, float64(d.done)/(2.2*float64(max(d.packages, 50)))))
	}
}
