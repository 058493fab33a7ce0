package director

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
)

// Backups that begin by themselves must be in nobody's way, and putting back
// what was wanted before must not undo what was wanted meanwhile.
func TestOthersBeginBesideABackup(t *testing.T) {
	h := newHouse(t)
	h.admin.running("shop")
	var s api.Service
	h.admin.must("POST", "/applications/shop/services", api.CreateService{Kind: "test", Name: "beside"}, &s, 201)
	begin := func(o order) (row store.Operation, err error) {
		err = h.d.write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
			row, err = h.d.begin(ctx, tx, o, 0, "")
			return err
		})
		return row, err
	}
	backup := order{kind: serviceBackup, title: "back up", application: s.Application, service: s.ID, beside: true, actor: "nutshell", request: json.RawMessage(`{}`),
		change: func(context.Context, *store.Tx, *store.Application, *store.Service) (bool, error) { return false, nil }}
	first, err := begin(backup)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := begin(backup); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a second backup at the same time: %v, want a conflict", err)
	}
	path := "/applications/shop/services/beside"
	h.admin.done("POST", path+"/start", nil)
	err = h.d.write(t.Context(), func(ctx context.Context, tx *store.Tx) error {
		row, err := tx.Operation(ctx, 0, first.ID)
		if err != nil {
			return err
		}
		row.State, row.Error = api.OperationFailed, api.AsError(errors.New("broken off"))
		return h.d.settle(ctx, tx, &row)
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := h.admin.service(path); now.Desired != api.GoalStarted || now.State != api.Running {
		t.Errorf("after the backup failed: wanted %s, state %s; want it started as it was asked meanwhile", now.Desired, now.State)
	}
}
