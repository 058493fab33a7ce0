package node

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// processors are the kernel's names of sensors that are in a processor: of a
// Raspberry Pi, of other boards, of a PC.
var processors = []string{"cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal", "x86_pkg_temp"}

// lowPowerTime is how long a supply that was too weak for a moment is told of:
// it is when the machine has work, and people look later.
const lowPowerTime = time.Hour

// health is how warm the processor is and may become, in degrees Celsius, and
// whether a Raspberry Pi's supply has too little voltage. Sys is /sys/class. What
// the machine cannot tell is 0 or false.
func health(sys string) (heat, most float64, powerLow bool) {
	zones, _ := filepath.Glob(filepath.Join(sys, "thermal/thermal_zone*")) // its pattern is good
	for _, zone := range zones {
		if slices.Contains(processors, line(zone, "type")) {
			heat, most = degrees(zone, "temp"), critical(zone)
			break
		}
	}
	chips, _ := filepath.Glob(filepath.Join(sys, "hwmon/hwmon*"))
	for _, chip := range chips {
		// The driver of the firmware's own alarm, which the lightning on a Pi's screen shows.
		powerLow = powerLow || line(chip, "name") == "rpi_volt" && line(chip, "in0_lcrit_alarm") == "1"
	}
	return heat, most, powerLow
}

// critical is where the kernel switches the machine off; 0: it does not.
func critical(zone string) float64 {
	points, _ := filepath.Glob(filepath.Join(zone, "trip_point_*_type"))
	for _, p := range points {
		if name := filepath.Base(p); line(zone, name) == "critical" {
			return degrees(zone, strings.TrimSuffix(name, "type")+"temp")
		}
	}
	return 0
}

// degrees reads what the kernel tells in thousandths.
func degrees(dir, name string) float64 {
	n, err := strconv.ParseInt(line(dir, name), 10, 32)
	if err != nil {
		return 0
	}
	return float64(n) / 1000
}

func line(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
