package director

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"nutshell/roles/api"
)

func TestBindingsAreShownWithoutSecrets(t *testing.T) {
	h := newHouse(t)
	h.answer = func(mux *http.ServeMux) {
		mux.HandleFunc("GET /v1/services/1/bindings", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(api.Bindings{Offers: api.Binding{Service: "test", Kind: "test", Values: map[string]string{"host": "10.0.0.1", "password": "hidden", "other": "unknown"}},
				Gets: []api.Binding{{Service: "x", Kind: "gone", Values: map[string]string{"host": "1"}}}, Variables: []api.Variable{{Name: "X_PASSWORD", Value: "hidden", Secret: true}, {Name: "X_HOST", Value: "1"}}})
		})
	}
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	for range 2 {
		h.admin.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
	}
	var b api.Bindings
	h.admin.must("GET", "/applications/shop/services/test/bindings", nil, &b, 200)
	if len(b.Gets) != 1 || b.Gets[0].Service != "test-2" || len(b.Gets[0].Values) != 0 {
		t.Errorf("without a manager: got %+v", b)
	}
	h.admin.done("POST", "/applications/shop/start", nil)
	h.admin.must("GET", "/applications/shop/services/test/bindings", nil, &b, 200)
	if v := b.Offers.Values; v["host"] != "10.0.0.1" || v["password"] != "" || v["other"] != "" || b.Gets[0].Values["host"] != "" {
		t.Errorf("got %+v", b)
	}
	if !slices.Equal(b.Variables, []api.Variable{{Name: "X_PASSWORD", Secret: true}, {Name: "X_HOST", Value: "1"}}) {
		t.Errorf("got variables %+v", b.Variables)
	}
	h.user("eve").refused("GET", "/applications/shop/services/test/bindings", nil, api.CodeNotFound)
}

func TestBind(t *testing.T) {
	h := newHouse(t)
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	for range 3 {
		h.admin.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
	}
	const path = "/applications/shop/services/test"
	if got := h.admin.service(path).Bind; !slices.Equal(got, []string{"*"}) {
		t.Errorf("a new service is bound to %q", got)
	}
	for _, names := range [][]string{{"test"}, {"nobody"}, {"*", "test-2"}, {"test-2", "test-2"}, make([]string, 101)} {
		h.admin.refused("PATCH", path, api.ChangeService{Bind: &names}, api.CodeInvalid)
	}
	names := []string{"test-3", "test-2"}
	h.admin.must("PATCH", path, api.ChangeService{Bind: &names}, nil, 200)
	to := "other"
	h.admin.must("PATCH", "/applications/shop/services/test-2", api.ChangeService{Name: &to}, nil, 200)
	if got := h.admin.service(path).Bind; !slices.Equal(got, []string{"test-3", "other"}) {
		t.Errorf("after its sibling was renamed it is bound to %q", got)
	}
	none := []string{}
	h.admin.must("PATCH", path, api.ChangeService{Bind: &none}, nil, 200)
	if got := h.admin.service(path).Bind; got == nil || len(got) != 0 {
		t.Errorf("bound to nobody, it is bound to %q", got)
	}
}
