package director

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/operation"
	"nutshell/roles/internal/store"
)

// Kinds of operations.
const (
	applicationStart  = "application.start"
	applicationStop   = "application.stop"
	applicationDelete = "application.delete"
	applicationRetire = "application.retire" // last backups, then deletion

	applicationManifest = "application.manifest"

	instanceReplace    = "instance.replace" // of a lost manager
	serviceStart       = "service.start"
	serviceStop        = "service.stop"
	serviceScale       = "service.scale"
	serviceConfigure   = "service.configure"
	serviceActivate    = "service.activate"
	serviceDelete      = "service.delete"
	serviceEnvironment = "service.environment"
	serviceWeights     = "service.weights"
	serviceStream      = "service.stream"
	serviceSecret      = "service.secret"
	serviceVolume      = "service.volume"
	serviceBackup      = "service.backup"
	serviceVerify      = "service.verify"
	serviceRestore     = "service.restore"
	serviceRetire      = "service.retire" // a last backup, then deletion
	// serviceMove and nodeDrain are in nodedrain.go.
	serviceRevert = "service.revert" // settings, environment and script as an earlier revision has them
)

// limits of whole operations. The first start of a kind builds its image.
var operationLimits = map[string]time.Duration{
	applicationStart: 20 * time.Minute, applicationStop: 5 * time.Minute, applicationDelete: 5 * time.Minute, applicationRetire: 2 * copying, applicationManifest: 2 * time.Hour, instanceReplace: 10 * time.Minute,
	serviceStart: 20 * time.Minute, serviceStop: 5 * time.Minute, serviceScale: 20 * time.Minute, serviceConfigure: 10 * time.Minute,
	serviceActivate: 10 * time.Minute, serviceDelete: 5 * time.Minute, serviceEnvironment: 10 * time.Minute, serviceWeights: 5 * time.Minute, serviceStream: streaming,
	serviceSecret: 10 * time.Minute, serviceMove: 20 * time.Minute, serviceRevert: 10 * time.Minute, serviceVolume: 40 * time.Minute, serviceBackup: copying, serviceVerify: copying, serviceRestore: 2 * copying, serviceRetire: copying,
}

// snapshot is what a service was asked to be before an operation, and is put
// back when the operation fails.
type snapshot struct {
	Desired  api.Goal        `json:"desired"`
	Cloud    string          `json:"cloud"`
	Parts    map[string]int  `json:"parts"`
	Settings json.RawMessage `json:"settings"`
	Version  string          `json:"version"`
	Previous string          `json:"previous"`
	State    api.State       `json:"state"`
	// Environment has sealed text in the place of secrets' values.
	Environment []api.Variable            `json:"environment,omitempty"`
	Weights     map[string]map[string]int `json:"weights,omitempty"` // of a change of weights only
	Secrets     []store.Secret            `json:"secrets,omitempty"` // sealed; of a change of secrets only
	Sealed      string                    `json:"sealed,omitempty"`  // order.sealed
}

func snapshotOf(s store.Service, sealed string, weights map[string]map[string]int, secrets []store.Secret) json.RawMessage {
	b, err := json.Marshal(snapshot{s.Desired, s.Cloud, s.Parts, s.Settings, s.Version, s.Previous, s.State, s.Environment, weights, secrets, sealed})
	if err != nil {
		panic("director: " + err.Error()) // a bug: rows are always JSON
	}
	return b
}

// order is a change that somebody asks for.
type order struct {
	kind        string
	title       string // what is done; the name of what it is done to is added when it is stored
	application int64
	service     int64 // 0: the application itself
	request     any
	retryOf     string
	sealed      string // what request leaves out because it is nobody's business, to be tried again
	final       bool   // it cannot be cancelled
	parent      string // the operation that it is a part of
	beside      bool   // it changes nothing of the service, so others may begin while it runs
	actor       string
	sort        string  // told apart in how long operations take, beside kind and the service's kind
	expect      *expect // what its asker had seen; may be nil
	// change makes the change in the rows and says whether it is done with
	// that, so that nobody has to carry it out.
	change func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (done bool, err error)
}

// submit stores an operation and the change that begins it in one
// transaction. The same idempotency key answers the same operation.
func (d *Director) submit(ctx context.Context, o order) (api.Operation, error) {
	p, key := httpapi.Who(ctx), httpapi.IdempotencyKey(ctx)
	if o.actor == "" {
		o.actor = p.User.Name
	}
	if o.parent == "" {
		o.parent = parentOf(ctx)
	}
	var row store.Operation
	var old bool
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if key != "" && p.User.ID != 0 {
			first, err := t.Repeated(ctx, p.User.ID, key)
			if err != nil {
				return err
			}
			if first != nil {
				if first.Kind != o.kind || first.Application != o.application || first.Service != o.service {
					return &api.Error{Code: api.CodeConflict, Op: o.title, Message: "this Idempotency-Key was used for another request", Related: first.ID}
				}
				row, old = *first, true
				return nil
			}
		}
		var err error
		row, err = d.begin(ctx, t, o, p.User.ID, key)
		return err
	})
	if err != nil {
		return api.Operation{}, err
	}
	if !old && !row.State.Final() && d.carries(row) {
		d.run(row) //nolint:contextcheck // it goes on when the asker has gone
	}
	return row.Operation, nil
}

