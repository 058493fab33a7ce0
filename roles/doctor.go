package roles

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
	"nutshell/roles/client"
	"nutshell/roles/doctor"
	"nutshell/roles/internal/config"
)

// doctorCommand looks this machine over.
func (p *Program) doctorCommand() *cli.Command {
	names := make([]string, 0, len(doctor.Subjects()))
	for _, s := range doctor.Subjects() {
		names = append(names, string(s))
	}
	return &cli.Command{Name: "doctor", Usage: "look this machine over and say what is wrong and what to do", Category: "this machine",
		Description: "Checks the kernel, disk, clock, ports, certificates, database, clouds and the director that this machine\n" +
			"uses, within three seconds, and changes nothing without --fix --yes. As root it sees more. Ends with 0 when all is well, 1 with\n" +
			"warnings, 2 when something fails.\n\nExamples: nutshell doctor\n          nutshell doctor --for node -o json\n          nutshell doctor --fix",
		Flags: append(settingFlags(), &cli.StringFlag{Name: "for", Usage: "what this machine is: " + strings.Join(names, ", ") + "; found out by itself if not given"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "also show what could not be looked at"},
			&cli.BoolFlag{Name: "fix", Usage: "show what it can mend by itself: modes of files, modules, Debian packages"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "with --fix: do it, then look again"}),
		Action: p.runDoctor}
}

func (p *Program) runDoctor(x *cli.Context) error {
	c, settings := loadSettings(x)
	if settings != nil { // all else is still worth looking at, with what is built in
		sources, err := config.Standard(os.Geteuid(), nil)
		if err != nil {
			return err
		}
		sources.Files = nil
		if c, err = config.Load(sources); err != nil {
			return err
		}
	}
	subject, err := p.subject(x.String("for"), c)
	if err != nil {
		return err
	}
	patient := p.patient(x, c, subject)
	patient.Settings = settings
	findings := doctor.Examine(x.Context, patient, subject)
	var mended []doctor.Mended
	if x.Bool("fix") && x.Bool("yes") {
		if mended = doctor.Mend(x.Context, findings); len(mended) > 0 {
			findings = doctor.Examine(x.Context, patient, subject)
		}
	}
	worst := doctor.Worst(findings)
	if handled, err := p.printData(x.String("output"), report{subject, worst, findings, mended}); err != nil {
		return err
	} else if !handled {
		printFindings(p.Stdout, findings, x.Bool("all"), x.Bool("quiet"))
		if x.Bool("fix") {
			printRemedies(p.Stdout, doctor.Remedies(findings), mended)
		}
	}
	switch worst {
	case doctor.Fail:
		return cli.Exit("", 2)
	case doctor.Warn:
		return cli.Exit("", 1)
	default:
		return nil
	}
}

// report is what -o json prints.
type report struct {
	For      doctor.Subject   `json:"for" yaml:"for"`
	Worst    doctor.Level     `json:"worst" yaml:"worst"`
	Findings []doctor.Finding `json:"findings" yaml:"findings"`
	Mended   []doctor.Mended  `json:"mended,omitempty" yaml:"mended,omitempty"`
}

// printRemedies tells what was done, or could be.
func printRemedies(w io.Writer, can []string, mended []doctor.Mended) {
	fmt.Fprintln(w)
	for _, m := range mended {
		if m.Error != "" {
			fmt.Fprintf(w, "FAIL  %s\n      %s\n", plain(m.Fix), plain(m.Error))
		} else {
			fmt.Fprintf(w, "done  %s\n", plain(m.Fix))
		}
	}
	switch {
	case len(mended) > 0:
	case len(can) == 0:
		fmt.Fprintln(w, "There is nothing that it can mend by itself.")
	default:
		fmt.Fprintf(w, "nutshell doctor --fix --yes would do this:\n")
		for _, c := range can {
			fmt.Fprintf(w, "  %s\n", plain(c))
		}
	}
}

func printFindings(w io.Writer, all []doctor.Finding, skipped, quiet bool) {
	count := map[doctor.Level]int{}
	width := 0
	for _, f := range all {
		count[f.Level]++
		width = max(width, len(f.Check))
	}
	for _, f := range all {
		if f.Level == doctor.Skip && !skipped || quiet && !f.Level.Worse(doctor.Skip) {
			continue
		}
		level := string(f.Level)
		if f.Level == doctor.Fail {
			level = "FAIL"
		}
		fmt.Fprintf(w, "%-4s  %-*s  %s\n", level, width, f.Check, plain(f.Found))
		if f.Do != "" {
			fmt.Fprintf(w, "      %-*s  → %s\n", width, "", plain(f.Do))
		}
	}
	summary := []string{fmt.Sprintf("%d fine", count[doctor.OK])}
	for _, l := range []struct {
		level doctor.Level
		text  string
	}{{doctor.Warn, "to think about"}, {doctor.Fail, "failing"}, {doctor.Skip, "not looked at"}} {
		if count[l.level] > 0 {
			summary = append(summary, fmt.Sprintf("%d %s", count[l.level], l.text))
		}
	}
	if !quiet {
		fmt.Fprintf(w, "\n%s.\n", strings.Join(summary, ", "))
	}
}

// plain keeps what others wrote, such as names of processes, from steering the
// terminal, and each finding in its line.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// besides is the environment of a command line that belongs to the director
// whose directory this is: another one on this machine is not its business.
func besides(dataDir string) func(string) string {
	return func(name string) string {
		if name == "NUTSHELL_DATA_DIR" && dataDir != "" {
			return dataDir
		}
		return os.Getenv(name)
	}
}

// ask puts the command line's own question to its director.
func (p *Program) ask(ctx context.Context, dataDir string) (doctor.Answer, error) {
	r, err := client.Reach(ctx, client.Options{Stderr: io.Discard, Getenv: besides(dataDir)})
	a := doctor.Answer{URL: r.URL, From: r.From, Time: r.Time, SignedIn: r.SignedIn, Problems: map[string]string{}}
	if err != nil {
		if e := api.AsError(err); r.URL != "" {
			err = fmt.Errorf("%s", e.Message)
		}
		return a, err
	}
	a.Version = named(r.Version.Version, r.Version.Revision)
	for _, c := range r.Clouds {
		if !c.Ready {
			a.Problems[c.Name] = c.Problem
		}
	}
	return a, nil
}

// named is a version as people compare it.
func named(version, commit string) string {
	if commit == "" || strings.Contains(version, commit[:min(12, len(commit))]) {
		return version
	}
	return version + " (" + commit[:min(12, len(commit))] + ")"
}

// subnets are the networks that the configured clouds use.
func subnets(c *config.Config) (list []doctor.Subnet) {
	for _, k := range c.Clouds {
		for _, option := range slices.Sorted(maps.Keys(k.Options)) {
			if option == "subnet" && k.Options[option] != "" {
				list = append(list, doctor.Subnet{Cloud: k.Name, Network: k.Options[option]})
			}
		}
	}
	return list
}

// driverDeadline bounds what a check of a driver may take.
const driverDeadline = 2 * time.Second
