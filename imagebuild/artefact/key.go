package artefact

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"nutshell/roles/api"
)

// OpenKey reads the key that images are signed with, and makes it, mode 0600,
// where there is none. It is PEM, as openssl reads it.
func OpenKey(file string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(file)
	}
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := k.(ed25519.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: file, Message: "this is no ed25519 key in PEM", Hint: "move it away; the next build makes a new one"}
}

func makeKey(file string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".image-key-")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), file) // does not replace one that another process has just made
	}
	err = errors.Join(err, os.Remove(f.Name()))
	if errors.Is(err, fs.ErrExist) {
		return OpenKey(file)
	}
	return key, err
}

// PublicPEM is the public half, to be given to those who check images.
func PublicPEM(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ReadPublic reads what PublicPEM wrote.
func ReadPublic(file string) (ed25519.PublicKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(b); block != nil {
		if k, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			if key, ok := k.(ed25519.PublicKey); ok {
				return key, nil
			}
		}
	}
	return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: file, Message: "this is no public ed25519 key in PEM", Hint: "nutshell image key prints one"}
}

// Fingerprint names a public key in one word.
func Fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// sign returns the bare signature: 64 bytes, as openssl pkeyutl -rawin takes it.
func sign(key ed25519.PrivateKey, sums []byte) []byte { return ed25519.Sign(key, sums) }

// signedBy finds the key that a signature is of.
func signedBy(keys []ed25519.PublicKey, sums, signature []byte) (ed25519.PublicKey, error) {
	for _, k := range keys {
		if ed25519.Verify(k, sums, signature) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("none of the %d keys that are trusted has signed it", len(keys))
}