// begin stores the operation first, so that events of the change name it.
func (d *Director) begin(ctx context.Context, t *store.Tx, o order, by int64, key string) (store.Operation, error) {
	a, err := t.ApplicationByID(ctx, o.application)
	if err != nil {
		return store.Operation{}, err
	}
	o.title += " " + a.Name
	var s store.Service
	if o.service != 0 {
		if s, err = t.ServiceByID(ctx, o.application, o.service); err != nil {
			return store.Operation{}, err
		}
		o.title += "/" + s.Name
	}
	if err := d.inTheWay(ctx, t, o); err != nil {
		return store.Operation{}, err
	}
	row := store.Operation{User: a.OwnerID, Beside: o.beside, Of: strings.TrimSpace(s.Kind + " " + o.sort), Operation: api.Operation{ID: api.NewID(12), Kind: o.kind, Title: o.title, Actor: o.actor, Application: o.application,
		Service: o.service, State: api.OperationPending, Cancellable: !o.final, RetryOf: o.retryOf, Parent: o.parent, Deadline: t.Now().Add(operationLimits[o.kind])}}
	if o.request != nil {
		if row.Request, err = json.Marshal(o.request); err != nil {
			return row, err
		}
	}
	if o.kind == serviceDelete || o.kind == serviceRetire || o.kind == applicationDelete || o.kind == applicationRetire { // whoever asked shall see what went with it
		names, err := doomed(ctx, t, o.application, o.service)
		if err != nil {
			return row, err
		}
		if len(names) > 0 {
			if row.Request, err = withVolumes(row.Request, names); err != nil {
				return row, err
			}
		}
	}
	if o.service != 0 {
		var weights map[string]map[string]int
		if o.kind == serviceWeights {
			rows, err := t.ServiceInstances(ctx, o.application, o.service)
			if err != nil {
				return row, err
			}
			weights = weightsOf(rows)
		}
		var secrets []store.Secret
		if o.kind == serviceSecret {
			if secrets, err = t.Secrets(ctx, o.application, o.service); err != nil {
				return row, err
			}
		}
		row.Before = snapshotOf(s, o.sealed, weights, secrets)
	}
	if row, err = t.InsertOperation(ctx, row, by, key); err != nil {
		return row, err
	}
	t.Because(because(row))
	t.By(o.actor, o.title)
	if err := o.unchanged(ctx, t, s); err != nil {
		return row, err
	}
	done, err := o.change(ctx, t, &a, &s)
	if err != nil {
		return row, err
	}
	if !done {
		return row, d.holdFor(ctx, t, o, a, s)
	}
	now := t.Now()
	row.State, row.Progress, row.Started, row.Ended, row.Cancellable = api.OperationDone, 1, &now, &now, false
	if err := t.SaveOperation(ctx, row); err != nil {
		return row, err
	}
	return row, t.Tell(ctx, row.Application, row.Service) // the change was told with the operation still on it
}

// because says in the history what changed a state, and who asked for that.
func because(o store.Operation) string {
	if o.State.Final() && o.State != api.OperationDone {
		return "by " + o.Actor // the reason names the operation
	}
	return o.Title + ", by " + o.Actor
}

// inTheWay refuses an operation on an application while one of its services
// is being changed, and the other way round.
func (d *Director) inTheWay(ctx context.Context, t *store.Tx, o order) error {
	active, err := t.Operations(ctx, store.Filter{Active: true, Application: o.application, Limit: 1000})
	if err != nil {
		return err
	}
	for _, other := range active {
		if other.ID == o.parent || other.Beside && !o.beside {
			continue
		}
		if o.service == 0 || other.Service == 0 || other.Service == o.service {
			if o.service != 0 && other.Kind == instanceReplace || other.Service != 0 && o.kind == instanceReplace {
				continue // a lost manager comes back and then finds its work
			}
			return store.Busy(o.title, other)
		}
	}
	return nil
}

// settle makes the rows fit an operation that has just ended, in the
// transaction that ends it.
func (d *Director) settle(ctx context.Context, t *store.Tx, o *store.Operation) error {
	if err := d.settleRows(ctx, t, o); err != nil {
		return err
	}
	return d.releaseIdle(ctx, t, o.Application, o.Service)
}

