package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"nutshell/roles/api"
)

// Instance is an instance with the id its cloud gave it.
type Instance struct {
	api.Instance
	CloudID string
	Machine string // id of the node that it runs on, whose name is in Node
}

const instanceColumns = `id, application, service, cloud, cloud_id, address, parts, state, reason, created, weights, machine, public`

// nodeName is the name of an instance's node, or its id once that is gone.
const nodeName = `CASE machine WHEN '' THEN '' ELSE coalesce((SELECT name FROM node WHERE node.id = machine), machine) END`

func scanInstance(r *sql.Rows) (Instance, error) {
	var i Instance
	var created int64
	var parts, weights string
	err := r.Scan(&i.ID, &i.Application, &i.Service, &i.Cloud, &i.CloudID, &i.Address, &parts, &i.State, &i.Reason, &created, &weights, &i.Machine, &i.Public, &i.Node)
	i.Created, i.Parts = timeOf(created), list(parts)
	if err != nil || weights == "{}" {
		return i, err
	}
	return i, json.Unmarshal([]byte(weights), &i.Weights)
}

func (v View) instances(ctx context.Context, where string, args ...any) ([]Instance, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+instanceColumns+`, `+nodeName+` FROM instance WHERE `+where+` ORDER BY application, service, created, id`, args...)
	return scanAll(rows, err, scanInstance)
}

// Instances lists all instances of the installation.
func (v View) Instances(ctx context.Context) ([]Instance, error) { return v.instances(ctx, `1`) }

// ApplicationInstances lists the instances of an application, its manager
// with them.
func (v View) ApplicationInstances(ctx context.Context, application int64) ([]Instance, error) {
	return v.instances(ctx, `application = ?`, application)
}

// ServiceInstances lists the instances of a service (0: the manager).
func (v View) ServiceInstances(ctx context.Context, application, service int64) ([]Instance, error) {
	return v.instances(ctx, `application = ? AND service = ?`, application, service)
}

// SeenInstances lists the instances of all applications that a user owns or is
// a member of.
func (v View) SeenInstances(ctx context.Context, user int64) ([]Instance, error) {
	return v.instances(ctx, `application IN (SELECT a.id FROM application a WHERE `+seen+`)`, user)
}

// Instance finds an instance.
func (v View) Instance(ctx context.Context, id string) (Instance, error) {
	found, err := v.instances(ctx, `id = ?`, id)
	return one(found, err, func() error { return api.NotFoundf("there is no instance %s", api.Shorten(id)) })
}

// InsertInstance stores an instance before its cloud is asked for it.
func (t *Tx) InsertInstance(ctx context.Context, i Instance) (Instance, error) {
	i.Created = t.now
	_, err := t.exec(ctx, `INSERT INTO instance (`+instanceColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		i.ID, i.Application, i.Service, i.Cloud, i.CloudID, i.Address, text(i.Parts), i.State, i.Reason, micros(i.Created), weightsText(i.Weights), i.Machine, i.Public)
	if err != nil {
		return i, err
	}
	return i, t.instanceEvent(ctx, "instance", i)
}

// weightsText is never null, which the column is not either.
func weightsText(w map[string]int) string {
	if len(w) == 0 {
		return "{}"
	}
	return text(w)
}

// WeighInstance stores an instance's weights. SaveInstance leaves them alone,
// because it is called with rows that were read a while ago.
func (t *Tx) WeighInstance(ctx context.Context, i Instance) error {
	n, err := t.exec(ctx, `UPDATE instance SET weights = ?1 WHERE id = ?2 AND weights <> ?1`, weightsText(i.Weights), i.ID)
	if err != nil || n == 0 {
		return err
	}
	t.Bump(i.Application)
	return t.instanceEvent(ctx, "instance", i)
}

