package mysql

import (
	"encoding/json"
	"time"

	"nutshell/roles/api"
)

const logEvery = time.Minute

// backupPolicy reads from settings when a service is backed up on its own.
func backupPolicy(raw json.RawMessage) (api.BackupPolicy, error) {
	s, err := parseSettings(raw)
	if err != nil {
		return api.BackupPolicy{}, err
	}
	p := api.BackupPolicy{Keep: s.BackupKeep, Verify: s.BackupVerify}
	if s.BackupEvery == "off" {
		return p, nil
	}
	if p.Every, err = time.ParseDuration(s.BackupEvery); err != nil {
		return p, invalid("backup_every", "%s is no time", api.Shorten(s.BackupEvery))
	}
	if s.BackupLog {
		p.Log = logEvery
	}
	return p, nil
}
