package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

func TestEncodeSendsNoNullLists(t *testing.T) {
	t.Parallel()
	shared := Operation{ID: "o1", Error: &Error{Message: "a <b>"}}
	for _, try := range []struct {
		name string
		v    any
		want string
	}{
		{"list", []string(nil), `[]`},
		{"lists-in-a-list", [][]string{nil, {"web"}}, `[[],["web"]]`},
		{"map", Weights{}, `{"weights":{}}`},
		{"maps-in-a-map", Weights{map[string]map[string]int{"i1": nil}}, `{"weights":{"i1":{}}}`},
		{"in-a-struct", Preview{Launch: [][]string{nil}}, `{"parts":{},"launch":[[]],"leave":[],"change":[],"credits":0}`},
		{"behind-a-pointer", &Difference{From: "a"}, `{"from":"a","to":"","files":[],"same":0,"omitted":0}`},
		{"left-out", Scale{}, `{}`},
		{"nothing", (*Operation)(nil), `null`},
		{"text", ActResult{Text: "a <b>"}, `{"text":"a <b>"}`},
	} {
		t.Run(try.name, func(t *testing.T) {
			t.Parallel()
			if got, err := Encode(try.v); err != nil || string(got) != try.want {
				t.Errorf("got %s, %v; want %s", got, err, try.want)
			}
		})
	}
	if _, err := Encode(shared); err != nil || shared.Steps != nil {
		t.Errorf("what was encoded has changed: %+v, %v", shared, err)
	}
	if _, err := Encode(make(chan int)); err == nil {
		t.Error("a channel was encoded")
	}
}

// TestWordsAreAllConstants compares what each type says that it can be with
// the constants in the source.
func TestWordsAreAllConstants(t *testing.T) {
	t.Parallel()
	types := map[string]reflect.Type{}
	for _, v := range worded() {
		types[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	whole := &ast.File{Name: ast.NewIdent("api")}
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		whole.Decls = append(whole.Decls, f.Decls...)
	}
	written := map[string][]string{}
	ast.Inspect(whole, func(n ast.Node) bool {
		s, ok := n.(*ast.ValueSpec)
		if !ok || len(s.Values) != 1 {
			return true
		}
		of, typed := s.Type.(*ast.Ident)
		text, literal := s.Values[0].(*ast.BasicLit)
		if typed && literal && text.Kind == token.STRING {
			word, _ := strconv.Unquote(text.Value)
			written[of.Name] = append(written[of.Name], word)
		}
		return true
	})
	for name, want := range written {
		typ, ok := types[name]
		if !ok {
			if name == "Role" || name == "string" { // never in an answer
				continue
			}
			t.Errorf("%s has constants: give it a method Words, and name it in worded", name)
			continue
		}
		got := reflect.Zero(typ).Interface().(interface{ Words() []string }).Words()
		if !sameWords(got, want) {
			t.Errorf("%s: Words says %q, its constants are %q", name, got, want)
		}
	}
}

func sameWords(a, b []string) bool {
	seen := map[string]int{}
	for _, w := range a {
		seen[w]++
	}
	for _, w := range b {
		seen[w]--
	}
	for _, n := range seen {
		if n != 0 {
			return false
		}
	}
	return true
}

func worded() []any {
	return []any{State(""), Goal(""), Access(""), InstanceState(""), OperationState(""), VolumeState(""), BackupState(""), Code(""), LogLevel(""), NodeState("")}
}
