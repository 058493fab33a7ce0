package director

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/store"
)

// longPoll is how long a manager waits for news. It is less than what
// proxies and clients usually bear.
const longPoll = 25 * time.Second

// enrol gives an instance its certificate for a secret that works once. Why a
// secret is refused is for the log: the asker may be anybody.
func (d *Director) enrol(ctx context.Context, in *struct{ Body api.Enrol }) (api.Enrolled, error) {
	if ok, _ := d.limits.Allow("enrol " + httpapi.Remote(ctx) + auth.HashSecret(in.Body.Secret)); !ok {
		return api.Enrolled{}, &api.Error{Code: api.CodeTooMany, Op: "enrol", Message: "too many tries"}
	}
	key, err := pki.KeySHA256([]byte(in.Body.CSR))
	if err != nil {
		return api.Enrolled{}, err
	}
	var out api.Enrolled
	var identity string
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		var err error
		if identity, err = t.ConsumeSecret(ctx, auth.HashSecret(in.Body.Secret), key); err != nil {
			return err
		}
		id, err := api.ParseIdentity(identity)
		if err != nil {
			return err
		}
		row, err := t.Instance(ctx, id.Name) // removed in the meantime: not found
		if err != nil {
			return err
		}
		out, err = d.certificate(in.Body.CSR, id, row)
		return err
	})
	switch {
	case errors.Is(err, store.ErrSecretUsed), errors.Is(err, store.ErrSecretUnknown), errors.Is(err, store.ErrSecretExpired):
		d.c.Log.Warn("enrolment refused", "remote", httpapi.Remote(ctx), "identity", identity, "error", err)
		return out, &api.Error{Code: api.CodeUnauthorized, Op: "enrol", Message: "the secret is not valid"}
	case err != nil:
		return out, err
	}
	httpapi.Actor(ctx, identity)
	d.c.Log.Info("instance enrolled", "identity", identity, "remote", httpapi.Remote(ctx))
	return out, nil
}

func (d *Director) certificate(csr string, id api.Identity, row store.Instance) (api.Enrolled, error) {
	var hosts []string
	if row.Address != "" {
		hosts = []string{row.Address}
	}
	chain, until, err := d.ca.Sign([]byte(csr), id, hosts, 0)
	return api.Enrolled{Chain: string(chain), Identity: id.String(), Expires: until.UTC(), Now: d.c.Now().UTC()}, err
}

func (d *Director) renew(ctx context.Context, in *struct{ Body api.Enrol }) (api.Enrolled, error) {
	id := httpapi.Who(ctx).Identity
	if id.Role == api.RoleNode {
		return d.renewNode(ctx, id, in.Body.CSR)
	}
	row, err := d.store.Instance(ctx, id.Name)
	if err != nil {
		return api.Enrolled{}, err
	}
	return d.certificate(in.Body.CSR, id, row)
}

