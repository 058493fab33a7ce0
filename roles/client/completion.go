package client

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// completeTime bounds what a shell waits for when Tab is pressed.
const completeTime = 1500 * time.Millisecond

// completeWord is the hidden first argument by which the scripts ask.
const completeWord = "__complete"

// noFiles tells a script that file names are no answer here.
const noFiles = ":"

func (c *Client) completionVerb() *cli.Command {
	v := c.verb("completion", "print a script that completes commands", "<bash|zsh|fish>", func(r *call) error {
		script, ok := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[r.arg("bash|zsh|fish")]
		if !ok {
			return usagef("there are scripts for bash, zsh and fish, not for %s", api.Shorten(r.arg("bash|zsh|fish")))
		}
		_, err := fmt.Fprint(r.o.Stdout, script)
		return err
	})
	v.Description = "bash: source <(nutshell completion bash)\nzsh:  source <(nutshell completion zsh)\nfish: nutshell completion fish | source"
	return v
}

// completionWords returns the words typed so far, if a script asks.
func completionWords(args []string) ([]string, bool) {
	if len(args) < 2 || args[1] != completeWord {
		return nil, false
	}
	if words := args[2:]; len(words) > 0 {
		return words, true
	}
	return []string{""}, true
}

// complete prints the words that may stand in place of the last one, one per
// line; what stands behind a tab explains. Errors are no answer.
func (c *Client) complete(ctx context.Context, program string, words []string) {
	if len(words) > 1 && program == "nutshell" && strings.HasPrefix(words[0], "cps-") {
		program, words = words[0], words[1:]
		c.old = true
	}
	app, err := c.app(program) //nolint:contextcheck // commands get theirs when they run
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	typed, last := words[:len(words)-1], words[len(words)-1]
	p, value := parsePrefix(app, typed)
	files := false
	var answers []string
	switch name, part, has := strings.Cut(last, "="); {
	case value != nil:
		answers, files = c.values(ctx, typed, value.Names()[0])
	case has && strings.HasPrefix(last, "-"):
		values, _ := c.values(ctx, typed, strings.TrimLeft(name, "-"))
		for _, v := range values {
			if strings.HasPrefix(v, part) {
				answers = append(answers, name+"="+v)
			}
		}
	case strings.HasPrefix(last, "-"):
		answers = flagWords(p)
	case len(p.last().commands) > 0:
		answers = commandWords(p.last().commands)
		if program == "nutshell" && len(p.levels) == 1 && strings.HasPrefix(last, "cps-") {
			answers = c.oldPrograms() //nolint:contextcheck // as above
		}
	default:
		answers, files = c.argument(ctx, typed, p)
	}
	if !files {
		fmt.Fprintln(c.o.Stdout, noFiles)
	}
	for _, a := range answers {
		if strings.HasPrefix(sameName(a), sameName(last)) || has(last) {
			fmt.Fprintln(c.o.Stdout, a)
		}
	}
}

func has(last string) bool { return strings.HasPrefix(last, "-") && strings.Contains(last, "=") }

// parsePrefix reads the words before the one to be completed. A flag that
// still waits for its value is returned with them.
func parsePrefix(app *cli.App, typed []string) (*parsed, cli.Flag) {
	p, err := parse(app, append([]string{app.Name}, typed...))
	if err == nil {
		return p, nil
	}
	if len(typed) == 0 {
		return &parsed{levels: []level{{name: app.Name, flags: app.Flags, commands: app.Commands}}}, nil
	}
	p, _ = parsePrefix(app, typed[:len(typed)-1])
	last := typed[len(typed)-1]
	if strings.HasPrefix(last, "-") {
		if _, f := p.find(strings.TrimLeft(last, "-")); f != nil && takesValue(f) {
			return p, f
		}
	}
	return p, nil
}

