package director

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

const secretValue = "s3cret-correct-horse"

// wanted is what the manager of application 1 is told of its service.
func (h *house) wanted() api.DesiredService {
	h.t.Helper()
	d, err := h.d.desiredOf(h.t.Context(), 1)
	if err != nil {
		h.t.Fatal(err)
	}
	return d.Services[0]
}

// nowhere fails when a secret stands in any file of the director or in its log.
func (h *house) nowhere(secret string) {
	h.t.Helper()
	err := filepath.WalkDir(h.dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if bytes.Contains(b, []byte(secret)) {
			h.t.Errorf("the secret stands in %s", path)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann := h.user("ann")
	ann.running("shop")
	path := "/applications/shop/services/test"
	set := func(list ...api.Variable) api.ChangeEnvironment { return api.ChangeEnvironment{Set: list} }
	secret := api.Variable{Name: "DB_PASSWORD", Value: secretValue, Secret: true}
	before := h.d.store.Revision(1)
	o := ann.done("PATCH", path+"/environment", set(secret, api.Variable{Name: "GREETING", Value: "hello\nworld"}))
	if o.Kind != serviceEnvironment || strings.Contains(string(o.Request), "hello") || !strings.Contains(string(o.Request), "DB_PASSWORD") {
		t.Errorf("operation: %+v", o)
	}
	if h.d.store.Revision(1) == before {
		t.Error("the manager was not told")
	}
	full := []api.Variable{secret, {Name: "GREETING", Value: "hello\nworld"}}
	if diff := cmp.Diff(full, h.wanted().Environment); diff != "" {
		t.Errorf("told to the manager: %s", diff)
	}
	var shown []api.Variable
	ann.must("GET", path+"/environment", nil, &shown, 200)
	if diff := cmp.Diff([]api.Variable{{Name: "DB_PASSWORD", Secret: true}, {Name: "GREETING", Value: "hello\nworld"}}, shown); diff != "" {
		t.Errorf("shown: %s", diff)
	}

	// A secret stays one; what is not named stays as it is.
	const second = "another-secret-value"
	ann.done("PATCH", path+"/environment", api.ChangeEnvironment{Set: []api.Variable{{Name: "DB_PASSWORD", Value: second}}, Unset: []string{"GREETING"}})
	if diff := cmp.Diff([]api.Variable{{Name: "DB_PASSWORD", Value: second, Secret: true}}, h.wanted().Environment); diff != "" {
		t.Errorf("after a change: %s", diff)
	}
	ann.refused("PATCH", path+"/environment", api.ChangeEnvironment{Unset: []string{"GREETING"}}, api.CodeNotFound)

	// A change that fails is taken back, and can be tried again with its values.
	h.mu.Lock()
	h.fail[serviceEnvironment] = errors.New("it does not serve with that")
	h.mu.Unlock()
	third := "third-secret-value"
	if o = ann.finish("PATCH", path+"/environment", set(api.Variable{Name: "DB_PASSWORD", Value: third}, api.Variable{Name: "NEW", Value: "x"})); o.State != api.OperationFailed {
		t.Fatalf("operation is %s", o.State)
	}
	if diff := cmp.Diff([]api.Variable{{Name: "DB_PASSWORD", Value: second, Secret: true}}, h.wanted().Environment); diff != "" {
		t.Errorf("after a change that failed: %s", diff)
	}
	h.mu.Lock()
	delete(h.fail, serviceEnvironment)
	h.mu.Unlock()
	ann.done("POST", "/operations/"+o.ID+"/retry", nil)
	if diff := cmp.Diff([]api.Variable{{Name: "DB_PASSWORD", Value: third, Secret: true}, {Name: "NEW", Value: "x"}}, h.wanted().Environment); diff != "" {
		t.Errorf("tried again: %s", diff)
	}

	// While stopped it is done at once. The director that comes next can open it.
	ann.done("POST", path+"/stop", nil)
	ann.must("PATCH", path+"/environment", set(api.Variable{Name: "NEW", Value: "y"}), nil, 200)
	var events []api.Event
	events, err := h.d.store.Events(t.Context(), 0, true, 0, 10_000)
	if err != nil || len(events) == 0 {
		t.Fatal(err)
	}
	for _, e := range events {
		if strings.Contains(string(e.Data), "secret-value") || strings.Contains(string(e.Data), secretValue) {
			t.Errorf("event %d tells a secret: %s", e.ID, e.Data)
		}
	}
	for _, s := range []string{secretValue, second, third} {
		h.nowhere(s)
	}
	h.stopDirector()
	h.start()
	if diff := cmp.Diff([]api.Variable{{Name: "DB_PASSWORD", Value: third, Secret: true}, {Name: "NEW", Value: "y"}}, h.wanted().Environment); diff != "" {
		t.Errorf("after a restart: %s", diff)
	}
}

func TestKeyOfSecretsIsMissed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.stopDirector()
	key := filepath.Join(h.dir, "ca", "secrets.key")
	old, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	for _, other := range [][]byte{nil, bytes.Repeat([]byte{1}, len(old))} {
		if other != nil {
			if err := os.WriteFile(key, other, 0o400); err != nil {
				t.Fatal(err)
			}
		}
		d, err := New(t.Context(), h.config())
		if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "secrets.key") {
			t.Errorf("a director without its key starts: %v", err)
		}
		if d != nil {
			_ = d.Close()
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, old, 0o400); err != nil {
		t.Fatal(err)
	}
	h.start()
}

func TestEnvironmentIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	path := h.admin.shopWith("shop") + "/environment"
	set := func(name, value string) api.ChangeEnvironment {
		return api.ChangeEnvironment{Set: []api.Variable{{Name: name, Value: value}}}
	}
	for what, b := range map[string]api.ChangeEnvironment{
		"nothing":    {},
		"no name":    set("", "x"),
		"digit":      set("1A", "x"),
		"dash":       set("A-B", "x"),
		"equals":     set("A=B", "x"),
		"line":       set("A\nB", "x"),
		"letters":    set("GRÖSSE", "x"),
		"long name":  set(strings.Repeat("A", 129), "x"),
		"ours":       set("MY_IP", "1.2.3.4"),
		"prefix":     set("NUTSHELL_SCRIPT", "x"),
		"path":       set("PATH", "/tmp"),
		"zero":       set("A", "x\x00y"),
		"long value": set("A", strings.Repeat("x", 32<<10+1)),
		"twice":      {Set: []api.Variable{{Name: "A"}, {Name: "A"}}},
		"both":       {Set: []api.Variable{{Name: "A"}}, Unset: []string{"A"}},
	} {
		if e := h.admin.refused("PATCH", path, b, api.CodeInvalid); len(e.Fields) == 0 {
			t.Errorf("%s: no field is named: %v", what, e)
		}
	}
	var much, many api.ChangeEnvironment
	for n := range 9 {
		much.Set = append(much.Set, api.Variable{Name: fmt.Sprint("A", n), Value: strings.Repeat("x", 31<<10), Secret: n%2 == 0})
	}
	for n := range 129 {
		many.Set = append(many.Set, api.Variable{Name: fmt.Sprint("A", n), Value: "x"})
	}
	for _, b := range []api.ChangeEnvironment{much, many} {
		h.admin.refused("PATCH", path, b, api.CodeInvalid)
	}
	var list []api.Variable
	h.admin.must("GET", path, nil, &list, 200)
	if len(list) != 0 {
		t.Errorf("something was stored: %v", list)
	}
	many.Set = many.Set[1:]
	h.admin.must("PATCH", path, many, nil, 200)
	h.admin.must("PATCH", path, set("A1", strings.Repeat("ü", 16<<10)), nil, 200)
	h.admin.refused("PATCH", path, set("ONE_MORE", "x"), api.CodeInvalid)
}

