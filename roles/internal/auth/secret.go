package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strings"

	"nutshell/roles/api"
)

// SecretPrefix begins every secret, so that scanners and people know one
// that has leaked.
const SecretPrefix = "nsh_"

// NewSecret makes the secret of a token, a session or an enrolment: 256
// random bits. Only the hash is stored.
func NewSecret() (secret, hash string) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, by its documentation
	s := new(big.Int).SetBytes(b).Text(62)
	secret = SecretPrefix + strings.Repeat("0", 43-len(s)) + s // 62^43 > 2^256
	return secret, HashSecret(secret)
}

// HashSecret is how a secret is stored and looked up. It needs neither salt
// nor cost: what it hides cannot be guessed.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// NewPassword makes a password that can be read aloud and typed: 20 letters
// and digits, 100 random bits.
func NewPassword() string {
	return strings.Join([]string{api.NewID(5), api.NewID(5), api.NewID(5), api.NewID(5)}, "-")
}

// CSRFToken is the value that a browser must send beside its session cookie
// when it changes something. It is derived, so nothing is stored for it.
func CSRFToken(sessionSecret string) string {
	m := hmac.New(sha256.New, []byte(sessionSecret))
	m.Write([]byte("nutshell csrf token"))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// CheckCSRF reports whether token belongs to the session.
func CheckCSRF(sessionSecret, token string) bool {
	return hmac.Equal([]byte(CSRFToken(sessionSecret)), []byte(token))
}
