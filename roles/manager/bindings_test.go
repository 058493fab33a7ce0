package manager

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

func TestVariables(t *testing.T) {
	db := api.Binding{Service: "my-db", Kind: "mysql", Values: map[string]string{"host": "10.0.0.2", "password": "p'\"w"}}
	second := api.Binding{Service: "mysql2", Kind: "mysql", Values: map[string]string{"host": "10.0.0.3", "ip": "10.0.0.33"}}
	for _, c := range []struct {
		name string
		own  []api.Variable
		got  []api.Binding
		want string
	}{
		{"none", nil, nil, ""},
		{"service-and-kind", nil, []api.Binding{db}, "MYSQL_HOST=10.0.0.2 MYSQL_IP=10.0.0.2 MYSQL_PASSWORD=p'\"w! MY_DB_HOST=10.0.0.2 MY_DB_IP=10.0.0.2 MY_DB_PASSWORD=p'\"w!"},
		{"first-of-a-kind", nil, []api.Binding{db, second}, "MYSQL2_HOST=10.0.0.3 MYSQL2_IP=10.0.0.33 MYSQL_HOST=10.0.0.2 MYSQL_IP=10.0.0.2 MYSQL_PASSWORD=p'\"w! MY_DB_HOST=10.0.0.2 MY_DB_IP=10.0.0.2 MY_DB_PASSWORD=p'\"w!"},
		{"a-service-has-the-name", nil, []api.Binding{{Service: "a", Kind: "mysql", Values: map[string]string{"host": "1"}}, {Service: "MySQL", Kind: "mysql", Values: map[string]string{"host": "2"}}},
			"A_HOST=1 A_IP=1 MYSQL_HOST=2 MYSQL_IP=2"},
		{"own-wins", []api.Variable{{Name: "MYSQL_HOST", Value: "elsewhere"}}, []api.Binding{{Service: "mysql", Kind: "mysql", Values: map[string]string{"host": "2"}}}, "MYSQL_HOST=elsewhere MYSQL_IP=2"},
		{"same-letters", nil, []api.Binding{{Service: "a-b", Kind: "k", Values: map[string]string{"x": "1"}}, {Service: "a_b", Kind: "k", Values: map[string]string{"x": "2"}}}, "A_B_X=1 K_X=1"},
		{"digit-and-letters-of-others", nil, []api.Binding{{Service: "2é", Kind: "k", Values: map[string]string{"x": "1"}}}, "K_X=1 _2__X=1"},
		{"our-own-are-true", nil, []api.Binding{{Service: "nutshell", Kind: "k", Values: map[string]string{"bindings": "1", "ip": "2"}}}, "K_BINDINGS=1 K_IP=2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := variables(c.own, c.got, func(_, offer string) bool { return offer == "password" })
			var words []string
			for _, v := range got {
				w := v.Name + "=" + v.Value
				if v.Secret {
					w += "!"
				}
				words = append(words, w)
			}
			if s := strings.Join(words, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

// store offers what the test says.
type storeHalf struct {
	half
	w *world
}

func (f storeHalf) Offers() map[string]string {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return maps.Clone(f.w.offers)
}

// Stream is alone unless it only gives.
func (f storeHalf) Stream(_ context.Context, name string, _ map[string]string) (services.StreamPlan, error) {
	return services.StreamPlan{Instance: f.h.Instances()[0].ID, Alone: name == services.StreamRestore}, nil
}

func (f storeHalf) Streamed(_ context.Context, name string, _ services.StreamPlan, failed error) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.w.streamed = append(f.w.streamed, fmt.Sprintf("%s %v", name, failed != nil))
	return nil
}

func storeKind(w *world) services.Kind {
	return services.Kind{Name: "store", Parts: []services.Part{{Name: "node", Default: 1, Min: 1, Max: 9}}, Offers: []api.Offer{{Name: "host"}, {Name: "password", Secret: true}},
		Manager: func(h services.Host) services.Manager { return storeHalf{half{h}, w} }}
}

func (w *world) addStore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changeLocked(func(d *api.DesiredService) { d.Service.Desired, d.Service.Bind = api.GoalStarted, []string{"*"} })
	w.desired.Services = append(w.desired.Services, api.DesiredService{Service: api.Service{ID: 2, Application: 7, Name: "db", Kind: "store", State: api.Init, Desired: api.GoalStarted,
		Parts: map[string]int{"node": 1}, Settings: []byte("{}")}, Instances: []api.Instance{}})
	w.changeLocked(func(*api.DesiredService) {})
}

func (w *world) offer(values map[string]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offers = values
}

// told tells whether all agents of the first service have a value of DB_HOST.
func (w *world) told(host string) func() bool {
	return func() bool {
		n := 0
		for _, a := range w.agents {
			if a.i.Service != 1 || a.config.Kind == "" {
				continue
			}
			n++
			i := slices.IndexFunc(a.config.Environment, func(v api.Variable) bool { return v.Name == "DB_HOST" })
			if got := i >= 0 && a.config.Environment[i].Value == host; got == (host == "") {
				return false
			}
			if host != "" && (len(a.config.Bindings) != 1 || a.config.Bindings[0].Values["host"] != host) {
				return false
			}
		}
		return n > 0
	}
}

func TestBindingsFollowOffers(t *testing.T) {
	w := newWorld(t)
	kill := w.startManager()
	w.addStore()
	w.until("both run", func() bool { return w.reports[1].State == api.Running && w.reports[2].State == api.Running })
	w.until("nothing is told before it is offered", w.told(""))
	w.offer(map[string]string{"host": "10.0.0.1", "password": "secret", "unknown": "x"})
	w.until("the offer is told", w.told("10.0.0.1"))
	w.offer(map[string]string{"host": "10.0.0.2"})
	w.until("another offer is told", w.told("10.0.0.2"))

	// A manager that begins anew knows of no offers; nobody must lose theirs.
	kill()
	w.offer(nil)
	w.mu.Lock()
	applied, without := w.applied, w.without
	w.mu.Unlock()
	w.startManager()
	w.until("the new manager looks", func() bool { return w.reports[2].State == api.Running && w.began })
	w.offer(map[string]string{"host": "10.0.0.2"})
	w.until("the service is configured", func() bool { return w.applied > applied && w.told("10.0.0.2")() })

	// For a moment nothing is offered: that is not told.
	w.offer(nil)
	time.Sleep(3 * time.Second) // the loop looks every second
	w.mu.Lock()
	if w.without != without {
		t.Error("what was offered was taken away for a moment")
	}
	w.changeLocked(func(d *api.DesiredService) { d.Service.Bind = []string{"other"} })
	w.mu.Unlock()
	w.until("what is not bound is not told", w.told(""))
}

// director is the manager's client as the director has it.
func (w *world) director(service int64) *rpc.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	return rpc.NewClient("https://"+net.JoinHostPort(w.manager, strconv.Itoa(api.ManagerPort)), w.authority.ClientTLS(pki.ManagerOf(7)))
}

func TestStreamsPassThrough(t *testing.T) {
	w := newWorld(t)
	w.streams = func(mux *http.ServeMux) {
		mux.HandleFunc("POST /v1/streams/{name}", func(rw http.ResponseWriter, r *http.Request) {
			rpc.Take(rw, r, func(_ context.Context, body io.Reader) (api.ActResult, error) {
				n, err := io.Copy(io.Discard, body)
				if rpc.Args(r)["fail"] != "" {
					err = api.Invalidf("line 7 is wrong")
				}
				return api.ActResult{Text: fmt.Sprint(n)}, err
			})
		})
		mux.HandleFunc("GET /v1/streams/{name}", func(rw http.ResponseWriter, r *http.Request) {
			rpc.Give(rw, r, func(_ context.Context, out io.Writer) (string, error) {
				_, err := io.WriteString(out, strings.Repeat("x", 1<<20))
				return "0-1-5", err
			})
		})
	}
	w.startManager()
	w.addStore()
	w.until("both run", func() bool { return w.reports[1].State == api.Running && w.reports[2].State == api.Running })
	c := w.director(2)
	defer c.HTTP.CloseIdleConnections()
	if got, err := c.Send(t.Context(), "/v1/services/2/streams/load", strings.NewReader("12345")); err != nil || got.Text != "5" {
		t.Fatalf("sent: got %+v, %v", got, err)
	}
	if position, err := c.Fetch(t.Context(), "/v1/services/2/streams/dump", io.Discard); err != nil || position != "0-1-5" {
		t.Fatalf("fetched: got %q, %v", position, err)
	}
	if _, err := c.Send(t.Context(), "/v1/services/1/streams/load", strings.NewReader("12345")); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("a kind without streams: got %v", err)
	}
	w.mu.Lock()
	before := w.applied
	w.mu.Unlock()
	for _, path := range []string{"restore", "restore?fail=yes"} {
		_, err := c.Send(t.Context(), "/v1/services/2/streams/"+path, strings.NewReader("12345"))
		if failed := strings.Contains(path, "fail"); failed != (err != nil) || failed && !strings.Contains(err.Error(), "line 7") {
			t.Errorf("%s: got %v", path, err)
		}
	}
	w.until("the half hears of both ends", func() bool { return slices.Equal(w.streamed, []string{"restore false", "restore true"}) })
	w.until("the service is configured anew", func() bool { return w.applied > before && w.reports[2].State == api.Running })
}
