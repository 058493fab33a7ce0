package api

import "time"

// Revision is one change of what a service is asked to be.
type Revision struct {
	Number  int64            `json:"number"`
	Time    time.Time        `json:"time"`
	By      string           `json:"by"`      // empty: nobody, it began so
	Why     string           `json:"why"`     // the operation's title, for people
	Changes []RevisionChange `json:"changes"` // from the revision before
}

// RevisionChange is one thing that a revision changed.
type RevisionChange struct {
	What   string `json:"what"` // settings, environment, script, parts
	Name   string `json:"name"` // of the setting, variable or part
	From   string `json:"from"` // JSON of settings, text of the others; empty: it was not there
	To     string `json:"to"`   // empty: it is not there any more
	Secret bool   `json:"secret,omitempty"`
}