// PublishInstance stores the address by which people outside reach an
// instance. Its service is told of, too, whose URLs are others now. SaveInstance
// leaves it alone, as it does weights.
func (t *Tx) PublishInstance(ctx context.Context, i Instance) error {
	n, err := t.exec(ctx, `UPDATE instance SET public = ?1 WHERE id = ?2 AND public <> ?1`, i.Public, i.ID)
	if err != nil || n == 0 {
		return err
	}
	if err := t.instanceEvent(ctx, "instance", i); err != nil || i.Service == 0 {
		return err
	}
	t.touched[serviceKey{i.Application, i.Service}] = true
	return t.Tell(ctx, i.Application, i.Service)
}

// SaveInstance stores a changed instance, unless it is as before.
func (t *Tx) SaveInstance(ctx context.Context, i Instance) error {
	parts := text(i.Parts)
	n, err := t.exec(ctx, `UPDATE instance SET cloud_id = ?1, address = ?2, parts = ?3, state = ?4, reason = ?5, machine = ?7 WHERE id = ?6
		AND (cloud_id <> ?1 OR address <> ?2 OR parts <> ?3 OR state <> ?4 OR reason <> ?5 OR machine <> ?7)`, i.CloudID, i.Address, parts, i.State, i.Reason, i.ID, i.Machine)
	if err != nil || n == 0 {
		return err
	}
	return t.instanceEvent(ctx, "instance", i)
}

// DeleteInstance forgets an instance that is gone. From then on its
// certificate is refused, and so are secrets that were made for it.
func (t *Tx) DeleteInstance(ctx context.Context, i Instance) error {
	n, err := t.exec(ctx, `DELETE FROM instance WHERE id = ?`, i.ID)
	if err != nil || n == 0 {
		return err
	}
	if err := t.freeVolumes(ctx, i.ID); err != nil {
		return err
	}
	if _, err := t.exec(ctx, `DELETE FROM secret WHERE used = 0 AND identity LIKE ? ESCAPE '\'`, `%/`+i.ID); err != nil {
		return err
	}
	return t.instanceEvent(ctx, "instance.deleted", i)
}

func (t *Tx) instanceEvent(ctx context.Context, typ string, i Instance) error {
	owner, err := t.owner(ctx, i.Application)
	if err != nil {
		return err
	}
	return t.event(ctx, typ, owner, i.Application, i.Service, i.ID, i.Instance)
}

// InsertSecret stores the hash of a single-use secret with which its holder
// may become identity and nothing else.
func (t *Tx) InsertSecret(ctx context.Context, hash string, identity api.Identity, expires time.Time) error {
	// Used and expired ones are kept for a day, so that a replay is told from nonsense.
	if _, err := t.exec(ctx, `DELETE FROM secret WHERE expires < ?`, micros(t.now.Add(-24*time.Hour))); err != nil {
		return err
	}
	_, err := t.exec(ctx, `INSERT INTO secret (hash, identity, expires) VALUES (?, ?, ?)`, hash, identity.String(), micros(expires))
	return err
}

// Errors of ConsumeSecret, told apart in the log but not to the asker.
var (
	ErrSecretUnknown = errors.New("unknown secret")
	ErrSecretUsed    = errors.New("the secret was used before")
	ErrSecretExpired = errors.New("the secret has expired")
)

// ConsumeSecret uses up a secret for a public key and tells which identity it
// was for. Of two who try at once, one gets it. The same key may ask again
// until the secret expires, because the answer may have been lost; it gains
// nothing that it has not got already.
func (t *Tx) ConsumeSecret(ctx context.Context, hash, key string) (string, error) {
	var identity string
	err := t.tx.QueryRowContext(ctx, `UPDATE secret SET used = ?1, key = ?3 WHERE hash = ?2 AND (used = 0 OR key = ?3) AND expires > ?1 RETURNING identity`,
		micros(t.now), hash, key).Scan(&identity)
	if !errors.Is(err, sql.ErrNoRows) {
		return identity, err
	}
	var used int64
	err = t.tx.QueryRowContext(ctx, `SELECT identity, used FROM secret WHERE hash = ?`, hash).Scan(&identity, &used)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", ErrSecretUnknown
	case err != nil:
		return "", err
	case used != 0:
		return identity, ErrSecretUsed
	}
	return identity, ErrSecretExpired
}
