package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"nutshell/roles/api"
)

// Bounds of what a text may become. Manifests that people write have a few
// hundred values.
const (
	maxNodes = 100_000 // also bounds what aliases of YAML multiply to
	maxDepth = 32
)

type shape int

const (
	scalar shape = iota
	mapping
	sequence
)

// node is one value of JSON or YAML with its line.
type node struct {
	shape shape
	line  int
	text  string // of a scalar
	kind  string // of a scalar: string, number, boolean, null
	keys  []string
	lines []int // of keys
	items []*node
	has   map[string]bool // keys
}

func wrong(line int, field, hint, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	if line > 0 {
		message = "line " + strconv.Itoa(line) + ": " + message
	}
	e := &api.Error{Code: api.CodeInvalid, Op: "read", Object: "manifest", Message: message, Hint: hint}
	if field != "" {
		e.Fields = []string{field}
	}
	return e
}

// parse reads JSON if the text begins with a brace, and else YAML.
func parse(text []byte) (*node, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	switch {
	case len(text) > MaxBytes:
		return nil, &api.Error{Code: api.CodeTooLarge, Op: "read", Object: "manifest", Message: fmt.Sprintf("it is larger than %d MiB", MaxBytes>>20), Hint: "put large files beside it"}
	case len(bytes.TrimSpace(text)) == 0:
		return nil, wrong(0, "", "it is JSON or YAML with a list Services", "it is empty")
	case !utf8.Valid(text):
		return nil, wrong(0, "", "it is JSON or YAML in UTF-8; archives are sent as a tar with manifest.yaml in it", "this is no text")
	}
	if i := bytes.IndexFunc(text, forbidden); i >= 0 {
		r, _ := utf8.DecodeRune(text[i:])
		return nil, wrong(1+bytes.Count(text[:i], []byte("\n")), "", "", "it has the control character %U", r)
	}
	if bytes.TrimSpace(text)[0] == '{' {
		return parseJSON(text)
	}
	return parseYAML(text)
}

func forbidden(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t'
}

// jsonReader builds nodes of JSON, because encoding/json takes a key twice
// and tells no lines.
type jsonReader struct {
	text  []byte
	d     *json.Decoder
	nodes int
	at    int // bytes whose lines are counted
	lines int
}

func parseJSON(text []byte) (*node, error) {
	r := &jsonReader{text: text, d: json.NewDecoder(bytes.NewReader(text))}
	r.d.UseNumber()
	n, err := r.value(0)
	if err != nil {
		return nil, r.failed(err)
	}
	if _, err := r.d.Token(); !errors.Is(err, io.EOF) {
		return nil, wrong(r.line(), "", "", "there is more behind the end of the manifest")
	}
	return n, nil
}

// line counts on from where it was asked last: texts may be large.
func (r *jsonReader) line() int {
	if to := min(int(r.d.InputOffset()), len(r.text)); to > r.at {
		r.lines += bytes.Count(r.text[r.at:to], []byte("\n"))
		r.at = to
	}
	return 1 + r.lines
}

func (r *jsonReader) failed(err error) error {
	var e *api.Error
	if errors.As(err, &e) {
		return err
	}
	line := r.line()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line = 1 + bytes.Count(r.text[:min(max(int(syntax.Offset)-1, 0), len(r.text))], []byte("\n"))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return wrong(line, "", "", "this is no JSON: it ends too early")
	}
	return wrong(line, "", "", "this is no JSON: %v", err)
}

func (r *jsonReader) value(depth int) (*node, error) {
	if r.nodes++; r.nodes > maxNodes || depth > maxDepth {
		return nil, wrong(r.line(), "", "", "it has too many values, or lists within lists")
	}
	token, err := r.d.Token()
	if err != nil {
		return nil, err
	}
	n := &node{line: r.line()}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			n.shape = mapping
			return n, r.object(n, depth)
		}
		n.shape = sequence
		for r.d.More() {
			item, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
		_, err := r.d.Token()
		return n, err
	case string:
		n.text, n.kind = v, "string"
	case json.Number:
		n.text, n.kind = v.String(), "number"
	case bool:
		n.text, n.kind = strconv.FormatBool(v), "boolean"
	default:
		n.kind = "null"
	}
	return n, nil
}

func (r *jsonReader) object(n *node, depth int) error {
	for r.d.More() {
		token, err := r.d.Token()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return wrong(r.line(), "", "", "this is no JSON: a name is missing")
		}
		line := r.line()
		v, err := r.value(depth + 1)
		if err != nil {
			return err
		}
		if err := n.put(key, line, v); err != nil {
			return err
		}
	}
	_, err := r.d.Token()
	return err
}

func (n *node) put(key string, line int, v *node) error {
	if n.has[key] {
		return wrong(line, key, "name each field once", "%s stands here twice", api.Shorten(key))
	}
	if n.has == nil {
		n.has = map[string]bool{}
	}
	n.has[key] = true
	n.keys, n.lines, n.items = append(n.keys, key), append(n.lines, line), append(n.items, v)
	return nil
}

func parseYAML(text []byte) (*node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	if err := d.Decode(&document); err != nil {
		return nil, wrong(0, "", "", "this is no YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, wrong(more.Line, "", "send one manifest at a time", "there is a second document in it")
	}
	budget := maxNodes
	return fromYAML(&document, 0, &budget)
}

func fromYAML(y *yaml.Node, depth int, budget *int) (*node, error) {
	if *budget--; *budget < 0 || depth > maxDepth {
		return nil, wrong(y.Line, "", "", "it has too many values, or lists within lists")
	}
	n := &node{line: y.Line}
	switch y.Kind {
	case yaml.DocumentNode:
		return fromYAML(y.Content[0], depth, budget)
	case yaml.AliasNode:
		return fromYAML(y.Alias, depth+1, budget)
	case yaml.MappingNode:
		n.shape = mapping
		for i := 0; i+1 < len(y.Content); i += 2 {
			key := y.Content[i]
			if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
				return nil, wrong(key.Line, "", "use plain names", "a field has no plain name")
			}
			v, err := fromYAML(y.Content[i+1], depth+1, budget)
			if err != nil {
				return nil, err
			}
			if err := n.put(key.Value, key.Line, v); err != nil {
				return nil, err
			}
		}
	case yaml.SequenceNode:
		n.shape = sequence
		for _, item := range y.Content {
			v, err := fromYAML(item, depth+1, budget)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, v)
		}
	default:
		return n, n.scalarOf(y)
	}
	return n, nil
}

func (n *node) scalarOf(y *yaml.Node) error {
	n.text = y.Value
	switch y.ShortTag() {
	case "!!str", "!!timestamp":
		n.kind = "string"
	case "!!int", "!!float":
		n.kind = "number"
	case "!!bool":
		n.kind = "boolean"
	case "!!null":
		n.kind, n.text = "null", ""
	default:
		return wrong(y.Line, "", "write it as a text", "values of type %s are not taken", api.Shorten(y.Tag))
	}
	return nil
}
