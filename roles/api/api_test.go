package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestMoves(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to State
		ok       bool
	}{
		{"init-starts", Init, Prologue, true},
		{"init-does-not-run-at-once", Init, Running, false},
		{"running-adapts", Running, Adapting, true},
		{"running-does-not-stop-at-once", Running, Stopped, false},
		{"stopped-starts-again", Stopped, Prologue, true},
		{"error-can-be-left", Failed, Running, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.from.To(c.to)
			if (err == nil) != c.ok || (c.ok && got != c.to) || (!c.ok && CodeOf(err) != CodeConflict) {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
	for _, s := range States() {
		if !slices.Contains(moves[s], Failed) && s != Failed {
			t.Errorf("%s cannot fail, so something would stay in it for ever", s)
		}
	}
}

func TestIdentity(t *testing.T) {
	for _, id := range []Identity{
		{Installation: "i1", Role: RoleDirector},
		{Installation: "i1", Role: RoleManager, Application: 3, Name: "a3-s0-x"},
		{Installation: "i1", Role: RoleAgent, Application: 3, Service: 1, Name: "a3-s1-x"},
		{Installation: "i1", Role: RoleUser, Name: "7"},
	} {
		got, err := ParseIdentity(id.String())
		if err != nil || got != id {
			t.Errorf("%s: got %+v, %v", id, got, err)
		}
	}
	for _, bad := range []string{"", "nutshell://", "http://i1/director", "nutshell://i1/director/x", "nutshell://i1/application/0/manager/x", "nutshell://i1/application/-1/manager/x",
		"nutshell://i1/application/03/manager/x", "nutshell://i1/application/3/manager/", "nutshell://i1/application/3/service/1/agent", "nutshell://i1/root/x"} {
		if id, err := ParseIdentity(bad); err == nil {
			t.Errorf("%q was taken for %+v", bad, id)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "shop", "My shop 2", "x.y-z_1", strings.Repeat("a", MaxName)} {
		if err := CheckName("application", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", " a", "a ", "a  b", "12", "-a", ".", "../a", `a"b`, "a'b", "a/b", "ä", "🥜", "a\nb", "a\x00", strings.Repeat("a", MaxName+1), strings.Repeat("x", 10000)} {
		err := CheckName("application", bad)
		if CodeOf(err) != CodeInvalid || len(err.Error()) > 400 {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("over quota of 2")
	e := &Error{Code: CodeQuota, Op: "start", Object: "node web-3", Message: "refused", Hint: "remove a node", Err: cause}
	if got, want := e.Error(), "start node web-3: refused: over quota of 2 (remove a node)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	wrapped := fmt.Errorf("scale: %w", e)
	if CodeOf(wrapped) != CodeQuota || CodeOf(cause) != CodeInternal || CodeOf(nil) != "" || !errors.Is(wrapped, cause) {
		t.Error("codes get lost on the way")
	}
	if got := AsError(wrapped); got.Code != CodeQuota || !strings.Contains(got.Error(), "scale: start node web-3") {
		t.Errorf("got %v", got)
	}
}

func TestRealPort(t *testing.T) {
	for _, c := range []struct {
		address    string
		port, want int
	}{{"10.0.0.1", 80, 80}, {"127.1.2.3", 80, 20080}, {"127.1.2.3", 8080, 8080}, {"", 80, 80}} {
		if got := RealPort(c.address, c.port); got != c.want {
			t.Errorf("%s %d: got %d, want %d", c.address, c.port, got, c.want)
		}
	}
}

func TestUsualPart(t *testing.T) {
	k := Kind{Parts: []Part{{Name: "proxy", Max: 16}, {Name: "backend", Max: 64}, {Name: "master", Max: 100, Fixed: true}}}
	if p, ok := k.UsualPart(); !ok || p.Name != "backend" {
		t.Errorf("got %v %t", p.Name, ok)
	}
}
