package director

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

// TestMembers follows an application through the hands of several people.
func TestMembers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, vic, cora := h.user("ann"), h.user("vic"), h.user("cora")
	ann.running("shop")
	events := vic.listen(t)
	var m api.Member
	ann.must("PUT", "/applications/shop/members/vic", api.SetMember{Access: api.AccessViewer}, &m, 200)
	if m.User != "vic" || m.Access != api.AccessViewer || m.By != "ann" || m.Pays {
		t.Errorf("let in: %+v", m)
	}
	// Whoever is let in is told of all that there is, and what changes later.
	if a := events.application(t); a.Name != "shop" || a.Access != api.AccessViewer {
		t.Errorf("told of %+v", a)
	}
	events.next(t, "service")
	events.next(t, "instance")
	ann.refused("PUT", "/applications/shop/members/ann", api.SetMember{Access: api.AccessViewer}, api.CodeConflict)
	ann.refused("PUT", "/applications/shop/members/ghost", api.SetMember{Access: api.AccessViewer}, api.CodeNotFound)
	ann.refused("PUT", "/applications/shop/members/vic", api.SetMember{Access: "king"}, api.CodeInvalid)
	for _, list := range []string{"/applications", "/services", "/operations", "/resources"} {
		var found []any
		if vic.must("GET", list, nil, &found, 200); len(found) == 0 {
			t.Errorf("%s does not show what is shared", list)
		}
	}
	vic.refused("GET", "/applications/shop", nil, api.CodeNotFound) // names are one's own
	vic.refused("POST", "/applications/1/services/1/actions/hello", api.Act{Args: map[string]string{"who": "x"}}, api.CodeForbidden)
	vic.refused("GET", "/applications/1/manifest?data=true", nil, api.CodeForbidden)
	vic.refused("DELETE", "/applications/1/members/ann", nil, api.CodeForbidden)

	ann.must("PUT", "/applications/shop/members/vic", api.SetMember{Access: api.AccessDeveloper}, nil, 200)
	if a := events.application(t); a.Access != api.AccessDeveloper {
		t.Errorf("after the change: %+v", a)
	}
	vic.must("POST", "/applications/1/services/1/actions/hello", api.Act{Args: map[string]string{"who": "x"}}, nil, 200)
	vic.done("POST", "/applications/1/services/1/scale", api.Scale{Add: map[string]int{"web": 1}})
	events.next(t, "operation")
	failed := h.failedDeletion(ann)
	vic.refused("POST", "/operations/"+failed+"/retry", nil, api.CodeForbidden)

	ann.must("PUT", "/applications/shop/members/cora", api.SetMember{Access: api.AccessOwner}, nil, 200)
	cora.refused("PUT", "/applications/1/owner", api.HandOver{User: "cora"}, api.CodeForbidden) // she does not pay
	var list []api.Member
	vic.must("GET", "/applications/1/members", nil, &list, 200)
	if len(list) != 3 || list[0].User != "ann" || !list[0].Pays || list[1].User != "cora" || list[2].User != "vic" {
		t.Errorf("members: %+v", list)
	}
	cora.must("DELETE", "/applications/1/members/vic", nil, nil, 204)
	vic.refused("GET", "/applications/1", nil, api.CodeNotFound) // the same token, at once
	vic.refused("GET", "/operations/"+failed, nil, api.CodeNotFound)
	events.next(t, "application.deleted")
	ann.must("PATCH", "/applications/shop", api.Rename{Name: "store"}, nil, 200)
	vic.must("POST", "/applications", api.CreateApplication{Name: "own"}, nil, 201)
	if a := events.application(t); a.Name != "own" || a.Access != api.AccessOwner {
		t.Errorf("after the end, vic is told of %+v", a)
	}
	cora.must("DELETE", "/applications/1/members/cora", nil, nil, 204) // she leaves
	cora.refused("GET", "/applications/1", nil, api.CodeNotFound)
	ann.must("PUT", "/applications/1/members/vic", api.SetMember{Access: api.AccessViewer}, nil, 200)
	events.next(t, "application")
	ann.done("DELETE", "/applications/1", nil)
	events.next(t, "operation")
	events.next(t, "application.deleted")
	vic.done("DELETE", "/applications/own", nil)
	h.admin.must("DELETE", "/users/vic", nil, nil, 204)
	if status, _ := vic.do("GET", "/applications", nil, nil); status != 401 {
		t.Errorf("the token of a user who was deleted: got %d, want 401", status)
	}
}

// failedDeletion makes the deletion of a service fail.
func (h *house) failedDeletion(c client) string {
	h.t.Helper()
	h.setFail(serviceDelete, api.Conflictf("not today"))
	o := c.finish("DELETE", "/applications/1/services/1", nil)
	h.setFail(serviceDelete, nil)
	if o.State != api.OperationFailed {
		h.t.Fatalf("the deletion: %+v", o)
	}
	return o.ID
}

