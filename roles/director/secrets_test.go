package director

import (
	"context"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

func TestSecrets(t *testing.T) {
	t.Parallel()
	h, _, ann, path := keeping(t, 1)
	eve := h.user("eve")
	first := h.wanted().Secrets
	if len(first) != 2 || len(first["password"]) != secretLength || first["password"] == first["root"] || strings.Trim(first["root"], secretLetters) != "" {
		t.Fatalf("made with the service: %v", first)
	}
	var list []api.Secret
	ann.must("GET", path+"/secrets", nil, &list, 200)
	if len(list) != 1 || list[0].Name != "password" || list[0].Shown || !list[0].Own || list[0].Changed.IsZero() {
		t.Errorf("the user's own: %+v", list)
	}
	eve.refused("GET", path+"/secrets", nil, api.CodeNotFound)
	eve.refused("POST", path+"/secrets/password/show", nil, api.CodeNotFound)
	ann.refused("POST", path+"/secrets/root/show", nil, api.CodeNotFound)
	ann.refused("PUT", path+"/secrets/root", api.SetSecret{Value: "x"}, api.CodeNotFound)

	var shown api.Shown
	ann.must("POST", path+"/secrets/password/show", nil, &shown, 200)
	if shown.Value != first["password"] {
		t.Errorf("shown %q, its manager has %q", shown.Value, first["password"])
	}
	ann.refused("POST", path+"/secrets/password/show", nil, api.CodeConflict)

	for name, value := range map[string]string{"kinds-check": "a|b", "zero-byte": "a\x00b", "too-long": strings.Repeat("x", longestSecret+1)} {
		t.Run(name, func(t *testing.T) {
			e := ann.refused("PUT", path+"/secrets/password", api.SetSecret{Value: value}, api.CodeInvalid)
			if strings.Contains(e.Error(), value) && name != "zero-byte" {
				t.Errorf("the error tells the secret: %v", e)
			}
		})
	}
	mine := `it's "mine" \ größer $(x) ` + strings.Repeat("y", 180)
	o := ann.done("PUT", path+"/secrets/password", api.SetSecret{Value: mine})
	if o.Kind != serviceSecret || strings.Contains(string(o.Request), "mine") || !strings.Contains(string(o.Request), "password") {
		t.Errorf("operation: %+v", o)
	}
	if got := h.wanted().Secrets; got["password"] != mine || got["root"] != first["root"] {
		t.Errorf("told to the manager: %v", got)
	}
	ann.refused("POST", path+"/secrets/password/show", nil, api.CodeConflict) // who set it knows it

	// What fails is undone, and can be tried again.
	h.setFail(serviceSecret, api.Conflictf("the daemon does not take it"))
	o = ann.finish("PUT", path+"/secrets/password", api.SetSecret{Value: "another one"})
	if o.State != api.OperationFailed || h.wanted().Secrets["password"] != mine {
		t.Errorf("%s; the manager is told %q", o.State, h.wanted().Secrets["password"])
	}
	h.setFail(serviceSecret, nil)
	ann.done("POST", "/operations/"+o.ID+"/retry", nil)
	if got := h.wanted().Secrets["password"]; got != "another one" {
		t.Errorf("tried again: %q", got)
	}

	var r api.ActResult
	ann.must("POST", path+"/actions/set_password", api.Act{Args: map[string]string{"password": "by an action"}}, &r, 200)
	if got := h.wanted().Secrets["password"]; got != "by an action" || strings.Contains(r.Text, got) {
		t.Errorf("set by an action to %q, which says %q", got, r.Text)
	}
	ann.must("POST", path+"/actions/set_password", api.Act{}, &r, 200)
	random := h.wanted().Secrets["password"]
	if random == "by an action" || !strings.Contains(r.Text, random) {
		t.Errorf("random is %q, the action says %q", random, r.Text)
	}
	ann.refused("POST", path+"/secrets/password/show", nil, api.CodeConflict)
	ann.done("PUT", path+"/secrets/password", api.SetSecret{})
	ann.must("POST", path+"/secrets/password/show", nil, &shown, 200)
	if shown.Value == random || shown.Value != h.wanted().Secrets["password"] {
		t.Errorf("a new random one: %q", shown.Value)
	}
	for _, secret := range []string{first["root"], first["password"], mine, "another one", random, shown.Value} {
		h.nowhere(secret)
	}
}

func TestSecretsOfAStoppedService(t *testing.T) {
	t.Parallel()
	h, _, ann, path := keeping(t, 1)
	ann.done("POST", path+"/stop", nil)
	ann.must("PUT", path+"/secrets/password", api.SetSecret{Value: "while it was stopped"}, nil, 200)
	h.stopDirector()
	h.start()
	ann.done("POST", path+"/start", nil)
	if got := h.wanted().Secrets["password"]; got != "while it was stopped" {
		t.Errorf("it starts with %q", got)
	}
}

// TestSecretsComeLater is about services that were made before their kind had
// secrets.
func TestSecretsComeLater(t *testing.T) {
	t.Parallel()
	h, _, _, _ := keeping(t, 1)
	before := h.wanted().Secrets
	newer := keeperKind
	newer.Secrets = append([]services.Secret{{Name: "health"}}, newer.Secrets...)
	for range 2 {
		err := h.d.write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			s, err := tx.ServiceByID(ctx, 1, 1)
			if err != nil {
				return err
			}
			return h.d.makeSecrets(ctx, tx, newer, s)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	after := h.wanted().Secrets
	if len(after) != 3 || len(after["health"]) != secretLength || after["root"] != before["root"] || after["password"] != before["password"] {
		t.Errorf("before %v, after %v", before, after)
	}
}
