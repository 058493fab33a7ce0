// Package passkey is the arithmetic of passkeys (WebAuthn): what a browser is
// asked to do, and whether what it answers proves it. Passkeys are for a name
// of Nutshell, live in a device that checks who holds it, and name their user
// by themselves. It stores nothing.
package passkey

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"nutshell/roles/api"
)

// Site is Nutshell as a browser reached it.
type Site struct {
	Host   string // name, without port
	Origin string // https://name:port
}

// Key is a passkey as it is stored.
type Key struct {
	ID     string // of the credential, base64url
	Synced bool   // its device keeps copies elsewhere
	Data   string // JSON: public key, counter and flags
}

// Owner is who a passkey is of.
type Owner struct {
	Handle []byte // what authenticators know a user by; says nothing to others
	Name   string
	Title  string
	Keys   []Key
}

// Ceremony is what was asked of a browser, until it answers.
type Ceremony struct {
	session webauthn.SessionData
	site    Site
}

// CheckHost says why there are no passkeys for a name by which Nutshell is
// reached, and what to do.
func CheckHost(host string) error {
	if net.ParseIP(strings.Trim(host, "[]")) != nil || protocol.ValidateRPID(host) != nil {
		return &api.Error{Code: api.CodeInvalid, Object: "passkeys", Message: "browsers have passkeys for names only, and this page was opened by the address " + api.Shorten(host),
			Hint: "open Nutshell by a name, such as https://localhost:5555 on its own machine or https://nutshell.example.org"}
	}
	return nil
}

func (s Site) open() (*webauthn.WebAuthn, error) {
	if err := CheckHost(s.Host); err != nil {
		return nil, err
	}
	required := true
	return webauthn.New(&webauthn.Config{RPID: s.Host, RPDisplayName: "Nutshell", RPOrigins: []string{s.Origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{RequireResidentKey: &required, ResidentKey: protocol.ResidentKeyRequirementRequired,
			UserVerification: protocol.VerificationRequired}})
}

// BeginNew asks a browser to make a passkey. Devices that have one of the
// owner already are left out.
func BeginNew(s Site, o Owner) (Ceremony, json.RawMessage, error) {
	w, err := s.open()
	if err != nil {
		return Ceremony{}, nil, err
	}
	u, err := o.user()
	if err != nil {
		return Ceremony{}, nil, err
	}
	var have []protocol.CredentialDescriptor
	for _, c := range u.keys {
		have = append(have, c.Descriptor())
	}
	options, session, err := w.BeginRegistration(u, webauthn.WithExclusions(have))
	if err != nil {
		return Ceremony{}, nil, fmt.Errorf("begin making a passkey: %w", err)
	}
	text, err := json.Marshal(options.Response)
	return Ceremony{session: *session, site: s}, text, err
}

// FinishNew checks what the browser answered and gives the new passkey.
func (c Ceremony) FinishNew(o Owner, answer []byte) (Key, error) {
	w, err := c.site.open()
	if err != nil {
		return Key{}, err
	}
	u, err := o.user()
	if err != nil {
		return Key{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return Key{}, refused("make a passkey", err)
	}
	credential, err := w.CreateCredential(u, c.session, parsed)
	if err != nil {
		return Key{}, refused("make a passkey", err)
	}
	return keyOf(credential)
}

// BeginUse asks a browser for any passkey that it has for this name.
func BeginUse(s Site) (Ceremony, json.RawMessage, error) {
	w, err := s.open()
	if err != nil {
		return Ceremony{}, nil, err
	}
	options, session, err := w.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return Ceremony{}, nil, fmt.Errorf("begin using a passkey: %w", err)
	}
	text, err := json.Marshal(options.Response)
	return Ceremony{session: *session, site: s}, text, err
}

// FinishUse checks what the browser answered. find gives the owner of a
// credential. What it answers is the passkey as it is to be stored now.
func (c Ceremony) FinishUse(answer []byte, find func(id string) (Owner, error)) (Key, error) {
	w, err := c.site.open()
	if err != nil {
		return Key{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Key{}, refused("use a passkey", err)
	}
	var failed error // of find, which is no fault of the browser's
	credential, err := w.ValidateDiscoverableLogin(func(id, _ []byte) (webauthn.User, error) {
		o, err := find(base64.RawURLEncoding.EncodeToString(id))
		if err == nil {
			var u user
			if u, err = o.user(); err == nil {
				return u, nil
			}
		}
		failed = err
		return nil, err
	}, c.session, parsed)
	if api.CodeOf(failed) == api.CodeNotFound {
		return Key{}, &api.Error{Code: api.CodeUnauthorized, Op: "use a passkey", Message: "Nutshell does not know this passkey", Hint: "it was deleted here; delete it in the device too, and sign in with the password"}
	}
	if failed != nil {
		return Key{}, failed
	}
	if err != nil {
		return Key{}, refused("use a passkey", err)
	}
	if credential.Authenticator.CloneWarning {
		return Key{}, &api.Error{Code: api.CodeUnauthorized, Op: "use a passkey", Message: "the device counts fewer uses than Nutshell: somebody may have copied the passkey",
			Hint: "sign in with the password and delete the passkey"}
	}
	return keyOf(credential)
}

// refused tells a person little and the log all.
func refused(op string, err error) error {
	var known *protocol.Error
	if errors.As(err, &known) && known.DevInfo != "" {
		err = fmt.Errorf("%w: %s", err, known.DevInfo)
	}
	return &api.Error{Code: api.CodeUnauthorized, Op: op, Message: "the browser's answer does not prove it", Hint: "try again; if it goes on, use the password", Err: hidden{err}}
}

// hidden keeps what a library says out of answers; logs unwrap it.
type hidden struct{ err error }

func (h hidden) Error() string { return "the passkey was not accepted" }
func (h hidden) Unwrap() error { return h.err }

func keyOf(c *webauthn.Credential) (Key, error) {
	c.Attestation = webauthn.CredentialAttestation{} // who made the device is not our business
	text, err := json.Marshal(c)
	return Key{ID: base64.RawURLEncoding.EncodeToString(c.ID), Synced: c.Flags.BackupState, Data: string(text)}, err
}

// user is an Owner as the library wants to see one.
type user struct {
	Owner
	keys []webauthn.Credential
}

func (o Owner) user() (user, error) {
	u := user{Owner: o}
	for _, k := range o.Keys {
		var c webauthn.Credential
		if err := json.Unmarshal([]byte(k.Data), &c); err != nil {
			return u, fmt.Errorf("read the stored passkey %s: %w", k.ID, err)
		}
		u.keys = append(u.keys, c)
	}
	return u, nil
}

// WebAuthnID is what authenticators know the user by.
func (u user) WebAuthnID() []byte { return u.Handle }

// WebAuthnName is the name that the user signs in with.
func (u user) WebAuthnName() string { return u.Name }

// WebAuthnDisplayName is what people call the user.
func (u user) WebAuthnDisplayName() string { return u.Title }

// WebAuthnCredentials are the user's passkeys.
func (u user) WebAuthnCredentials() []webauthn.Credential { return u.keys }
