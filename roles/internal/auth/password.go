// Package auth holds the arithmetic of signing in: password hashes, secrets
// of tokens and sessions, protection against forged requests and against
// guessing. It stores nothing and knows no users.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"nutshell/roles/api"
)

// Bounds of a password. The upper one keeps a stranger from making us hash
// megabytes.
const (
	MinPassword = 8
	MaxPassword = 256
)

// cost is argon2id's; OWASP's recommendation of 2024 for one lane.
type cost struct {
	memory, time uint32 // KiB, passes
	lanes        uint8
}

// maxCost bounds what a stored hash may ask for.
var (
	currentCost = cost{memory: 19 << 10, time: 2, lanes: 1}
	maxCost     = cost{memory: 256 << 10, time: 16, lanes: 16}
)

const (
	saltBytes = 16
	hashBytes = 32
)

// Passwords hashes and checks passwords, a few at a time: each hash takes
// 19 MiB, and a crowd at the door must not take all the memory.
type Passwords struct {
	slots   chan struct{}
	nobody  string // checked for users that do not exist, so that it takes as long
	current cost
}

// NewPasswords makes a Passwords that works on two passwords at a time.
func NewPasswords() *Passwords {
	p := &Passwords{slots: make(chan struct{}, 2), current: currentCost}
	p.nobody = p.current.hashOfNothing()
	return p
}

// CheckPassword refuses passwords that are too short or too long.
func CheckPassword(password string) error {
	message := ""
	switch {
	case password == "":
		message = "a password is required"
	case len(password) < MinPassword:
		message = fmt.Sprintf("the password is too short, it needs at least %d characters", MinPassword)
	case len(password) > MaxPassword:
		message = fmt.Sprintf("the password is too long, at most %d bytes are allowed", MaxPassword)
	default:
		return nil
	}
	return &api.Error{Code: api.CodeInvalid, Message: message, Fields: []string{"password"}, Hint: "use a sentence or a few random words"}
}

// Hash checks a new password and returns what to store.
func (p *Passwords) Hash(ctx context.Context, password string) (string, error) {
	if err := CheckPassword(password); err != nil {
		return "", err
	}
	if err := p.enter(ctx); err != nil {
		return "", err
	}
	defer p.leave()
	return p.current.hash(password), nil
}

// Verify reports whether password belongs to hash. Give it an empty hash for
// a user that does not exist: it takes the same time and is false. stale says
// that the hash is of another cost than new ones and should be replaced.
func (p *Passwords) Verify(ctx context.Context, hash, password string) (ok, stale bool, err error) {
	if len(password) > MaxPassword {
		return false, false, nil
	}
	known := hash != ""
	if !known {
		hash = p.nobody
	}
	c, salt, want, err := parseHash(hash)
	if err != nil {
		return false, false, err
	}
	if err := p.enter(ctx); err != nil {
		return false, false, err
	}
	defer p.leave()
	got := argon2.IDKey([]byte(password), salt, c.time, c.memory, c.lanes, hashBytes)
	same := subtle.ConstantTimeCompare(got, want) == 1
	return same && known, same && known && c != p.current, nil
}

func (p *Passwords) enter(ctx context.Context) error {
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Passwords) leave() { <-p.slots }

func (c cost) hash(password string) string {
	salt := random(saltBytes)
	return c.encode(salt, argon2.IDKey([]byte(password), salt, c.time, c.memory, c.lanes, hashBytes))
}

// hashOfNothing has the form of a hash, and is that of no password anybody
// could find. To make a real one is a good part of the time of a start.
func (c cost) hashOfNothing() string { return c.encode(random(saltBytes), random(hashBytes)) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its documentation
	return b
}

func (c cost) encode(salt, sum []byte) string {
	b := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.time, c.lanes, b.EncodeToString(salt), b.EncodeToString(sum))
}

var errHash = errors.New("a stored password hash cannot be read")

func parseHash(s string) (c cost, salt, sum []byte, err error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return c, nil, nil, errHash
	}
	if _, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &c.memory, &c.time, &c.lanes); err != nil {
		return c, nil, nil, errHash
	}
	salt, err = base64.RawStdEncoding.DecodeString(f[4])
	if err == nil {
		sum, err = base64.RawStdEncoding.DecodeString(f[5])
	}
	if err != nil || len(salt) < 8 || len(sum) != hashBytes || c.time < 1 || c.lanes < 1 ||
		c.memory > maxCost.memory || c.time > maxCost.time || c.lanes > maxCost.lanes {
		return c, nil, nil, errHash
	}
	return c, salt, sum, nil
}
