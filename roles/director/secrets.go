package director

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"unicode/utf8"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

const (
	secretLength  = 24   // of random ones: 140 bits
	longestSecret = 1024 // bytes of those that users set
	// secretLetters leaves out what looks alike when it is copied by hand.
	secretLetters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
)

func randomSecret() (string, error) {
	b := make([]byte, secretLength)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(secretLetters))))
		if err != nil {
			return "", fmt.Errorf("make a secret: %w", err)
		}
		b[i] = secretLetters[n.Int64()]
	}
	return string(b), nil
}

func secretOf(application, service int64, name string) string {
	return fmt.Sprintf("secret %s of service %d/%d", name, application, service)
}

// makeSecrets gives a service those secrets of its kind that it lacks: all when
// it is made, and later what a newer Nutshell needs.
func (d *Director) makeSecrets(ctx context.Context, t *store.Tx, kind services.Kind, s store.Service) error {
	if len(kind.Secrets) == 0 {
		return nil
	}
	have, err := t.Secrets(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	for _, w := range kind.Secrets {
		if slices.ContainsFunc(have, func(h store.Secret) bool { return h.Name == w.Name }) {
			continue
		}
		value, err := randomSecret()
		if err != nil {
			return err
		}
		err = t.PutSecret(ctx, s.Application, s.ID, store.Secret{Name: w.Name, Value: d.secrets.Seal([]byte(value), secretOf(s.Application, s.ID, w.Name))})
		if err != nil {
			return err
		}
	}
	return nil
}

// completeSecrets makes what services of an application lack (0: of all).
func (d *Director) completeSecrets(ctx context.Context, application int64) error {
	rows, err := d.store.View.Services(ctx, store.Selection{Application: application})
	if err != nil {
		return err
	}
	for _, s := range rows {
		kind, err := d.c.Services.Get(s.Kind)
		if err != nil || len(kind.Secrets) == 0 {
			continue // an unknown kind is told of where it matters
		}
		have, err := d.store.Secrets(ctx, s.Application, s.ID)
		if err != nil {
			return err
		}
		if len(have) >= len(kind.Secrets) {
			continue
		}
		err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			if s, err = t.ServiceByID(ctx, s.Application, s.ID); err != nil {
				return err
			}
			return d.makeSecrets(ctx, t, kind, s)
		})
		if err != nil && api.CodeOf(err) != api.CodeNotFound { // deleted meanwhile
			return err
		}
	}
	return nil
}

// openSecretsOf opens the secrets of a service, for its own manager.
func (d *Director) openSecretsOf(ctx context.Context, v store.View, s store.Service) (map[string]string, error) {
	rows, err := v.Secrets(ctx, s.Application, s.ID)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range rows {
		value, err := d.secrets.Open(r.Value, secretOf(s.Application, s.ID, r.Name))
		if err != nil {
			return nil, err
		}
		out[r.Name] = string(value)
	}
	return out, nil
}

// SecretPath names a secret in a path.
type SecretPath struct {
	ServicePath
	Secret string `path:"secret"`
}

func (d *Director) listSecrets(ctx context.Context, in *ServicePath) ([]api.Secret, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return nil, err
	}
	rows, err := d.store.Secrets(ctx, a.ID, s.ID)
	list := []api.Secret{}
	for _, k := range kind.Secrets {
		if !k.Own {
			continue
		}
		shown := api.Secret{Name: k.Name, Title: k.Title, Help: k.Help, Own: true}
		if i := slices.IndexFunc(rows, func(r store.Secret) bool { return r.Name == k.Name }); i >= 0 {
			shown.Shown, shown.Changed = rows[i].Shown, rows[i].Changed
		}
		list = append(list, shown)
	}
	return list, err
}

// ownSecret finds a secret of a kind that users may see and set.
func ownSecret(kind services.Kind, s store.Service, name string) (services.Secret, error) {
	var names []string
	for _, k := range kind.Secrets {
		if k.Own && k.Name == name {
			return k, nil
		}
		if k.Own {
			names = append(names, k.Name)
		}
	}
	hint := "services of kind " + kind.Name + " have none"
	if len(names) > 0 {
		hint = "one of: " + strings.Join(names, ", ")
	}
	return services.Secret{}, &api.Error{Code: api.CodeNotFound, Object: "secret " + api.Shorten(name), Message: "service " + s.Name + " has no such secret", Hint: hint}
}

func (d *Director) setSecret(ctx context.Context, in *struct {
	SecretPath
	Body api.SetSecret
}) (httpapi.Either, error) {
	return d.now(ctx, in.ServicePath, func(a, s int64) order { return d.secretOrder(a, s, in.Secret, in.Body.Value) })
}

// showSecret tells a value once. Who has set it knows it.
func (d *Director) showSecret(ctx context.Context, in *SecretPath) (api.Shown, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return api.Shown{}, err
	}
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil {
		return api.Shown{}, err
	}
	if _, err := ownSecret(kind, s, in.Secret); err != nil {
		return api.Shown{}, err
	}
	if err := d.completeSecrets(ctx, a.ID); err != nil {
		return api.Shown{}, err
	}
	return d.show(ctx, a.ID, s.ID, in.Secret)
}