func (d *Director) settleRows(ctx context.Context, t *store.Tx, o *store.Operation) error {
	now := t.Now()
	o.Ended, o.Cancellable, o.Cancelling = &now, false, false
	t.Because(because(*o))
	t.By(o.Actor, "put back: "+o.Title)
	d.live.annotate(o.ID, "", 0)
	if o.Error != nil {
		o.Error = api.AsError(o.Error)
		if o.Error.Code == "" {
			o.Error.Code = api.CodeInternal
		}
	}
	if o.Beside {
		return t.SaveOperation(ctx, *o)
	}
	if o.Service == 0 {
		return d.settleApplication(ctx, t, o)
	}
	s, err := t.ServiceByID(ctx, o.Application, o.Service)
	if err != nil {
		if api.CodeOf(err) == api.CodeNotFound {
			return t.SaveOperation(ctx, *o)
		}
		return err
	}
	if o.Kind == serviceVolume || o.Kind == serviceStream { // it changed what the service keeps; the service is as it was
		if err := t.SaveOperation(ctx, *o); err != nil {
			return err
		}
		return t.Tell(ctx, s.Application, s.ID)
	}
	var state api.State
	var reason string
	if o.State == api.OperationDone {
		reason = "serves"
		state = map[string]api.State{serviceStart: api.Running, serviceStop: api.Stopped, serviceScale: api.Running, serviceConfigure: api.Running,
			serviceActivate: api.Running, serviceEnvironment: api.Running, serviceWeights: api.Running, serviceSecret: api.Running, serviceRestore: api.Running, serviceRevert: api.Running, serviceMove: api.Running}[o.Kind]
		if s.Desired == api.GoalStopped {
			state, reason = api.Stopped, "stopped"
		}
	} else {
		state, reason, err = d.restore(ctx, t, &s, o)
		if err != nil {
			return err
		}
	}
	s.Remove = []string{}
	if err := t.SaveOperation(ctx, *o); err != nil {
		return err
	}
	if (o.Kind == serviceDelete || o.Kind == serviceRetire) && o.State == api.OperationDone {
		return d.discardService(ctx, t, s, forGood(*o))
	}
	if err := t.SaveService(ctx, s); err != nil {
		return err
	}
	if err := d.retain(ctx, t, s); err != nil { // uploads during the operation deleted none
		return err
	}
	if _, err := s.State.To(state); err != nil && s.State != state {
		return nil // what the manager observes next decides
	}
	return t.MoveService(ctx, &s, state, reason)
}

// restore puts back what a failed operation had changed.
func (d *Director) restore(ctx context.Context, t *store.Tx, s *store.Service, o *store.Operation) (api.State, string, error) {
	var b snapshot
	if err := json.Unmarshal(o.Before, &b); err != nil {
		return "", "", fmt.Errorf("operation %s: %w", o.ID, err)
	}
	s.Desired, s.Cloud, s.Parts, s.Settings, s.Version, s.Previous, s.Environment, s.Deleting = b.Desired, b.Cloud, b.Parts, b.Settings, b.Version, b.Previous, b.Environment, false
	if err := restoreWeights(ctx, t, *s, b.Weights); err != nil {
		return "", "", err
	}
	if err := restoreSecrets(ctx, t, *s, b.Secrets); err != nil {
		return "", "", err
	}
	if o.Undone != "" {
		o.Undone += "; "
	}
	o.Undone += "the service is wanted as it was before: " + string(s.Desired)
	cause := "cancelled: " + o.Title
	if o.State == api.OperationFailed {
		cause = "failed: " + o.Title
		if o.Error != nil {
			cause += ": " + o.Error.Error()
		}
		if o.Kind == serviceStart || b.State == api.Failed {
			return api.Failed, cause, nil
		}
	}
	return s.State, cause, nil
}

// saveRun keeps what an operation that runs here reports.
func (d *Director) saveRun(id string) operation.Save {
	return func(ctx context.Context, r api.OperationReport) (bool, error) {
		cancelling := false
		err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
			o, err := t.Operation(ctx, 0, id)
			if err != nil {
				return err
			}
			cancelling = o.Cancelling || o.State.Final()
			if o.State.Final() {
				return nil
			}
			return d.take(ctx, t, o, r)
		})
		return cancelling, err
	}
}

// take stores a report on an operation that has not ended, whoever runs it.
func (d *Director) take(ctx context.Context, t *store.Tx, o store.Operation, r api.OperationReport) error {
	if o.Started == nil {
		now := t.Now()
		o.Started = &now
	}
	o.State, o.Error, o.Undone = r.State, r.Error, r.Undone
	o.Steps, o.Progress = r.Steps, max(o.Progress, min(r.Progress, 1))
	if o.Steps == nil {
		o.Steps = []api.Step{}
	}
	d.addNote(&o)
	if r.State.Final() {
		if r.State == api.OperationDone {
			o.Progress = 1
		}
		return d.settle(ctx, t, &o)
	}
	return t.SaveOperation(ctx, o)
}

// addNote tells in the running step what the director does for it.
func (d *Director) addNote(o *store.Operation) {
	n, ok := d.live.note(o.ID)
	if !ok || o.State.Final() {
		return
	}
	detail := fmt.Sprintf("%s (%d %%)", n.text, int(n.fraction*100))
	if last := len(o.Steps) - 1; last >= 0 && !o.Steps[last].State.Final() {
		o.Steps[last].Detail = detail
		return
	}
	now := d.c.Now().UTC()
	o.Steps = append(o.Steps, api.Step{Name: "prepare the image", State: api.OperationRunning, Detail: detail, Started: &now})
}
