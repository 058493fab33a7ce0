package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"nutshell/roles/api"
)

// Operation is an operation with what is put back when it fails.
type Operation struct {
	api.Operation
	User   int64 // owner of the application
	Before json.RawMessage
	Beside bool   // others may begin while it runs: it changes nothing of the service
	Of     string // told apart in how long operations take: the kind of its service, say
}

const operationColumns = `id, kind, title, actor, user, application, service, state, steps, progress, request, error, undone, cancelling, cancellable,
	retry_of, created, started, ended, deadline, before, parent, beside, of, expected`

func scanOperation(r *sql.Rows) (Operation, error) {
	var o Operation
	var steps, request, fault, before string
	var created, started, ended, deadline int64
	err := r.Scan(&o.ID, &o.Kind, &o.Title, &o.Actor, &o.User, &o.Application, &o.Service, &o.State, &steps, &o.Progress, &request, &fault, &o.Undone,
		&o.Cancelling, &o.Cancellable, &o.RetryOf, &created, &started, &ended, &deadline, &before, &o.Parent, &o.Beside, &o.Of, &o.ExpectedMS)
	if err != nil {
		return o, err
	}
	o.Created, o.Deadline = timeOf(created), timeOf(deadline)
	o.Started, o.Ended = optional(started), optional(ended)
	if request != "" {
		o.Request = json.RawMessage(request)
	}
	if before != "" {
		o.Before = json.RawMessage(before)
	}
	if fault != "" {
		o.Error = &api.Error{}
		if err := json.Unmarshal([]byte(fault), o.Error); err != nil {
			return o, err
		}
	}
	o.Steps = []api.Step{}
	return o, json.Unmarshal([]byte(steps), &o.Steps)
}

func optional(us int64) *time.Time {
	if us == 0 {
		return nil
	}
	t := timeOf(us)
	return &t
}

func fromOptional(t *time.Time) int64 {
	if t == nil {
		return 0
	}
	return micros(*t)
}

func (v View) operations(ctx context.Context, where string, args ...any) ([]Operation, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+operationColumns+` FROM operation WHERE `+where, args...)
	return scanAll(rows, err, scanOperation)
}

// Filter chooses operations. Zero fields choose all.
type Filter struct {
	User        int64 // who may see them
	Active      bool
	Application int64
	Service     *int64
	State       api.OperationState
	Kind        string // whole, or what stands before its dot
	Actor       string
	Parent      string
	Before      string // id: only older ones
	Limit       int
}

// Operations lists operations, newest first.
func (v View) Operations(ctx context.Context, f Filter) ([]Operation, error) {
	service := int64(-1)
	if f.Service != nil {
		service = *f.Service
	}
	if f.Limit <= 0 || f.Limit > 1000 {
		f.Limit = 100
	}
	return v.operations(ctx, `(?1 = 0 OR user = ?1 OR `+visible+`) AND (?2 = 0 OR state IN ('pending', 'running')) AND (?3 = 0 OR application = ?3)
		AND (?4 < 0 OR service = ?4) AND (?6 = '' OR state = ?6) AND (?7 = '' OR kind = ?7 OR kind LIKE ?7 || '.%') AND (?8 = '' OR actor = ?8) AND (?9 = '' OR parent = ?9)
		AND (?10 = '' OR seq < coalesce((SELECT seq FROM operation WHERE id = ?10), 0)) ORDER BY seq DESC LIMIT ?5`,
		f.User, f.Active, f.Application, service, f.Limit, f.State, f.Kind, f.Actor, f.Parent, f.Before)
}

// usualOf is how many operations tell how long the next one takes.
const usualOf = 15

// usual is the median of how long the last operations of a kind took that were
// not done at once, in milliseconds.
func (v View) usual(ctx context.Context, kind, of string) (int64, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT (ended - created) / 1000 FROM operation WHERE kind = ? AND of = ? AND state = 'done' AND ended > created ORDER BY seq DESC LIMIT ?`, kind, of, usualOf)
	took, err := scanAll(rows, err, func(r *sql.Rows) (int64, error) {
		var ms int64
		return ms, r.Scan(&ms)
	})
	if err != nil || len(took) == 0 {
		return 0, err
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// ActiveOperations lists all operations that have not ended, oldest first.
func (v View) ActiveOperations(ctx context.Context) ([]Operation, error) {
	return v.operations(ctx, `state IN ('pending', 'running') ORDER BY seq`)
}

// OperationCounts says how many operations there are in each state, of those
// that are kept.
func (v View) OperationCounts(ctx context.Context) (map[api.OperationState]int, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT state, count(*) FROM operation GROUP BY state`)
	counts := map[api.OperationState]int{}
	_, err = scanAll(rows, err, func(r *sql.Rows) (struct{}, error) {
		var state api.OperationState
		var n int
		err := r.Scan(&state, &n)
		counts[state] = n
		return struct{}{}, err
	})
	return counts, err
}

