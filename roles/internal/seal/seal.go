// Package seal makes text unreadable where it is stored: passwords of users'
// applications and keys of their certificates lie in the database sealed, and
// a copy of it alone tells nothing. The key is a file of its own. What is
// sealed, and who may see it opened, is not its business.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"nutshell/roles/api"
)

const (
	keyBytes = 32
	form     = "sealed1:" // of the text, so that another way can follow it
)

// Box seals and opens with one key. It can be used by many at the same time.
type Box struct {
	aead cipher.AEAD
	id   string
}

// Make opens the key file at path, and makes it with a new key when it is not
// there. It appears complete or not at all.
func Make(path string) (*Box, error) {
	b, err := Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	key := make([]byte, keyBytes)
	_, _ = rand.Read(key) // it never fails, says its documentation
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return nil, fmt.Errorf("make key of secrets: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(key)
	err = errors.Join(err, f.Chmod(0o400), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("make key of secrets: %w", err)
	}
	return Open(path)
}

// Open reads the key file at path. It wraps fs.ErrNotExist when there is none.
func Open(path string) (*Box, error) {
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "open", Object: "key of secrets " + path,
			Hint: "put it back from a backup: without it, what was sealed with it cannot be read", Err: err}
	}
	if len(key) != keyBytes {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "open", Object: "key of secrets " + path, Message: fmt.Sprintf("it is %d bytes long, not %d", len(key), keyBytes),
			Hint: "put it back from a backup"}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte("nutshell key id"), key...))
	return &Box{aead: aead, id: hex.EncodeToString(sum[:8])}, nil
}

// ID tells one key from another and says nothing about it.
func (b *Box) ID() string { return b.id }

// Seal makes text of a secret. It opens again only with the same about, which
// says what the secret is of, so that a sealed text that was moved elsewhere
// is of no use there.
func (b *Box) Seal(secret []byte, about string) string {
	return form + base64.RawStdEncoding.EncodeToString(b.aead.Seal(nil, nil, secret, []byte(about))) //nolint:gosec // no nonce is given: the cipher draws one itself
}

// Open gives back what Seal was given.
func (b *Box) Open(sealed, about string) ([]byte, error) {
	raw, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimPrefix(sealed, form))
	if err == nil && strings.HasPrefix(sealed, form) {
		var secret []byte
		if secret, err = b.aead.Open(nil, nil, raw, []byte(about)); err == nil {
			return secret, nil
		}
	}
	return nil, &api.Error{Code: api.CodeUnavailable, Op: "read", Object: "secret of " + about, Message: "it was sealed with another key, or changed since",
		Hint: "set it anew, or put the director's key of secrets back from a backup"}
}
