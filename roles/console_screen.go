package roles

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
	"nutshell/roles/internal/build"
	"nutshell/roles/internal/rpc"
)

// passwordFile is where nutshell.service puts the password of the first start.
const passwordFile = "/run/nutshell-admin/password"

// screen is all that a person sees who has typed nothing.
func (c *console) screen(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	var b bytes.Buffer
	host, _ := os.Hostname()
	fmt.Fprintf(&b, "\nNutshell %s on %s\n\n", build.Version(), host)
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(t, "  %s\t%s\n", name, value) }
	facts, err := c.machine.Facts()
	if err == nil && facts.Network != nil {
		row("browse to", "https://"+facts.Network.Address.Addr().String())
		row("instances", facts.Network.First.String()+" to "+facts.Network.Last.String())
	}
	if err == nil && facts.Network != nil && c.machine.Clash != nil {
		own := facts.Network.Address.Addr()
		taken, err := c.machine.Clash(facts.Network.Interface, []netip.Addr{own})
		if err != nil {
			rows(row, err.Error())
		}
		if by, ok := taken[own]; ok {
			row("CLASH", "the machine "+by+" has the address "+own.String()+" too:")
			row("", "give one of them another by 2, while the other is off")
		}
	}
	client, err := localClient(c.dir)
	if err == nil {
		defer client.HTTP.CloseIdleConnections()
		err = c.director(ctx, client, row)
	}
	if err != nil {
		row("state", "the director does not answer yet")
		rows(row, err.Error())
	}
	for _, line := range interfaces() {
		row("network", line)
	}
	if problem := oddClock(time.Now(), build.Recorded().Time); problem != "" {
		row("CLOCK", problem)
		row("", "set that of the host this machine runs on, then start again by 6")
	}
	row("memory", memory())
	row("disk", diskUse(c.dir))
	if old, pending, err := c.machine.Pending(); err == nil && pending {
		row("WAITING", "2 keeps these addresses; otherwise "+old.Address.String()+" comes back")
	}
	_ = t.Flush() // into memory
	fmt.Fprintln(&b)
	for _, o := range c.choices() {
		fmt.Fprintf(&b, "  %s  %s\n", o.key, o.text)
	}
	b.WriteString("\nA number, and Enter. ")
	return b.String()
}

// clockAhead is how long after it was made a program is not used any more.
const clockAhead = 8 * 365 * 24 * time.Hour

// oddClock says what is wrong with a clock that cannot be right, judged by when
// this program was made, in RFC 3339.
func oddClock(now time.Time, made string) string {
	at, err := time.Parse(time.RFC3339, made)
	if err != nil || now.After(at.Add(-24*time.Hour)) && now.Before(at.Add(clockAhead)) {
		return ""
	}
	return "it says " + now.UTC().Format(time.DateOnly) + ", and this Nutshell was made on " + at.UTC().Format(time.DateOnly)
}

// wrapped puts line breaks between words, so that no line is longer than a
// screen of 80 columns; each begins with the indent.
func wrapped(text, indent string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		column := 0
		for _, word := range strings.Fields(line) {
			switch {
			case column == 0:
				b.WriteString(indent)
				column = len(indent)
			case column+1+len(word) > columns:
				b.WriteString("\n" + indent)
				column = len(indent)
			default:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(word)
			column += len(word)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// columns is how wide a line may be: the last column of some screens wraps.
const columns = 79

// director adds what the director says about itself.
func (c *console) director(ctx context.Context, client *rpc.Client, row func(name, value string)) error {
	var setup api.Setup
	if err := client.Do(ctx, http.MethodGet, "/api/v1/setup", nil, &setup); err != nil {
		return err
	}
	row("user", "admin")
	b, err := os.ReadFile(passwordFile)
	switch {
	case setup.PasswordGenerated && err == nil:
		row("password", strings.TrimSpace(string(b))+"   (change it there; it is shown until then)")
	case setup.PasswordGenerated:
		row("password", "was shown at the first start (1 makes a new one)")
	default:
		row("password", "yours (1 makes a new one)")
		_ = os.Remove(passwordFile) // nobody needs it any more; next time the same is tried again
	}
	var list []api.Application
	if err := client.Do(ctx, http.MethodGet, "/api/v1/applications", nil, &list); err != nil {
		return err
	}
	count := map[api.State]int{}
	for _, a := range list {
		count[a.State]++
	}
	state := fmt.Sprintf("ready; %d applications, %d run", len(list), count[api.Running])
	if n := count[api.Failed]; n > 0 {
		state += fmt.Sprintf(", %d in ERROR", n)
	}
	row("state", state)
	for _, k := range setup.Clouds {
		if k.Problem != "" {
			rows(row, "cloud "+k.Name+" cannot be used: "+k.Problem)
		}
	}
	if f, err := readClientFile(c.dir); err == nil {
		row("CA sha256", f.CA)
	}
	return nil
}

// width is what a row has room for on a screen of 80 columns.
const width = 66

// rows shows a text in up to three rows, broken between words.
func rows(row func(name, value string), s string) {
	s, _, _ = strings.Cut(s, "\n")
	for range 2 {
		end := strings.LastIndexByte(s[:min(len(s), width+1)], ' ')
		if len(s) <= width || end <= 0 {
			break
		}
		row("", firstLine(s[:end]))
		s = s[end+1:]
	}
	row("", firstLine(s))
}

// firstLine is as much of a text as a row has room for, in characters that the
// screen of a machine without a font of its own can show.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > width {
		s = s[:width-3] + "..."
	}
	return s
}

// interfaces lists the addresses of this machine, beside those of instances.
func interfaces() []string {
	list, err := net.Interfaces()
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for _, i := range list {
		if i.Flags&net.FlagLoopback != 0 || strings.HasPrefix(i.Name, "nsh") {
			continue
		}
		if _, err := os.Stat("/sys/class/net/" + i.Name + "/master"); err == nil {
			continue // a container's, on one of our bridges
		}
		addrs, _ := i.Addrs() // an interface that has gone has none
		var own []string
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Bits() < 32 {
				own = append(own, p.String())
			}
		}
		if len(own) == 0 {
			own = []string{"no address (no cable, or nobody gives one)"}
		}
		lines = append(lines, i.Name+" "+strings.Join(own, ", "))
	}
	return lines
}

func memory() string {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err.Error()
	}
	value := func(name string) int {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == name+":" {
				n, _ := strconv.Atoi(f[1]) // the kernel writes numbers
				return n / 1024
			}
		}
		return 0
	}
	// In steps, so that the screen is not drawn anew for each byte.
	used := (value("MemTotal") - value("MemAvailable")) / 50 * 50
	return fmt.Sprintf("about %d of %d MB used", used, value("MemTotal"))
}

func diskUse(dir string) string {
	var s unix.Statfs_t
	if err := unix.Statfs(filepath.Clean(dir), &s); err != nil {
		return err.Error()
	}
	gb := func(blocks uint64) float64 { return float64(blocks) * float64(s.Bsize) / (1 << 30) }
	text := fmt.Sprintf("%.1f of %.1f GB used", gb(s.Blocks-s.Bfree), gb(s.Blocks))
	if s.Bavail < s.Blocks/20 {
		text += "   ALMOST FULL: remove something (5)"
	}
	return text
}
