package roles

import (
	"context"
	"testing"

	"nutshell/roles/api"
	"nutshell/services"
)

func TestTool(t *testing.T) {
	p := &Program{}
	p.Services.Register(services.Kind{Name: "kind", Tools: map[string]services.Tool{"tool": func(context.Context, services.ToolHost) error { return nil }}})
	if tool, err := p.tool("kind/tool"); err != nil || tool == nil {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"", "kind", "kind/", "kind/other", "none/tool"} {
		if _, err := p.tool(name); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%q: got %v, want invalid", name, err)
		}
	}
	if role, rest, err := roleOf([]string{"nutshell", "--role", "tool", "--dir", "/d", "kind/tool", "x"}); err != nil || role != roleTool || len(rest) != 4 {
		t.Errorf("got %q %q %v", role, rest, err)
	}
}
