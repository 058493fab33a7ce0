package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"crypto/x509"

	"nutshell/roles/api"
)

// Prove signs a challenge, so that whoever made it sees that the key of a CSR
// is in the asker's hands now, and not only its CSR.
func Prove(key *ecdsa.PrivateKey, challenge string) ([]byte, error) {
	sum := sha256.Sum256([]byte(proofPrefix + challenge))
	return ecdsa.SignASN1(rand.Reader, key, sum[:])
}

// proofPrefix keeps a signature made here from meaning anything elsewhere.
const proofPrefix = "nutshell proof of a key\n"

// Proved reports whether a proof was made of the challenge by the key of a CSR.
func Proved(csrPEM []byte, challenge string, proof []byte) (bool, error) {
	csr, err := parseCSR(csrPEM)
	if err != nil {
		return false, err
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return false, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("the key is a %T, only ECDSA P-256 can join", csr.PublicKey), Fields: []string{"csr"}}
	}
	sum := sha256.Sum256([]byte(proofPrefix + challenge))
	return ecdsa.VerifyASN1(key, sum[:], proof), nil
}

// Fingerprint is the SHA-256 of a public key, in hex: KeySHA256 of its CSR.
func Fingerprint(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}