func flagWords(p *parsed) []string {
	words := []string{"--help"}
	for i := len(p.levels) - 1; i >= 0; i-- {
		for _, f := range p.levels[i].flags {
			word := "--" + f.Names()[0]
			if v, ok := f.(cli.VisibleFlag); (!ok || v.IsVisible()) && !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

func commandWords(list []*cli.Command) []string {
	var words []string
	for _, c := range list {
		if !c.Hidden {
			words = append(words, c.Name)
		}
	}
	return words
}

func (c *Client) oldPrograms() []string {
	words := []string{"cps-tools"}
	for _, o := range c.Commands() {
		if len(o.Subcommands) > 0 {
			words = append(words, "cps-"+o.Name)
		}
	}
	return words
}

// values completes the value of an option.
func (c *Client) values(ctx context.Context, typed []string, flag string) (answers []string, files bool) {
	switch sameName(flag) {
	case "output", "o":
		return []string{"table", "json", "yaml"}, false
	case "cloud", "c":
		var clouds []api.Cloud
		c.peek(ctx, typed, "/clouds", &clouds)
		for _, cloud := range clouds {
			answers = append(answers, cloud.Name)
		}
		return answers, false
	case "application", "a":
		return c.applicationNames(ctx, typed), false
	case "scope":
		return []string{"read", "write"}, false
	case "conf-file", "to":
		return nil, true
	}
	return nil, false
}

// argument completes an argument by the name it has in the verb's usage.
func (c *Client) argument(ctx context.Context, typed []string, p *parsed) (answers []string, files bool) {
	names := strings.Fields(p.last().command.ArgsUsage)
	n := len(p.args)
	if n >= len(names) {
		if n = len(names) - 1; n < 0 || !strings.HasSuffix(names[n], "...") {
			return nil, false
		}
	}
	first := func() string {
		for i, name := range names {
			if name == argApp && i < len(p.args) {
				return p.args[i]
			}
		}
		return ""
	}
	switch name := strings.Trim(names[n], "<>[]."); name {
	case "app_name_or_id":
		return c.applicationNames(ctx, typed), false
	case "serv_name_or_id", "agent_id", "agent_id=weight", "code_version", "to_version", "variable", "name=value", "name", "volume", "secret", "sibling":
		return c.serviceWords(ctx, typed, p, first(), name), false
	case "service_type":
		for _, k := range c.kinds {
			answers = append(answers, k.Name)
		}
		return answers, false
	case "backup_id":
		var all []api.Backup
		c.peek(ctx, typed, "/backups", &all)
		for _, b := range all {
			answers = append(answers, b.ID)
		}
		return answers, false
	case "username":
		return c.memberNames(ctx, typed, first()), false
	case "operation_id":
		var ops []api.Operation
		c.peek(ctx, typed, "/operations?limit=20", &ops)
		for _, op := range ops {
			answers = append(answers, op.ID)
		}
		return answers, false
	case "filename":
		return nil, true
	default:
		if strings.Contains(name, "|") {
			return strings.Split(name, "|"), false
		}
		return nil, false
	}
}

func (c *Client) applicationNames(ctx context.Context, typed []string) []string {
	var all []api.Application
	var s api.Session
	c.peek(ctx, typed, "/applications", &all)
	c.peek(ctx, typed, "/session", &s)
	var names []string
	for _, a := range all {
		names = append(names, called(a, s.User.Name))
	}
	return names
}

// memberNames completes who is something to an application.
func (c *Client) memberNames(ctx context.Context, typed []string, app string) (names []string) {
	if app == "" {
		return nil
	}
	var all []api.Member
	c.peek(ctx, typed, "/applications/"+escape(app)+"/members", &all)
	for _, m := range all {
		names = append(names, m.User)
	}
	return names
}

// serviceWords completes what belongs to a service: its name, its nodes, its
// versions, its settings.
func (c *Client) serviceWords(ctx context.Context, typed []string, p *parsed, app, what string) []string {
	if app == "" {
		return nil
	}
	var words []string
	if strings.Contains(app, "/") { // another's: found by its id
		var all []api.Application
		c.peek(ctx, typed, "/applications", &all)
		for _, a := range all {
			if a.Owner+"/"+a.Name == app {
				app = strconv.FormatInt(a.ID, 10)
			}
		}
	}
	path := "/applications/" + escape(app) + "/services"
	if what == "serv_name_or_id" {
		kind := sameName(p.levels[max(0, len(p.levels)-2)].name)
		var all []api.Service
		c.peek(ctx, typed, path, &all)
		for _, s := range all {
			if kind == "service" || !slices.ContainsFunc(c.kinds, func(k api.Kind) bool { return k.Name == kind }) || s.Kind == kind {
				words = append(words, s.Name)
			}
		}
		return words
	}
	if len(p.args) < 2 {
		return nil
	}
	path += "/" + escape(p.args[1])
	switch what {
	case "agent_id", "agent_id=weight":
		var nodes []api.Instance
		c.peek(ctx, typed, path+"/instances", &nodes)
		for _, n := range nodes {
			words = append(words, n.ID+strings.TrimSuffix(strings.TrimPrefix(what, "agent_id"), "weight"))
		}
	case "code_version", "to_version":
		var versions []api.CodeVersion
		c.peek(ctx, typed, path+"/versions", &versions)
		for _, v := range versions {
			words = append(words, v.ID)
		}
	case "volume":
		var all []api.Volume
		c.peek(ctx, typed, path+"/volumes", &all)
		for _, v := range all {
			words = append(words, v.Name)
		}
	case "secret":
		var all []api.Secret
		c.peek(ctx, typed, path+"/secrets", &all)
		for _, s := range all {
			words = append(words, s.Name)
		}
	case "sibling":
		var all []api.Service
		c.peek(ctx, typed, "/applications/"+escape(app)+"/services", &all)
		for _, s := range all {
			if s.Name != p.args[1] {
				words = append(words, s.Name)
			}
		}
		words = append(words, "all", "none")
	case "variable":
		var all []api.Variable
		c.peek(ctx, typed, path+"/environment", &all)
		for _, v := range all {
			words = append(words, v.Name)
		}
	default:
		values := map[string]any{}
		c.peek(ctx, typed, path+"/settings", &values)
		for _, k := range keys(values) {
			words = append(words, k+strings.Repeat("=", strings.Count(what, "=")))
		}
	}
	return words
}

// peek asks the director if that can be done without asking anybody.
func (c *Client) peek(ctx context.Context, typed []string, path string, out any) {
	conn, ok := c.quietly(typed)
	if !ok || (conn.Token == "" && conn.Password == "") {
		return
	}
	look := New(c.o)
	_ = look.rpc(conn).Do(ctx, http.MethodGet, "/api/v1"+path, nil, out)
}
