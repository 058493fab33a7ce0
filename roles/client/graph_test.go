package client

import (
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

func sampleGraph() api.Graph {
	since := time.Unix(1000, 0)
	return api.Graph{ID: "requests", Title: "Requests", Unit: "/s", Since: since, Until: since.Add(150 * time.Second), Step: 15, Series: []api.Series{
		{Name: "proxy", Points: [][2]float64{{1000, 0}, {1015, 100}, {1030, 200}, {1045, 400}, {1090, 800}, {1105, 700}, {1120, 800}, {1135, 0}, {1150, 12.345}}},
		{Name: "evil\x1b[2J", Points: [][2]float64{{1000, 800}}},
	}}
}

// Gaps stay gaps, all lines have one scale, and names cannot steer a terminal.
func TestSparks(t *testing.T) {
	var b strings.Builder
	sparks(&b, sampleGraph(), 11)
	want := "\nRequests (requests), up to 800/s\n" +
		"  proxy                ▁▂▃▅  ███▁▁ now 12.3/s\n" +
		"  evil?[2J             █           last 800/s\n"
	if got := b.String(); strings.ReplaceAll(got, "evil[2J ", "evil?[2J") != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("a name steers the terminal")
	}
}

// A few points fill the width.
func TestSparksOfFewPoints(t *testing.T) {
	g := sampleGraph()
	g.Until, g.Series = g.Since.Add(15*time.Second), []api.Series{{Name: "x", Points: [][2]float64{{1000, 1}, {1015, 8}}}}
	var b strings.Builder
	sparks(&b, g, 10)
	if !strings.Contains(b.String(), "▂▂▂▂▂█████ ") {
		t.Errorf("got %s", b.String())
	}
}

func TestPlot(t *testing.T) {
	g := sampleGraph()
	g.Series = g.Series[:1]
	var b strings.Builder
	plot(&b, g, 6)
	want := "\nRequests proxy\n" + strings.Join([]string{
		"    800/s ┤⠀⠀⠀⡇⡇⠀",
		"          ┤⠀⠀⠀⣿⡇⠀",
		"          ┤⠀⠀⠀⣿⡇⠀",
		"          ┤⠀⢀⠀⣿⡇⠀",
		"    400/s ┤⠀⢸⠀⣿⡇⠀",
		"          ┤⠀⣸⠀⣿⡇⠀",
		"          ┤⢀⣿⠀⣿⡇⠀",
		"        0 ┤⣸⣿⠀⣿⣇⣀",
	}, "\n") + "\n"
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAmount(t *testing.T) {
	for _, c := range []struct {
		v          float64
		unit, want string
	}{
		{0, "/s", "0/s"}, {12.345, "/s", "12.3/s"}, {1234.5, "/s", "1234/s"}, {0.0123, "s", "12.3 ms"}, {2.5, "s", "2.50 s"}, {8, "", "8"},
		{97.5, "%", "97.5 %"}, {512, "B", "512 B"}, {1536, "B/s", "1.50 KiB/s"}, {3 << 30, "B", "3 GiB"}, {5 << 40, "B", "5 TiB"},
	} {
		if got := amount(c.v, c.unit); got != c.want {
			t.Errorf("%v %q: got %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

func TestChosenGraphs(t *testing.T) {
	all := []api.Graph{{ID: "latency"}, {ID: "php_slow"}}
	if got, err := chosen(all, []string{"php-slow"}); err != nil || len(got) != 1 || got[0].ID != "php_slow" {
		t.Errorf("got %v %v", got, err)
	}
	if _, err := chosen(all, []string{"latencie"}); api.CodeOf(err) != api.CodeNotFound || !strings.Contains(err.Error(), "latency") {
		t.Errorf("got %v", err)
	}
}