func TestWeights(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	path := h.admin.shopWith("shop")
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "blog"}, nil, 201)
	weights := func(id, part string, n int) api.Weights {
		return api.Weights{Weights: map[string]map[string]int{id: {part: n}}}
	}
	h.admin.refused("PUT", path+"/weights", weights("a1-s1-xxxxx", "web", 5), api.CodeConflict)
	h.admin.done("POST", "/applications/shop/start", nil)
	h.admin.done("POST", path+"/start", nil)
	h.admin.done("POST", path+"/scale", api.Scale{Set: map[string]int{"web": 2}})
	s := h.admin.service(path)
	one, two := s.Instances[0].ID, s.Instances[1].ID
	for _, b := range []api.Weights{{}, weights("a1-s1-xxxxx", "web", 5), weights("", "web", 5), weights(one, "master", 5), weights(one, "", 5), weights(one, "web", 0), weights(one, "web", -1), weights(one, "web", 1001)} {
		if e := h.admin.refused("PUT", path+"/weights", b, api.CodeInvalid); len(e.Fields) == 0 {
			t.Errorf("%v: no field is named: %v", b, e)
		}
	}
	h.admin.done("PUT", path+"/weights", weights(one, "web", 200))
	h.admin.done("PUT", path+"/weights", weights(two, "web", 1))
	got := map[string]int{}
	for _, i := range h.wanted().Instances {
		got[i.ID] = i.Weights["web"]
	}
	if got[one] != 200 || got[two] != 1 {
		t.Errorf("told to the manager: %v", got)
	}
	h.mu.Lock()
	h.fail[serviceWeights] = errors.New("the proxy refuses")
	h.mu.Unlock()
	if o := h.admin.finish("PUT", path+"/weights", weights(one, "web", 7)); o.State != api.OperationFailed {
		t.Errorf("operation is %s", o.State)
	}
	for _, i := range h.admin.service(path).Instances {
		if i.ID == one && i.Weights["web"] != 200 {
			t.Errorf("after a change that failed: %v", i.Weights)
		}
	}
	// A report of the manager, or the end of a launch, leaves them alone.
	rows, err := h.d.store.ServiceInstances(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	err = h.d.store.Write(t.Context(), func(tx *store.Tx) error {
		for _, r := range rows {
			r.Weights, r.Reason = nil, "observed"
			if err := tx.SaveInstance(t.Context(), r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if list := h.admin.service(path).Instances; !slices.ContainsFunc(list, func(i api.Instance) bool { return i.ID == one && i.Weights["web"] == 200 }) {
		t.Errorf("lost by saving the instance: %+v", list)
	}
	if status, _ := h.admin.do("PUT", "/applications/blog/services/1/weights", weights(one, "web", 5), nil); status != http.StatusNotFound {
		t.Errorf("another application's: %d", status)
	}
}
