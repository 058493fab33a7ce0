package api

import (
	"encoding/json"
	"time"
)

// CreateApplication asks for a new application.
type CreateApplication struct {
	Name  string `json:"name"`
	Cloud string `json:"cloud,omitempty"` // default: the installation's default cloud
}

// CreateService asks for a new service in an application.
type CreateService struct {
	Kind  string `json:"kind"`
	Name  string `json:"name,omitempty"` // default: the kind's name, with a number where taken
	Cloud string `json:"cloud,omitempty"`
}

// Rename gives an application or service another name.
type Rename struct {
	Name string `json:"name"`
}

// Start starts an application or service.
type Start struct {
	Cloud string `json:"cloud,omitempty"`
}

// Scale changes counts of parts. Add is relative (and may be negative), Set is
// absolute; a part may stand in one of them only. The name "count" stands
// for the kind's usual part.
type Scale struct {
	Add    map[string]int `json:"add,omitempty"`
	Set    map[string]int `json:"set,omitempty"`
	Cloud  string         `json:"cloud,omitempty"`
	Remove []string       `json:"remove,omitempty"` // ids of instances that should go, when counts shrink
}

// Preview is what a scaling would do.
type Preview struct {
	Parts   map[string]int `json:"parts"`   // counts afterwards
	Launch  [][]string     `json:"launch"`  // parts of each instance that would be started
	Leave   []string       `json:"leave"`   // ids of instances that would be terminated
	Change  []string       `json:"change"`  // sentences: which instance changes its parts
	Credits int            `json:"credits"` // more (or less, negative) per hour
}

// Activate makes a code version the wanted one.
type Activate struct {
	Version string `json:"version"`
}

// Act runs an action of a kind.
type Act struct {
	Args map[string]string `json:"args,omitempty"`
}

// ActResult is what an action answered. Text is for people.
type ActResult struct {
	Text   string          `json:"text"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Script is a service's startup script, run in each new instance before its
// agent starts the daemons.
type Script struct {
	Text string `json:"text"`
}

// CreateUser asks for a new user.
type CreateUser struct {
	Name        string `json:"name"`
	Email       string `json:"email"`
	Password    string `json:"password"`
	FirstName   string `json:"first_name,omitempty"`
	LastName    string `json:"last_name,omitempty"`
	Affiliation string `json:"affiliation,omitempty"`
	Admin       bool   `json:"admin,omitempty"`
	Credit      *int64 `json:"credit,omitempty"`
}

// ChangeUser changes a user; nil fields stay. Users change themselves and
// need Current; an admin changes anybody.
type ChangeUser struct {
	Email       *string `json:"email,omitempty"`
	FirstName   *string `json:"first_name,omitempty"`
	LastName    *string `json:"last_name,omitempty"`
	Affiliation *string `json:"affiliation,omitempty"`
	Password    *string `json:"password,omitempty"`
	Current     *string `json:"current,omitempty"`
	Admin       *bool   `json:"admin,omitempty"`
	AddCredit   *int64  `json:"add_credit,omitempty"`
}

// SignIn opens a session.
type SignIn struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	Code     string `json:"code,omitempty"` // of the authenticator app, or a recovery code
}

// Session is an open session. CSRF goes into the header X-CSRF-Token of every
// request that changes something and carries the session cookie.
type Session struct {
	User User   `json:"user"`
	CSRF string `json:"csrf"`
}

// CreateToken asks for an API token.
type CreateToken struct {
	Name  string `json:"name"`
	Scope string `json:"scope,omitempty"` // read or write, default write
	Days  int    `json:"days,omitempty"`  // until it expires, default 90, at most 366
}

// NewToken is a token with its secret, shown this once.
type NewToken struct {
	Token  Token  `json:"token"`
	Secret string `json:"secret"`
}

// Version says what software answers.
type Version struct {
	Version      string    `json:"version"`
	Revision     string    `json:"revision"`
	Go           string    `json:"go"`
	Installation string    `json:"installation"`
	BinarySHA256 string    `json:"binary_sha256"`
	BinSeconds   int64     `json:"bin_seconds"` // for so long what is deleted can be brought back, 0: not at all
	CAExpires    time.Time `json:"ca_expires" doc:"when the first certificate of the installation's authority ends; that of its instances is made anew long before"`
}

// SetMember says what somebody shall be to an application.
type SetMember struct {
	Access Access `json:"access" enum:"viewer,developer,owner"`
}

// HandOver offers an application to a new owner, whose credits and quota it
// then uses.
type HandOver struct {
	User string `json:"user"` // name
	// Stay is what the old owner is from then on; empty: nothing.
	Stay Access `json:"stay,omitempty" enum:"viewer,developer,owner"`
}
