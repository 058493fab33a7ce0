package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) settingsVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	list := []*cli.Command{{
		Name: "settings", Usage: "show and change a service's settings", HideHelpCommand: true, CustomHelpTemplate: objectHelp,
		Subcommands: []*cli.Command{
			c.ofKind(kind, "get", "the settings, or one of them", one+" [name]", onService(getSettings)),
			examples(c.ofKind(kind, "set", "change settings; name=@file takes the value from a file", one+" <name=value>...", onService(setSettings)),
				"nutshell "+c.objectName(kind)+" settings set shop 1 name=value other=on list=a,b text=@file.txt"),
		},
	}}
	if kind != nil && slices.ContainsFunc(kind.Settings, func(s api.Setting) bool { return s.Name == displayErrors }) {
		list = append(list, c.ofKind(kind, "debug", "show errors to the visitors of the pages, or not", one+" <on|off>", onService(debugMode)))
	}
	return list
}

// displayErrors is the setting that ConPaaS calls debug mode.
const displayErrors = "display_errors"

func getSettings(r *call, _ api.Application, s api.Service) error {
	values := map[string]json.RawMessage{}
	if err := r.get(servicePath(s)+"/settings", &values); err != nil {
		return err
	}
	if name := r.arg("name"); name != "" {
		v, ok := values[name]
		if !ok {
			return &api.Error{Code: api.CodeNotFound, Object: "setting " + api.Shorten(name), Message: "there is no such setting" + didYouMean(name, keys(values)), Hint: "there are: " + strings.Join(keys(values), ", ")}
		}
		return r.showText(v, func(w io.Writer) { fmt.Fprintln(w, plain(v)) })
	}
	return r.showText(values, func(w io.Writer) {
		for _, name := range keys(values) {
			fmt.Fprintf(w, "%s: %s\n", name, printable(plain(values[name])))
		}
	})
}

// plain shows a JSON value as people would type it.
func plain(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	var list []string
	if json.Unmarshal(v, &list) == nil {
		return strings.Join(list, ",")
	}
	return string(v)
}

func setSettings(r *call, _ api.Application, s api.Service) error {
	var kind api.Kind
	if err := r.get("/kinds/"+escape(s.Kind), &kind); err != nil {
		return err
	}
	patch := map[string]any{}
	for _, pair := range r.rest {
		name, text, ok := strings.Cut(pair, "=")
		if !ok {
			return usagef("%s is not of the form name=value", api.Shorten(pair))
		}
		if file, isFile := strings.CutPrefix(text, "@"); isFile {
			b, err := os.ReadFile(file)
			if err != nil {
				return &api.Error{Code: api.CodeInvalid, Op: "read", Object: "setting " + name, Err: err}
			}
			text = string(b)
		}
		v, err := settingValue(kind, sameSetting(kind, name), text)
		if err != nil {
			return err
		}
		patch[sameSetting(kind, name)] = v
	}
	return r.patchSettings(s, patch, fmt.Sprintf("Changing settings of service %s... ", r.arg(argServ)))
}

// sameSetting finds a setting whose name differs in dashes only.
func sameSetting(kind api.Kind, name string) string {
	for _, s := range kind.Settings {
		if sameName(s.Name) == sameName(name) {
			return s.Name
		}
	}
	return name // the director says which there are
}

// settingValue turns text into the type that the setting has. The director
// checks the value.
func settingValue(kind api.Kind, name, text string) (any, error) {
	i := slices.IndexFunc(kind.Settings, func(s api.Setting) bool { return s.Name == name })
	if i < 0 {
		return text, nil
	}
	bad := func(what string) error {
		return &api.Error{Code: api.CodeInvalid, Object: "setting " + name, Message: api.Shorten(text) + " is not " + what, Fields: []string{name}}
	}
	switch s := kind.Settings[i]; s.Type {
	case "integer":
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, bad("a whole number")
		}
		return n, nil
	case "boolean":
		switch strings.ToLower(text) {
		case "true", "on", "yes", "1":
			return true, nil
		case "false", "off", "no", "0":
			return false, nil
		}
		return nil, bad("on or off")
	case "list":
		list := []any{}
		if strings.HasPrefix(strings.TrimSpace(text), "[") {
			if json.Unmarshal([]byte(text), &list) != nil {
				return nil, bad("a list")
			}
			return list, nil
		}
		for _, v := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == '\n' }) {
			list = append(list, strings.TrimSpace(v))
		}
		return list, nil
	default:
		for _, e := range s.Enum {
			if strings.EqualFold(e, text) {
				return e, nil
			}
		}
		return text, nil
	}
}

func (r *call) patchSettings(s api.Service, patch map[string]any, doing string) error {
	op, err := r.change(http.MethodPatch, servicePath(s)+"/settings", patch, &api.Service{})
	if err != nil {
		return err
	}
	return r.finish(op, doing)
}

func debugMode(r *call, _ api.Application, s api.Service) error {
	mode := strings.ToLower(r.arg("on|off"))
	if mode != "on" && mode != "off" {
		return usagef("debug is on or off, not %s", api.Shorten(mode))
	}
	v, err := settingValue(*r.kind, displayErrors, mode)
	if err != nil {
		return err
	}
	return r.patchSettings(s, map[string]any{displayErrors: v}, fmt.Sprintf("Turning debug mode %s for service %s... ", mode, r.arg(argServ)))
}