func (d *Director) show(ctx context.Context, application, service int64, name string) (api.Shown, error) {
	var out api.Shown
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		s, err := t.ServiceByID(ctx, application, service)
		if err != nil {
			return err
		}
		all, err := d.openSecretsOf(ctx, t.View, s)
		if err != nil {
			return err
		}
		fresh, err := t.ShowSecret(ctx, application, service, name)
		if err != nil {
			return err
		}
		if !fresh {
			return &api.Error{Code: api.CodeConflict, Op: "show", Object: "secret " + name + " of service " + s.Name,
				Message: "it was shown before, and is shown once only", Hint: "set another one"}
		}
		out.Value = all[name]
		return nil
	})
	return out, err
}

// wantedSecret is what an operation of kind service.secret keeps, sealed, to be
// tried again.
type wantedSecret struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// secretOrder changes a secret; an empty value asks for a random one. The
// operation names the secret and nothing else.
func (d *Director) secretOrder(application, service int64, name, value string) order {
	o := order{kind: serviceSecret, title: "change the secret " + api.Shorten(name) + " of", application: application, service: service,
		request: map[string]string{"name": api.Shorten(name)},
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			kind, err := d.c.Services.Get(s.Kind)
			if err != nil {
				return false, err
			}
			k, err := ownSecret(kind, *s, name)
			if err != nil {
				return false, err
			}
			set := store.Secret{Name: name, Shown: value != ""}
			text := value
			if text == "" {
				if text, err = randomSecret(); err != nil {
					return false, err
				}
			}
			if err := checkSecret(k, text); err != nil {
				return false, err
			}
			set.Value = d.secrets.Seal([]byte(text), secretOf(application, service, name))
			if err := t.PutSecret(ctx, application, service, set); err != nil {
				return false, err
			}
			return d.adapt(ctx, t, a, s, "a secret changes")
		}}
	if whole, err := json.Marshal(wantedSecret{name, value}); err == nil {
		o.sealed = d.secrets.Seal(whole, secretChangeOf(application, service))
	}
	return o
}

func checkSecret(k services.Secret, value string) error {
	wrong := func(message, hint string) error {
		return &api.Error{Code: api.CodeInvalid, Op: "set", Object: "secret " + k.Name, Message: message, Hint: hint, Fields: []string{"value"}}
	}
	switch {
	case len(value) > longestSecret:
		return wrong(fmt.Sprintf("it is %d bytes long, at most %d are allowed", len(value), longestSecret), "choose a shorter one")
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return wrong("it is no text, or has a zero byte", "use letters, digits and signs")
	}
	if k.Check == nil {
		return nil
	}
	if err := k.Check(value); err != nil {
		if api.CodeOf(err) != api.CodeInvalid {
			return wrong(err.Error(), "")
		}
		return err
	}
	return nil
}

func secretChangeOf(application, service int64) string {
	return fmt.Sprintf("change of a secret of service %d/%d", application, service)
}

// secretAgain is the order of an operation that failed.
func (d *Director) secretAgain(o store.Operation) (order, error) {
	var before snapshot
	if err := json.Unmarshal(o.Before, &before); err != nil {
		return order{}, fmt.Errorf("operation %s: %w", o.ID, err)
	}
	whole, err := d.secrets.Open(before.Sealed, secretChangeOf(o.Application, o.Service))
	if err != nil {
		return order{}, err
	}
	var w wantedSecret
	if err := json.Unmarshal(whole, &w); err != nil {
		return order{}, fmt.Errorf("operation %s: %w", o.ID, err)
	}
	return d.secretOrder(o.Application, o.Service, w.Name, w.Value), nil
}

// restoreSecrets puts secrets back as they were before an operation.
func restoreSecrets(ctx context.Context, t *store.Tx, s store.Service, before []store.Secret) error {
	for _, b := range before {
		if err := t.PutSecret(ctx, s.Application, s.ID, b); err != nil {
			return err
		}
	}
	return nil
}

// actSecret runs an action that sets a secret, and waits until the instances
// have it. A random one is told in the answer, once.
func (d *Director) actSecret(ctx context.Context, in ServicePath, secret, value string) (api.ActResult, error) {
	var application, service int64
	o, err := d.onService(ctx, in, func(a, s int64) order {
		application, service = a, s
		return d.secretOrder(a, s, secret, value)
	})
	if err != nil {
		return api.ActResult{}, err
	}
	for !o.State.Final() {
		changed := d.store.Changed()
		row, err := d.store.Operation(ctx, 0, o.ID)
		if err != nil {
			return api.ActResult{}, err
		}
		if o = row.Operation; o.State.Final() {
			break
		}
		select {
		case <-ctx.Done():
			return api.ActResult{}, &api.Error{Code: api.CodeDeadline, Op: "set", Object: "secret " + secret, Message: "it is still being changed", Hint: "see the operation", Related: o.ID}
		case <-d.waits.Done():
			return api.ActResult{}, &api.Error{Code: api.CodeUnavailable, Op: "set", Object: "secret " + secret, Message: "the director is stopping; the change goes on afterwards", Related: o.ID}
		case <-changed:
		}
	}
	if o.State != api.OperationDone {
		if o.Error == nil {
			o.Error = &api.Error{Code: api.CodeCancelled, Op: "set", Object: "secret " + secret, Message: "it was not changed: " + string(o.State), Related: o.ID}
		}
		return api.ActResult{}, o.Error
	}
	if value != "" {
		return api.ActResult{Text: "The " + secret + " is changed."}, nil
	}
	shown, err := d.show(ctx, application, service, secret)
	if err != nil {
		return api.ActResult{}, err
	}
	return api.ActResult{Text: "The " + secret + " is now " + shown.Value + " — it is shown this once."}, nil
}