// Operation finds an operation that a user may see (0: anybody's).
func (v View) Operation(ctx context.Context, user int64, id string) (Operation, error) {
	found, err := v.operations(ctx, `id = ?2 AND (?1 = 0 OR user = ?1 OR `+visible+`)`, user, id)
	return one(found, err, func() error { return api.NotFoundf("there is no operation %s", api.Shorten(id)) })
}

// Active is the operation under way on a service (0: on the application
// itself), nil if there is none.
func (v View) Active(ctx context.Context, application, service int64) (*Operation, error) {
	found, err := v.operations(ctx, `application = ? AND service = ? AND NOT beside AND state IN ('pending', 'running')`, application, service)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// active maps application and service to the id of the operation under way.
func (v View) active(ctx context.Context) (map[[2]int64]string, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT id, application, service FROM operation WHERE NOT beside AND state IN ('pending', 'running')`)
	m := map[[2]int64]string{}
	_, err = scanAll(rows, err, func(r *sql.Rows) (struct{}, error) {
		var id string
		var key [2]int64
		err := r.Scan(&id, &key[0], &key[1])
		m[key] = id
		return struct{}{}, err
	})
	return m, err
}

// Repeated finds the operation that the same user asked for with the same
// idempotency key, nil if there is none.
func (v View) Repeated(ctx context.Context, user int64, key string) (*Operation, error) {
	found, err := v.operations(ctx, `id = (SELECT operation FROM idempotency WHERE user = ? AND key = ?)`, user, key)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// InsertOperation stores an operation before it begins. Another one under way
// on the same service is a conflict that names it.
func (t *Tx) InsertOperation(ctx context.Context, o Operation, by int64, key string) (Operation, error) {
	o.Created = t.now
	if o.Steps == nil {
		o.Steps = []api.Step{}
	}
	first, err := t.Active(ctx, o.Application, o.Service)
	if err != nil {
		return o, err
	}
	if first != nil && !o.State.Final() {
		return o, Busy(o.Title, *first)
	}
	if o.ExpectedMS, err = t.usual(ctx, o.Kind, o.Of); err != nil {
		return o, err
	}
	_, err = t.exec(ctx, `INSERT INTO operation (`+operationColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		o.ID, o.Kind, o.Title, o.Actor, o.User, o.Application, o.Service, o.State, text(o.Steps), o.Progress, string(o.Request), o.Cancellable,
		o.RetryOf, micros(o.Created), fromOptional(o.Started), fromOptional(o.Ended), micros(o.Deadline), string(o.Before), o.Parent, o.Beside, o.Of, o.ExpectedMS)
	if err != nil {
		return o, err
	}
	if key != "" {
		if _, err := t.exec(ctx, `INSERT INTO idempotency (user, key, operation, created) VALUES (?, ?, ?, ?)`, by, key, o.ID, micros(t.now)); err != nil {
			return o, err
		}
	}
	return o, t.operationEvent(ctx, o)
}

// Busy says that an operation is in the way of another.
func Busy(title string, first Operation) error {
	return &api.Error{Code: api.CodeConflict, Op: title, Message: "another operation is under way: " + first.Title, Related: first.ID,
		Hint: "wait until operation " + first.ID + " has ended, or cancel it"}
}

// SaveOperation stores how far an operation is. One that has ended stays as
// it is, and saving it is a conflict.
func (t *Tx) SaveOperation(ctx context.Context, o Operation) error {
	fault := ""
	if o.Error != nil {
		fault = text(o.Error)
	}
	n, err := t.exec(ctx, `UPDATE operation SET state = ?, steps = ?, progress = ?, error = ?, undone = ?, cancelling = ?, cancellable = ?, started = ?, ended = ?,
		before = ? WHERE id = ? AND state IN ('pending', 'running')`, o.State, text(o.Steps), o.Progress, fault, o.Undone, o.Cancelling, o.Cancellable,
		fromOptional(o.Started), fromOptional(o.Ended), string(o.Before), o.ID)
	if err != nil {
		return err
	}
	if n == 0 {
		return &api.Error{Code: api.CodeConflict, Object: "operation " + o.ID, Message: "it has ended already"}
	}
	return t.operationEvent(ctx, o)
}

// SetDeadline moves the time by which an operation must have ended.
func (t *Tx) SetDeadline(ctx context.Context, id string, at time.Time) error {
	_, err := t.exec(ctx, `UPDATE operation SET deadline = ? WHERE id = ?`, micros(at), id)
	return err
}

func (t *Tx) operationEvent(ctx context.Context, o Operation) error {
	return t.event(ctx, "operation", o.User, o.Application, o.Service, o.ID, o.Operation)
}