// TestHandOver gives a running application to somebody else: it is theirs when
// they say so, and what it costs is theirs from then on.
func TestHandOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, bob, eve := h.userWith("ann", 20), h.userWith("bob", 1), h.user("eve")
	ann.running("shop")
	var m api.Member
	ann.must("PUT", "/applications/shop/owner", api.HandOver{User: "bob", Stay: api.AccessDeveloper}, &m, 200)
	if !m.Offered || m.Pays || m.Access != api.AccessViewer {
		t.Errorf("offered: %+v", m)
	}
	var shown []api.Application
	if bob.must("GET", "/applications", nil, &shown, 200); len(shown) != 1 || !shown[0].Offered {
		t.Errorf("bob is not told: %+v", shown)
	}
	eve.refused("POST", "/applications/1/owner", nil, api.CodeNotFound)
	ann.refused("POST", "/applications/1/owner", nil, api.CodeConflict)
	bob.refused("POST", "/applications/1/owner", nil, api.CodeQuota) // two instances run, and he has one credit
	h.admin.must("POST", "/users/bob/credit", api.Grant{Amount: 9}, nil, 200)
	bob.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	bob.refused("POST", "/applications/1/owner", nil, api.CodeConflict) // he has one of that name
	bob.must("PATCH", "/applications/shop", api.Rename{Name: "other"}, nil, 200)
	h.admin.must("PUT", "/users/bob/quota", api.Quota{Applications: 1}, nil, 200)
	bob.refused("POST", "/applications/1/owner", nil, api.CodeQuota)
	h.admin.must("PUT", "/users/bob/quota", api.Quota{Applications: 2}, nil, 200)
	bob.must("DELETE", "/applications/1/owner", nil, nil, 204) // he declines
	bob.refused("POST", "/applications/1/owner", nil, api.CodeConflict)
	events := bob.listen(t)
	ann.must("PUT", "/applications/shop/owner", api.HandOver{User: "bob", Stay: api.AccessDeveloper}, nil, 200)
	if a := events.application(t); !a.Offered || a.Access != api.AccessViewer {
		t.Errorf("bob is told of %+v", a)
	}
	events = ann.listen(t)
	var a api.Application
	bob.must("POST", "/applications/1/owner", nil, &a, 200)
	if a.Owner != "bob" || a.Access != api.AccessOwner {
		t.Errorf("taken over: %+v", a)
	}
	if now := events.application(t); now.Owner != "bob" || now.Access != api.AccessDeveloper {
		t.Errorf("the old owner is told of %+v", now)
	}
	ann.refused("DELETE", "/applications/1", nil, api.CodeForbidden)
	ann.refused("PUT", "/applications/1/owner", api.HandOver{User: "ann"}, api.CodeForbidden)
	var of struct{ Ann, Bob api.Account }
	ann.must("GET", "/users/ann/account", nil, &of.Ann, 200)
	bob.must("GET", "/users/bob/account", nil, &of.Bob, 200)
	if of.Ann.Used.Applications != 0 || of.Ann.PerHour != 0 || of.Bob.Used.Applications != 2 || of.Bob.PerHour != 2 {
		t.Errorf("accounts: %+v", of)
	}
	before := of.Bob.Credit
	ann.done("POST", "/applications/1/services/1/scale", api.Scale{Add: map[string]int{"web": 1}})
	ann.must("GET", "/users/ann/account", nil, &of.Ann, 200)
	bob.must("GET", "/users/bob/account", nil, &of.Bob, 200)
	if of.Bob.Credit != before-1 || of.Ann.Credit != 18 {
		t.Errorf("one more instance: bob has %d credits of %d, ann %d", of.Bob.Credit, before, of.Ann.Credit)
	}
	for _, name := range []string{"ann", "bob"} { // checkLedger wants each hour of a meter in one ledger
		var list []api.LedgerEntry
		h.admin.must("GET", "/users/"+name+"/ledger?limit=1000", nil, &list, 200)
		var sum, held int64
		for _, e := range list {
			if sum += e.Amount; e.Kind == entryHold || e.Kind == entryRefund {
				held -= e.Amount
			}
		}
		if a := h.admin.account(name); sum != a.Credit || held != a.Held || held != 0 {
			t.Errorf("ledger of %s: %d left and %d held, the account says %+v", name, sum, held, a)
		}
	}
	// An administrator's word is enough.
	h.admin.must("PUT", "/applications/1/owner", api.HandOver{User: "ann"}, &m, 200)
	if !m.Pays {
		t.Errorf("by an administrator: %+v", m)
	}
	bob.refused("GET", "/applications/1", nil, api.CodeNotFound)
	ann.must("GET", "/applications/shop", nil, nil, 200)
	release := h.holdBack(serviceScale)
	defer release()
	var o api.Operation
	ann.must("POST", "/applications/1/services/1/scale", api.Scale{Add: map[string]int{"web": 1}}, &o, 202)
	if e := h.admin.refused("PUT", "/applications/1/owner", api.HandOver{User: "bob"}, api.CodeConflict); e.Related != o.ID {
		t.Errorf("while an operation is under way: %+v", e)
	}
}

// heard is a stream of events under way.
type heard struct{ events chan api.Event }

func (c client) listen(t *testing.T) heard {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", c.h.url+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", c.auth)
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	out := heard{make(chan api.Event, 1000)}
	go func() {
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e api.Event
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(text), &e) == nil && e.ID != 0 {
				out.events <- e
			}
		}
	}()
	t.Cleanup(stop)
	return out
}

// next waits for an event of a type and skips others.
func (o heard) next(t *testing.T, typ string) api.Event {
	t.Helper()
	end := time.After(time.Minute)
	for {
		select {
		case e := <-o.events:
			if e.Type == typ {
				return e
			}
		case <-end:
			t.Fatalf("no event %s came", typ)
		}
	}
}

func (o heard) application(t *testing.T) (a api.Application) {
	t.Helper()
	if err := json.Unmarshal(o.next(t, "application").Data, &a); err != nil {
		t.Fatal(err)
	}
	return a
}
