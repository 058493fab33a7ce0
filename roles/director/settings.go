package director

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/config"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// changedHere is the origin of a value that an administrator changed here.
const changedHere = "here"

// settings shows the whole configuration, with where each value came from.
func (d *Director) settings(ctx context.Context, _ *struct{}) ([]api.SystemSetting, error) {
	defaults, err := config.Load(config.Sources{})
	if err != nil {
		return nil, err
	}
	byDefault := map[string]config.Entry{}
	for _, e := range defaults.Show() {
		byDefault[e.Key] = e
	}
	rows, err := d.store.Settings(ctx)
	if err != nil {
		return nil, err
	}
	entries := d.c.Settings
	if entries == nil {
		entries = defaults.Show()
	}
	list := []api.SystemSetting{}
	for _, e := range entries {
		if strings.HasPrefix(e.Key, "client.") || strings.HasPrefix(e.Key, "node.") {
			continue // of the command line and of nodes, not of the director
		}
		s := api.SystemSetting{Key: e.Key, Value: e.Value, Origin: e.Origin, Default: byDefault[e.Key].Value, Help: cmp.Or(e.Help, byDefault[e.Key].Help), Kind: api.SettingText}
		if i := slices.IndexFunc(tunables(), func(t tunable) bool { return t.key == e.Key }); i >= 0 {
			s.Kind, s.Changeable = tunables()[i].kind, e.Origin == "default"
			s.Choices = choices(e.Key)
		}
		if i := slices.IndexFunc(rows, func(r store.Setting) bool { return r.Key == e.Key }); i >= 0 && s.Changeable {
			s.Value, s.Origin, s.By, s.Changed = rows[i].Value, changedHere, rows[i].By, &rows[i].Changed
		}
		list = append(list, s)
	}
	return list, nil
}

func choices(key string) []string {
	if key == "credit.enforce" {
		return []string{EnforceUsers, EnforceEverybody, EnforceNobody}
	}
	return nil
}

// changeSettings checks all before it changes any.
func (d *Director) changeSettings(ctx context.Context, in *struct{ Body api.ChangeSystem }) ([]api.SystemSetting, error) {
	if len(in.Body.Set) == 0 {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "change settings", Message: "no setting is named", Fields: []string{"set"}}
	}
	for key, value := range in.Body.Set {
		if err := d.checkSetting(key, value); err != nil {
			return nil, err
		}
	}
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		for key, value := range in.Body.Set {
			if err := t.PutSetting(ctx, store.Setting{Key: key, Value: value, By: httpapi.Who(ctx).User.Name}); err != nil {
				return err
			}
		}
		rows, err := t.Settings(ctx)
		if err != nil {
			return err
		}
		t.After(func() { err = d.retune(rows) })
		return err
	})
	if err != nil {
		return nil, err
	}
	return d.settings(ctx, nil)
}

// longestKey is how much of a key is repeated that cannot be one.
const longestKey = 64

func (d *Director) checkSetting(key, value string) error {
	if len(key) > longestKey {
		key = key[:longestKey]
	}
	refuse := func(code api.Code, message, hint string) error {
		return &api.Error{Code: code, Op: "change", Object: "setting " + key, Message: message, Hint: hint, Fields: []string{key}}
	}
	if !slices.ContainsFunc(tunables(), func(t tunable) bool { return t.key == key }) {
		return refuse(api.CodeInvalid, "it cannot be changed while the director runs", "change it in nutshell.yaml and start the director again; nutshell settings list shows what can be changed here")
	}
	if from := d.fixed(key); from != "" {
		return refuse(api.CodeConflict, "it is fixed by "+from, "change it there, or take it away there first")
	}
	if value == "" {
		return nil
	}
	if list := choices(key); list != nil && !slices.Contains(list, value) {
		return refuse(api.CodeInvalid, fmt.Sprintf("%s is none of %s", api.Shorten(value), strings.Join(list, ", ")), "")
	}
	if _, err := config.Load(config.Sources{Flags: map[string]string{key: value}}); err != nil {
		e := api.AsError(err)
		return refuse(api.CodeInvalid, strings.TrimPrefix(e.Message, key+": "), "")
	}
	return nil
}
