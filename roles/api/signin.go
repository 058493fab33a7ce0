package api

import (
	"encoding/json"
	"time"
)

// Factors is what a user can prove by who they are, beside the password.
type Factors struct {
	TOTP     *TOTP     `json:"totp,omitempty"` // missing: no second factor is asked for
	Passkeys []Passkey `json:"passkeys"`
	// PasskeyHost is the name that a passkey made now is for; empty where the
	// browser came by an address, for which there are none.
	PasskeyHost string `json:"passkey_host"`
	// PasskeyProblem says why there are none here, and what to do.
	PasskeyProblem string `json:"passkey_problem,omitempty"`
}

// TOTP is a second factor that is on: codes of an authenticator app.
type TOTP struct {
	Since    time.Time `json:"since"`
	Recovery int       `json:"recovery"` // codes for the day the app is lost that are not used yet
}

// NewTOTP is a second factor that is being set up. It is on when a code of it
// was sent back.
type NewTOTP struct {
	Secret string `json:"secret"` // base32, for those who type it
	URI    string `json:"uri"`    // otpauth://…
	QR     QR     `json:"qr"`     // of the URI
}

// QR is a QR code to be drawn: the path of an SVG, one unit for each module.
type QR struct {
	Size int    `json:"size"` // modules on each side, without a quiet zone
	Path string `json:"path"`
}

// OneTimeCode is a code of an authenticator app.
type OneTimeCode struct {
	Code string `json:"code"`
}

// RecoveryCodes let in without the authenticator app, each once. They are
// shown when they are made and never again.
type RecoveryCodes struct {
	Codes []string `json:"codes"`
}

// Passkey is a key in somebody's device that signs in without a password.
type Passkey struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Host    string    `json:"host"`   // the name of Nutshell that it is for
	Synced  bool      `json:"synced"` // it is kept by more than one device
	Created time.Time `json:"created"`
	Used    time.Time `json:"used,omitzero"`
}

// Ceremony is what a browser needs to make or use a passkey. Its answer comes
// back with the id, within minutes, and once.
type Ceremony struct {
	ID      string          `json:"id"`
	Options json.RawMessage `json:"options"` // for navigator.credentials
}

// AddPasskey is the answer of a browser that made a passkey.
type AddPasskey struct {
	Ceremony   string          `json:"ceremony"`
	Name       string          `json:"name,omitempty"`
	Credential json.RawMessage `json:"credential"`
}

// UsePasskey is the answer of a browser that used a passkey.
type UsePasskey struct {
	Ceremony   string          `json:"ceremony"`
	Credential json.RawMessage `json:"credential"`
}

// Proof shows again who is asking, before something that matters: by the
// password or a passkey.
type Proof struct {
	Password string      `json:"password,omitempty"`
	Passkey  *UsePasskey `json:"passkey,omitempty"`
}

// OpenSession is one place where a user is signed in.
type OpenSession struct {
	ID      string    `json:"id"`
	This    bool      `json:"this"` // the one that asks
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Seen    time.Time `json:"seen"`   // to within minutes
	Remote  string    `json:"remote"` // address, when it was seen
	Agent   string    `json:"agent"`  // what the browser says of itself
}

// Setup is how far a new installation is set up.
type Setup struct {
	Needed            bool      `json:"needed"`             // nobody said yet that it is done
	PasswordGenerated bool      `json:"password_generated"` // the asker still has the password that was printed
	Clouds            []Cloud   `json:"clouds"`
	Applications      int       `json:"applications"`
	Exposure          *Exposure `json:"exposure,omitempty" doc:"of an appliance"`
}

// Exposure is how an appliance is reached, with what to look at before it is
// reached from further away than its own network.
type Exposure struct {
	Interface      string   `json:"interface"`
	Network        string   `json:"network" doc:"of the interface; empty: it has none"`
	Pool           string   `json:"pool" doc:"addresses that instances get there, FIRST-LAST"`
	Problem        string   `json:"problem,omitempty" doc:"what is wrong with the range of addresses"`
	Outside        []Visit  `json:"outside" doc:"where people are signed in from beyond that network, the newest first"`
	NoSecondFactor []string `json:"no_second_factor" doc:"administrators whose password alone lets them in"`
}

// Visit is an address from which somebody is signed in.
type Visit struct {
	Address string    `json:"address"`
	User    string    `json:"user"`
	Seen    time.Time `json:"seen"`
}
