package manager

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

const (
	// offersKept bridges a failover: siblings need not hear of a moment in which
	// nobody can be reached.
	offersKept = 30 * time.Second
	// offersAwaited is how long a manager that has just begun leaves services
	// that run as they are, until it has heard what their siblings offer.
	offersAwaited = 30 * time.Second
)

// offers is what a service offers to its siblings.
type offers struct {
	values map[string]string
	heard  bool      // since this manager began
	empty  time.Time // since when there is nothing, though there was; zero: there is
}

// collect asks the kind's half what it offers now.
func (s *service) collect() {
	half, ok := s.half.(services.Offerer)
	if !ok {
		return
	}
	s.offer(half.Offers())
}

// offer takes what a service offers now, and wakes its siblings when that is
// something else than before.
func (s *service) offer(values map[string]string) {
	told := map[string]string{}
	for _, o := range s.kind.Offers {
		if v := values[o.Name]; v != "" {
			told[o.Name] = v
		}
	}
	now := s.m.c.Now()
	s.mu.Lock()
	if len(told) == 0 && len(s.offers.values) > 0 && s.desired.Service.Desired == api.GoalStarted {
		if s.offers.empty.IsZero() {
			s.offers.empty = now
		}
		if now.Sub(s.offers.empty) < offersKept {
			s.mu.Unlock()
			return
		}
	}
	// A service that is only being looked at for the first time may have nothing
	// to say yet.
	if len(told) == 0 && !s.offers.heard && s.desired.Service.Desired == api.GoalStarted && now.Sub(s.m.began) < offersAwaited {
		s.mu.Unlock()
		return
	}
	changed := !s.offers.heard || !maps.Equal(told, s.offers.values)
	s.offers = offers{values: told, heard: true}
	s.mu.Unlock()
	if !changed {
		return
	}
	for _, other := range s.m.list() {
		if other != s {
			other.poke()
		}
	}
}

// binding is what a service offers; values may be empty.
func (s *service) binding() (b api.Binding, heard bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b = api.Binding{Service: s.desired.Service.Name, Kind: s.kind.Name, Values: maps.Clone(s.offers.values)}
	if b.Values == nil {
		b.Values = map[string]string{}
	}
	return b, s.offers.heard || s.desired.Service.Desired != api.GoalStarted
}

// gets is what a service gets of its siblings, in the order of their ids; all
// is false while one of them that is started was not heard yet.
func (s *service) gets() (list []api.Binding, all bool) {
	bound := s.wanted().Service.Bind
	list, all = []api.Binding{}, true
	for _, other := range s.m.list() {
		if other == s || len(other.kind.Offers) == 0 {
			continue
		}
		b, heard := other.binding()
		if slices.Contains(bound, "*") || slices.Contains(bound, b.Service) {
			list = append(list, b)
			all = all && heard
		}
	}
	return list, all
}

// offering are those bindings that have something.
func offering(list []api.Binding) []api.Binding {
	out := []api.Binding{}
	for _, b := range list {
		if len(b.Values) > 0 {
			out = append(out, b)
		}
	}
	return out
}

// mustWait tells whether instances that run should be left as they are because
// this manager does not know yet what the service's siblings offer.
func (s *service) mustWait(have int) bool {
	if have == 0 || s.m.c.Now().Sub(s.m.began) > offersAwaited {
		return false
	}
	_, all := s.gets()
	return !all
}

// bind fixes what the service's instances are told, for a whole configuration.
func (s *service) bind() []api.Binding {
	list, _ := s.gets()
	list = offering(list)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = list
	return list
}

func (s *service) boundTo() []api.Binding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bound
}

// variables are those that instances have: of each sibling by its name, those
// of the first sibling of each kind by the kind's name, and over all the
// user's own.
func (m *Manager) variables(own []api.Variable, got []api.Binding) []api.Variable {
	return variables(own, got, func(kind, offer string) bool {
		k, err := m.c.Kinds.Get(kind)
		return err != nil || slices.ContainsFunc(k.Offers, func(o api.Offer) bool { return o.Name == offer && o.Secret })
	})
}

// variables is pure. got comes in the order of services' ids.
func variables(own []api.Variable, got []api.Binding, secret func(kind, offer string) bool) []api.Variable {
	list := slices.Clone(own)
	taken := map[string]bool{}
	for _, v := range own {
		taken[v.Name] = true
	}
	add := func(prefix string, b api.Binding) {
		for _, name := range slices.Sorted(maps.Keys(b.Values)) {
			v := api.Variable{Name: prefix + "_" + upper(name), Value: b.Values[name], Secret: secret(b.Kind, name)}
			if !taken[v.Name] && !strings.HasPrefix(v.Name, "NUTSHELL_") {
				taken[v.Name] = true
				list = append(list, v)
			}
		}
		// ConPaaS told its services' addresses as MYSQL_IP, XTREEMFS_IP and so on.
		ip := prefix + "_IP"
		if v := cmp.Or(b.Values["ip"], b.Values["host"]); v != "" && !taken[ip] && !strings.HasPrefix(ip, "NUTSHELL_") {
			taken[ip] = true
			list = append(list, api.Variable{Name: ip, Value: v})
		}
	}
	prefixes := map[string]bool{}
	for _, b := range got {
		if p := upper(b.Service); !prefixes[p] { // my-db and my_db: the older one
			prefixes[p] = true
			add(p, b)
		}
	}
	for _, b := range got {
		if p := upper(b.Kind); !prefixes[p] {
			prefixes[p] = true
			add(p, b)
		}
	}
	slices.SortStableFunc(list, func(a, b api.Variable) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// upper makes the beginning of a variable's name of a name of people.
func upper(name string) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		s = "_" + s
	}
	return s
}

// bindings answers the director, with secrets.
func (m *Manager) bindings(_ context.Context, r *http.Request, _ struct{}) (api.Bindings, error) {
	s, err := m.service(r.PathValue("id"))
	if err != nil {
		return api.Bindings{}, err
	}
	out := api.Bindings{}
	out.Offers, _ = s.binding()
	out.Gets, _ = s.gets()
	for _, v := range m.variables(nil, offering(out.Gets)) {
		own := s.wanted().Environment
		if !slices.ContainsFunc(own, func(o api.Variable) bool { return o.Name == v.Name }) {
			out.Variables = append(out.Variables, v)
		}
	}
	if out.Variables == nil {
		out.Variables = []api.Variable{}
	}
	return out, nil
}
