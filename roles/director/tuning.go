package director

import (
	"context"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/config"
	"nutshell/roles/internal/store"
)

// KeepConfig says how long the past is kept. Zero fields get defaults, but a
// zero Bin means that what is deleted is gone at once.
type KeepConfig struct{ Bin, Audit, Operations time.Duration }

func (k KeepConfig) withDefaults() KeepConfig {
	if k.Audit == 0 {
		k.Audit = 90 * 24 * time.Hour
	}
	if k.Operations == 0 {
		k.Operations = 30 * 24 * time.Hour
	}
	return k
}

// tuning is the part of the configuration that administrators may change
// while the director runs. It is never changed, only replaced.
type tuning struct {
	bin, audit, operations time.Duration
	enforce                string
	quota                  api.Quota
	instances              int
	upload                 int64
}

func (d *Director) tune() *tuning { return d.tuned.Load() }

// binKeep is how long what was deleted can be brought back; 0: not at all.
func (d *Director) binKeep() time.Duration { return d.tune().bin }

// tunable is a setting that may be changed while the director runs.
type tunable struct {
	key   string
	kind  string // of api.SystemSetting
	apply func(*tuning, *config.Config)
}

// tunables lists them in the order of the configuration.
func tunables() []tunable {
	return []tunable{
		{"limits.instances_per_application", api.SettingNumber, func(t *tuning, c *config.Config) { t.instances = c.Limits.InstancesPerApplication }},
		{"upload.max_bytes", api.SettingSize, func(t *tuning, c *config.Config) { t.upload = int64(c.Upload.MaxBytes) }},
		{"credit.enforce", api.SettingChoice, func(t *tuning, c *config.Config) { t.enforce = c.Credit.Enforce }},
		{"quota.applications", api.SettingNumber, func(t *tuning, c *config.Config) { t.quota.Applications = c.Quota.Applications }},
		{"quota.instances", api.SettingNumber, func(t *tuning, c *config.Config) { t.quota.Instances = c.Quota.Instances }},
		{"quota.volume_bytes", api.SettingSize, func(t *tuning, c *config.Config) { t.quota.VolumeBytes = int64(c.Quota.VolumeBytes) }},
		{"bin.keep", api.SettingDuration, func(t *tuning, c *config.Config) { t.bin = c.Bin.Keep }},
		{"history.audit", api.SettingDuration, func(t *tuning, c *config.Config) { t.audit = c.History.Audit }},
		{"history.operations", api.SettingDuration, func(t *tuning, c *config.Config) { t.operations = c.History.Operations }},
	}
}

// openSettings makes what administrators have changed count.
func (d *Director) openSettings(ctx context.Context) error {
	rows, err := d.store.Settings(ctx)
	if err != nil {
		return err
	}
	return d.retune(rows)
}

// retune puts the settings of this installation above the built-in defaults.
// What a file, the environment or a flag says counts more.
func (d *Director) retune(rows []store.Setting) error {
	k := d.c.Keep.withDefaults()
	t := &tuning{bin: k.Bin, audit: k.Audit, operations: k.Operations, enforce: d.c.Credit.Enforce, quota: d.c.Credit.Quota,
		instances: d.c.Limits.Instances, upload: d.c.Limits.Upload}
	byKey := map[string]tunable{}
	for _, s := range tunables() {
		byKey[s.key] = s
	}
	for _, r := range rows {
		s, known := byKey[r.Key]
		if !known || d.fixed(r.Key) != "" {
			continue
		}
		c, err := config.Load(config.Sources{Flags: map[string]string{r.Key: r.Value}})
		if err != nil { // stored by a Nutshell that allowed it
			d.c.Log.Warn("setting left out, it cannot be", "key", r.Key, "value", r.Value, "error", err)
			continue
		}
		s.apply(t, c)
	}
	d.tuned.Store(t)
	return nil
}

// fixed says where a value stands that cannot be changed here; empty: it can.
func (d *Director) fixed(key string) string {
	for _, e := range d.c.Settings {
		if e.Key == key && e.Origin != "default" {
			return e.Origin
		}
	}
	return ""
}
