package client

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// table is a list as ConPaaS prints it: a header, a dashed line, one row for
// each thing, columns left aligned.
type table struct {
	columns []string
	rows    [][]string
	id      int    // the column that -q prints
	none    string // what to say when there is nothing
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) {
	if len(t.rows) == 0 && t.none != "" {
		fmt.Fprintln(w, t.none)
		return
	}
	widths := make([]int, len(t.columns))
	all := append([][]string{t.columns}, t.rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(printable(cell)))
		}
	}
	total := len(widths) - 1
	for _, n := range widths {
		total += n
	}
	for n, row := range all {
		var b strings.Builder
		for i, cell := range row {
			cell = printable(cell)
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+1))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		if n == 0 {
			fmt.Fprintln(w, strings.Repeat("-", total))
		}
	}
}

// show prints v in the form that was asked for; people's form is t.
func (r *call) show(v any, t *table) error {
	return r.showText(v, func(w io.Writer) {
		if !r.g.quiet {
			t.write(w)
			return
		}
		for _, row := range t.rows {
			fmt.Fprintln(w, printable(row[t.id]))
		}
	})
}

// showText prints v, for people by text.
func (r *call) showText(v any, text func(io.Writer)) error {
	switch r.g.output {
	case "json":
		e := json.NewEncoder(r.o.Stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	case "yaml":
		return writeYAML(r.o.Stdout, v)
	}
	text(r.o.Stdout)
	return nil
}

// writeYAML prints what JSON would say, in the same order and with the same
// names; JSON is YAML, so it is read as such and written in block style.
func writeYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return err
	}
	var block func(*yaml.Node)
	block = func(n *yaml.Node) {
		n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
		for _, c := range n.Content {
			block(c)
		}
	}
	block(&n)
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return err
	}
	return e.Close()
}

// say tells people what was done. Programs that asked for JSON get no prose.
func (r *call) say(format string, args ...any) {
	if r.g.output == "table" && !r.g.quiet {
		fmt.Fprintln(r.o.Stdout, printable(fmt.Sprintf(format, args...)))
	}
}

// made tells about a new thing: a sentence for people, the id with -q, the
// thing itself with -o json.
func (r *call) made(v any, id, format string, args ...any) error {
	return r.showText(v, func(w io.Writer) {
		if r.g.quiet {
			fmt.Fprintln(w, id)
			return
		}
		fmt.Fprintln(w, printable(fmt.Sprintf(format, args...)))
	})
}

// pairs prints "key: value" lines.
func pairs(w io.Writer, keyValues ...string) {
	for i := 0; i+1 < len(keyValues); i += 2 {
		if keyValues[i+1] != "" {
			fmt.Fprintf(w, "%s: %s\n", keyValues[i], printable(keyValues[i+1]))
		}
	}
}

// printable takes away what could steer a terminal: names and messages come
// from other people.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || !unicode.IsControl(c) {
			return c
		}
		return '?'
	}, s)
}

// keys lists a map's keys in order.
func keys[V any](m map[string]V) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
