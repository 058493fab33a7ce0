package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestHealth(t *testing.T) {
	type files map[string]string
	pi := files{"thermal/thermal_zone0/type": "cpu-thermal\n", "thermal/thermal_zone0/temp": "61835\n", "thermal/thermal_zone0/trip_point_0_type": "active\n", "thermal/thermal_zone0/trip_point_0_temp": "50000\n",
		"thermal/thermal_zone0/trip_point_1_type": "critical\n", "thermal/thermal_zone0/trip_point_1_temp": "90000\n", "hwmon/hwmon0/name": "cpu_thermal\n", "hwmon/hwmon1/name": "rpi_volt\n", "hwmon/hwmon1/in0_lcrit_alarm": "0\n"}
	with := func(name, text string) files {
		f := files{name: text}
		for n, t := range pi {
			if n != name {
				f[n] = t
			}
		}
		return f
	}
	for _, c := range []struct {
		name       string
		files      files
		heat, most float64
		powerLow   bool
	}{
		{"a-pi", pi, 61.835, 90, false},
		{"weak-supply", with("hwmon/hwmon1/in0_lcrit_alarm", "1\n"), 61.835, 90, true},
		{"alarm-of-another-chip", with("hwmon/hwmon0/in0_lcrit_alarm", "1\n"), 61.835, 90, false},
		{"no-end", with("thermal/thermal_zone0/trip_point_1_type", "hot\n"), 61.835, 0, false},
		{"sensor-that-fails", with("thermal/thermal_zone0/temp", ""), 0, 90, false},
		{"of-something-else", with("thermal/thermal_zone0/type", "iwlwifi_1\n"), 0, 0, false},
		{"nothing", nil, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sys := t.TempDir()
			for name, text := range c.files {
				file := filepath.Join(sys, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if heat, most, low := health(sys); heat != c.heat || most != c.most || low != c.powerLow {
				t.Errorf("got %v, %v, %v; want %v, %v, %v", heat, most, low, c.heat, c.most, c.powerLow)
			}
		})
	}
}
