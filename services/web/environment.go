package web

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/services"
)

// scriptVariables is where the startup script leaves variables for pages, one
// NAME=value in a line.
const scriptVariables = "startup.env"

const mostVariables = 64 << 10 // bytes of that file

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// Environment joins the service's variables with those that the startup
// script has found out, such as the address of a database. The service's own
// win, because a person has set them.
func Environment(m services.Machine, own []api.Variable) ([]api.Variable, error) {
	all := map[string]string{}
	b, err := os.ReadFile(filepath.Join(m.Dir("etc"), scriptVariables))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(b) > mostVariables {
		return nil, api.Invalidf("the startup script leaves %d bytes of variables; %d are allowed", len(b), mostVariables)
	}
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		n++ // not the line itself: it may hold a secret
		line := strings.TrimPrefix(strings.TrimSpace(s.Text()), "export ")
		if name, value, ok := strings.Cut(line, "="); ok && variableName.MatchString(name) && !strings.Contains(value, "\x00") {
			all[name] = unquote(value)
		} else if line != "" && !strings.HasPrefix(line, "#") {
			m.Log().Warn("the startup script leaves a line that is no variable", "line", n)
		}
	}
	for _, v := range own {
		if !variableName.MatchString(v.Name) || strings.Contains(v.Value, "\x00") {
			return nil, api.Invalidf("%s cannot be an environment variable", api.Shorten(v.Name))
		}
		all[v.Name] = v.Value
	}
	var list []api.Variable
	for name, value := range all {
		list = append(list, api.Variable{Name: name, Value: value})
	}
	slices.SortFunc(list, func(a, b api.Variable) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// unquote takes off one pair of quotes, as shells write them.
func unquote(v string) string {
	if len(v) >= 2 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
		return v[1 : len(v)-1]
	}
	return v
}