// desired waits until an application is wanted otherwise than its manager
// knows.
func (d *Director) desired(ctx context.Context, in *struct {
	After int64 `query:"after"`
}) (*api.Desired, error) {
	id := httpapi.Who(ctx).Identity
	d.live.hear(id.Name, d.c.Now())
	timer := time.NewTimer(longPoll)
	defer timer.Stop()
	for {
		changed := d.store.Changed()
		if r := d.store.Revision(id.Application); r > in.After || r == 0 || in.After > r {
			return d.desiredOf(ctx, id.Application)
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, nil
		case <-d.waits.Done():
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// desiredOf reads all of it from one state of the database: an operation with
// what was wanted before it began would be carried out wrongly.
func (d *Director) desiredOf(ctx context.Context, application int64) (*api.Desired, error) {
	out := &api.Desired{Services: []api.DesiredService{}}
	err := d.store.Snapshot(ctx, func(v store.View) error {
		a, err := v.ApplicationByID(ctx, application)
		if err != nil {
			return err
		}
		out.Revision, out.Application = a.Revision, a.Application
		rows, err := v.Services(ctx, store.Selection{Application: application})
		if err != nil {
			return err
		}
		instances, err := v.ApplicationInstances(ctx, application)
		if err != nil {
			return err
		}
		for _, s := range rows {
			w, err := d.desiredService(ctx, v, s)
			if err != nil {
				return err
			}
			for _, i := range instances {
				if i.Service == s.ID {
					w.Instances = append(w.Instances, i.Instance)
				}
			}
			w.Front = d.sources(w.Instances)
			w.Patience = d.patience(s.Cloud, w.Instances)
			out.Services = append(out.Services, w)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (d *Director) desiredService(ctx context.Context, v store.View, s store.Service) (api.DesiredService, error) {
	w := api.DesiredService{Service: s.Service, Instances: []api.Instance{}, Script: s.Script, Remove: s.Remove, Retry: s.Retry, Deleting: s.Deleting, Served: s.Served}
	w.Service.URLs = s.Reported // what the manager knows, not what the edge adds
	var err error
	if w.Environment, err = d.environment(s, s.Environment); err != nil {
		return w, err
	}
	if w.Volumes, err = volumesTold(ctx, v, s); err != nil {
		return w, err
	}
	if w.Secrets, err = d.openSecretsOf(ctx, v, s); err != nil {
		return w, err
	}
	if w.Code, err = codeOf(ctx, v, s, s.Version); err != nil {
		return w, err
	}
	if w.Previous, err = codeOf(ctx, v, s, s.Previous); err != nil {
		return w, err
	}
	o, err := v.Active(ctx, s.Application, s.ID)
	if o != nil && !d.carries(*o) {
		w.Operation = &o.Operation
	}
	return w, err
}

func codeOf(ctx context.Context, v store.View, s store.Service, id string) (*api.CodeVersion, error) {
	if id == "" {
		return nil, nil
	}
	c, err := v.Version(ctx, s.Application, s.ID, id)
	if api.CodeOf(err) == api.CodeNotFound { // an old version that was deleted
		return nil, nil
	}
	return &c, err
}

var instanceID = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// launchInstances starts instances for a manager, of services of its own
// application only. Asking twice for the same ids starts nothing twice.
func (d *Director) launchInstances(ctx context.Context, in *struct{ Body api.LaunchRequest }) (api.LaunchResult, error) {
	id := httpapi.Who(ctx).Identity
	var rows []store.Instance
	var active *store.Operation
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		s, err := t.ServiceByID(ctx, id.Application, in.Body.Service)
		if err != nil {
			return err
		}
		if s.Desired != api.GoalStarted {
			return &api.Error{Code: api.CodeConflict, Op: "launch", Object: "service " + s.Name, Message: "it is not wanted to run"}
		}
		if active, err = t.Active(ctx, s.Application, s.ID); err != nil {
			return err
		}
		if rows, err = d.insertInstances(ctx, t, s, in.Body.Instances); err != nil {
			return err
		}
		return d.holdInstances(ctx, t, s, rows)
	})
	if err != nil || len(rows) == 0 {
		return api.LaunchResult{Instances: []api.Instance{}}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Minute) // rows must fit what happened, even if the manager dies now
	defer cancel()
	up, err := d.launch(ctx, rows, d.tell(active))
	if active != nil {
		d.live.annotate(active.ID, "", 0)
	}
	out := api.LaunchResult{Instances: []api.Instance{}, Error: api.AsError(err)}
	for _, r := range up {
		out.Instances = append(out.Instances, r.Instance)
	}
	out.Patience = d.patience(rows[0].Cloud, out.Instances)
	var failed []store.Instance
	for _, r := range rows {
		if !slices.ContainsFunc(up, func(u store.Instance) bool { return u.ID == r.ID }) {
			failed = append(failed, r)
		}
	}
	if len(failed) > 0 { // half of one may exist
		if err := d.terminate(ctx, failed); err != nil {
			d.c.Log.Warn("failed instances could not be cleaned up, the sweep tries again", "app", id.Application, "error", err)
		}
	}
	return out, nil
}

// insertInstances stores what was asked for before any cloud is.
func (d *Director) insertInstances(ctx context.Context, t *store.Tx, s store.Service, asked []api.LaunchEntry) ([]store.Instance, error) {
	all, err := t.ApplicationInstances(ctx, s.Application)
	if err != nil {
		return nil, err
	}
	count := 0
	for _, i := range all {
		if i.Service != 0 {
			count++
		}
	}
	var rows []store.Instance
	for _, e := range asked {
		prefix := fmt.Sprintf("a%d-s%d-", s.Application, s.ID)
		if !instanceID.MatchString(e.ID) || len(e.ID) <= len(prefix) || e.ID[:len(prefix)] != prefix {
			return nil, &api.Error{Code: api.CodeInvalid, Op: "launch", Object: "instance " + api.Shorten(e.ID), Message: "an id of this service begins with " + prefix}
		}
		if i := slices.IndexFunc(all, func(o store.Instance) bool { return o.ID == e.ID }); i >= 0 {
			if all[i].State == api.InstanceLeaving {
				return nil, api.Conflictf("instance %s is leaving", e.ID)
			}
			rows = append(rows, all[i])
			continue
		}
		if count++; count > d.tune().instances {
			return nil, &api.Error{Code: api.CodeQuota, Op: "launch", Object: "service " + s.Name, Message: fmt.Sprintf("an application may have %d instances", d.tune().instances)}
		}
		row, err := t.InsertInstance(ctx, store.Instance{Instance: api.Instance{ID: e.ID, Application: s.Application, Service: s.ID, Cloud: s.Cloud, Parts: e.Parts, State: api.InstanceAsked}})
		if err != nil {
			return nil, err
		}
		if err := d.reserve(ctx, t, s, row, row.Parts); err != nil {
			return nil, err
		}
		if err := d.inherit(ctx, t, s, row); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// tell shows the building of an image in the operation that waits for it.
func (d *Director) tell(o *store.Operation) progress {
	if o == nil {
		return func(string, float64) {}
	}
	last := time.Time{}
	return func(step string, fraction float64) {
		d.live.annotate(o.ID, step, fraction)
		if now := d.c.Now(); now.Sub(last) < 500*time.Millisecond {
			return
		}
		last = d.c.Now()
		err := d.write(d.ctx, func(ctx context.Context, t *store.Tx) error {
			row, err := t.Operation(ctx, 0, o.ID)
			if err != nil || row.State.Final() {
				return err
			}
			d.addNote(&row)
			return t.SaveOperation(ctx, row)
		})
		if err != nil {
			d.c.Log.Warn("progress of an operation not stored", "op", o.ID, "error", err)
		}
	}
}

func (d *Director) terminateInstances(ctx context.Context, in *struct {
	Body struct {
		Instances []string `json:"instances"`
	}
}) (httpapi.None, error) {
	id := httpapi.Who(ctx).Identity
	var rows []store.Instance
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		for _, ref := range in.Body.Instances {
			row, err := t.Instance(ctx, ref)
			if api.CodeOf(err) == api.CodeNotFound {
				continue // gone already
			}
			if err != nil {
				return err
			}
			if row.Application != id.Application || row.Service == 0 {
				return api.NotFoundf("your application has no agent %s", api.Shorten(ref))
			}
			row.State = api.InstanceLeaving
			if err := t.SaveInstance(ctx, row); err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	if err != nil {
		return httpapi.None{}, err
	}
	if err := d.front.refresh(ctx); err != nil { // no visitor goes where nobody will be
		d.c.Log.Warn("edge not told of instances that leave", "app", id.Application, "error", err)
	}
	return httpapi.None{}, d.terminate(context.WithoutCancel(ctx), rows)
}

func (d *Director) sendBinary(context.Context, *struct{}) (*httpapi.Stream, error) {
	f, err := os.Open(d.c.Binary)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "send", Object: "the director's program", Err: err}
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &httpapi.Stream{Type: "application/octet-stream", Size: info.Size(), Read: f}, nil
}

func fileSHA256(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
