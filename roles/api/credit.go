package api

import "time"

// Account is what a user has and uses. One credit is one started
// instance-hour, managers included.
type Account struct {
	User      string     `json:"user"`
	Credit    int64      `json:"credit"`             // what can still be spent, holds taken off
	Held      int64      `json:"held"`               // for instances that are being started
	PerHour   int64      `json:"per_hour"`           // charged each hour as things are
	Exhausted *time.Time `json:"exhausted,omitzero"` // when the credit is gone as things are; nil: never
	Enforced  bool       `json:"enforced"`           // at zero this user's applications are stopped
	Quota     Quota      `json:"quota"`
	Used      Quota      `json:"used"`
}

// Quota bounds what one user may have at a time; 0: no bound.
type Quota struct {
	Applications int   `json:"applications"`
	Instances    int   `json:"instances"`
	VolumeBytes  int64 `json:"volume_bytes"`
}

// LedgerEntry is one line of a user's ledger, which only grows.
type LedgerEntry struct {
	ID          int64     `json:"id"`
	Time        time.Time `json:"time"`
	Amount      int64     `json:"amount"`  // added (or taken, negative)
	Balance     int64     `json:"balance"` // after it
	Kind        string    `json:"kind"`    // grant, hold, charge, refund
	Reason      string    `json:"reason"`
	Actor       string    `json:"actor"`
	Application int64     `json:"application,omitempty"`
	Service     int64     `json:"service,omitempty"`
	Instance    string    `json:"instance,omitempty"`
}

// Grant gives credits to a user, or takes them.
type Grant struct {
	Amount int64  `json:"amount"`
	Reason string `json:"reason,omitempty"`
}

// Template is a ready-made application.
type Template struct {
	Name     string   `json:"name"`
	Title    string   `json:"title"`
	Summary  string   `json:"summary"`
	Kinds    []string `json:"kinds"`
	Credits  int      `json:"credits"`  // per hour, manager included
	Manifest string   `json:"manifest"` // YAML
	Problem  string   `json:"problem,omitempty"`
}
