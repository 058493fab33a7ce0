// Package context is what a fresh instance is told: where its director is,
// how to know it, and a single-use secret to enrol with. Encode and Parse
// stand side by side; drivers carry the bytes and do not look inside.
package context

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Context is all that a fresh instance knows. It holds no key.
type Context struct {
	Directors []string  `json:"directors"` // https URLs, tried in order
	CASHA256  string    `json:"ca_sha256"` // of the root certificate's DER, hex
	Secret    string    `json:"secret"`    // single use, bound to Identity
	Identity  string    `json:"identity"`  // what it will become
	Expires   time.Time `json:"expires"`   // of the secret
}

// Encode makes the bytes that a cloud passes on.
func Encode(c Context) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return json.MarshalIndent(c, "", "  ") //nolint:gosec // an instance joins by it
}

// Parse reads what Encode made and refuses unknown fields.
func Parse(b []byte) (Context, error) {
	var c Context
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Context{}, fmt.Errorf("parse context: %w", err)
	}
	return c, c.check()
}

func (c Context) check() error {
	switch {
	case len(c.Directors) == 0:
		return errors.New("context: no director")
	case len(c.CASHA256) != 64:
		return errors.New("context: ca_sha256 is not 64 hex digits")
	case c.Secret == "":
		return errors.New("context: no secret")
	case c.Identity == "":
		return errors.New("context: no identity")
	}
	return nil
}
