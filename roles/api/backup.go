package api

import "time"

// BackupPolicy says when a service is backed up on its own and how long that
// is kept. Its kind reads it from the service's settings.
type BackupPolicy struct {
	Every time.Duration `json:"every"` // 0: only when somebody asks
	Keep  int           `json:"keep"`  // newest scheduled backups that stay; what users asked for stays until they delete it
	// Log is how often changes since the last backup are fetched, so that any
	// moment can be restored; 0: never.
	Log    time.Duration `json:"log"`
	Verify bool          `json:"verify"` // each scheduled backup is restored on trial
}

// Backup is a copy of a service's data, kept by the director, encrypted. It
// stays when its service is deleted, until its owner deletes it.
type Backup struct {
	ID              string      `json:"id"`
	Application     int64       `json:"application"`
	Service         int64       `json:"service"`
	ApplicationName string      `json:"application_name"` // as they were called
	ServiceName     string      `json:"service_name"`
	Kind            string      `json:"kind"` // of the service
	Why             string      `json:"why"`  // scheduled, asked, last (before a deletion)
	State           BackupState `json:"state"`
	Problem         string      `json:"problem,omitempty"`
	Bytes           int64       `json:"bytes"`              // as stored
	Taken           time.Time   `json:"taken"`              // the moment whose data it has
	Until           time.Time   `json:"until,omitzero"`     // any moment from Taken to here can be restored
	Verified        time.Time   `json:"verified,omitzero"`  // when it was last restored on trial
	Finding         string      `json:"finding,omitempty"`  // what the trial found, for people
	Position        string      `json:"position,omitempty"` // of the kind, where changes after it begin
	Operation       string      `json:"operation,omitempty"`
}

// BackupState is the condition of a backup.
type BackupState string

// The states of a backup.
const (
	BackupTaking BackupState = "taking"
	BackupReady  BackupState = "ready"
	BackupBroken BackupState = "error" // see Problem; it is of no use
)

// CreateBackup asks for a backup now.
type CreateBackup struct {
	Verify bool `json:"verify,omitempty"` // restore it on trial afterwards
}

// RestoreBackup puts a service's data back, which loses what it has now.
type RestoreBackup struct {
	Backup string     `json:"backup"`
	At     *time.Time `json:"at,omitempty"` // a moment between the backup's Taken and Until; nil: Taken
	// New makes a service of this name from the backup beside the others and
	// changes no other; empty: the service itself is put back.
	New string `json:"new,omitempty"`
}

// Secret is something that a kind's services need and that nobody shall see
// but their own instances: a first password, for example.
type Secret struct {
	Name    string    `json:"name"`
	Title   string    `json:"title"`
	Help    string    `json:"help"`
	Own     bool      `json:"own"`   // users may show it once and change it; others are Nutshell's own
	Shown   bool      `json:"shown"` // nobody can have it shown again; set another
	Changed time.Time `json:"changed,omitzero"`
}

// SetSecret changes a secret; an empty value asks for a random one.
type SetSecret struct {
	Value string `json:"value,omitempty"`
}

// Shown is a secret's value, told this once.
type Shown struct {
	Value string `json:"value"`
}

// Offer is a value that services of a kind offer to their siblings. They get
// it as the environment variable SERVICE_NAME, in upper case.
type Offer struct {
	Name   string `json:"name"` // host, port, user, password, url, …
	Help   string `json:"help"`
	Secret bool   `json:"secret"`
}

// Binding is what one service offers to another of its application.
type Binding struct {
	Service string            `json:"service"` // the name of the one that offers
	Kind    string            `json:"kind"`
	Values  map[string]string `json:"values"` // by the names of the kind's offers; people get secrets empty
}

// Bindings is what a service gets from its siblings and offers to them.
type Bindings struct {
	Offers Binding   `json:"offers"`
	Gets   []Binding `json:"gets"`
	// Variables are those that its instances have of it; people get secrets empty.
	Variables []Variable `json:"variables"`
}
