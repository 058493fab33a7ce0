package gitserver

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"nutshell/roles/api"
)

// hostKey reads the key that clients know us by, and makes it at the first
// start. It is never replaced: every client would take us for somebody else.
func hostKey(path string) (ssh.Signer, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if b, err = newHostKey(path); err != nil {
			return nil, fmt.Errorf("make SSH host key: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read SSH host key: %w", err)
	}
	s, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "read", Object: "SSH host key " + path, Err: err, Hint: "put back the file from a backup; without it, clients take this director for another one"}
	}
	return s, nil
}

func newHostKey(path string) ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(key, "nutshell")
	if err != nil {
		return nil, err
	}
	b := pem.EncodeToMemory(block)
	if err := replaceFile(path, b); err != nil {
		return nil, err
	}
	return b, errors.Join(os.Chmod(path, 0o400), syncDir(filepath.Dir(path)))
}

// PublicKey is a key that a user gave us.
type PublicKey struct {
	Type, Fingerprint, Comment string
	Line                       string // as in authorized_keys, without comment
}

const (
	minRSA  = 2048
	maxRSA  = 16384
	maxKeys = 100 // in one text
)

// ParseKeys reads the lines of an authorized_keys file. Empty lines and those
// that begin with # do not count.
func ParseKeys(text string) ([]PublicKey, error) {
	refuse := func(n int, message, hint string) error {
		return &api.Error{Code: api.CodeInvalid, Op: "add", Object: fmt.Sprintf("key in line %d", n), Message: message, Hint: hint, Fields: []string{"text"}}
	}
	var keys []PublicKey
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if strings.HasPrefix(line, "-----BEGIN") {
			if strings.Contains(line, "PRIVATE KEY") {
				return nil, refuse(n, "this is a private key", "never give it to anybody; add the file beside it whose name ends in .pub")
			}
			return nil, refuse(n, "this is not in the form of OpenSSH", "convert it with ssh-keygen -i -m PKCS8 -f FILE")
		}
		if len(keys) == maxKeys {
			return nil, refuse(n, fmt.Sprintf("there are more than %d keys", maxKeys), "add them in several parts")
		}
		k, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, refuse(n, "this is no public key", "it looks like: ssh-ed25519 AAAA… name; ssh-keygen -t ed25519 makes one, in the file that ends in .pub")
		}
		if len(options) > 0 {
			return nil, refuse(n, "options before a key have no meaning here", "leave out what stands before "+k.Type())
		}
		if err := strong(k, n, refuse); err != nil {
			return nil, err
		}
		keys = append(keys, PublicKey{Type: k.Type(), Fingerprint: ssh.FingerprintSHA256(k), Comment: comment,
			Line: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))})
	}
	if len(keys) == 0 {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "add", Object: "keys", Message: "the text holds no public key", Hint: "give the content of a file such as ~/.ssh/id_ed25519.pub", Fields: []string{"text"}}
	}
	return keys, nil
}

// strong refuses keys that can be broken, and kinds that cannot sign in.
func strong(k ssh.PublicKey, n int, refuse func(int, string, string) error) error {
	const hint = "make a new key with ssh-keygen -t ed25519"
	switch k.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		c, ok := k.(ssh.CryptoPublicKey)
		if !ok {
			break
		}
		p, ok := c.CryptoPublicKey().(*rsa.PublicKey)
		if !ok {
			break
		}
		if bits := p.N.BitLen(); bits < minRSA || bits > maxRSA {
			return refuse(n, fmt.Sprintf("an RSA key of %d bits is not accepted, it needs %d to %d", bits, minRSA, maxRSA), hint)
		}
		return nil
	}
	return refuse(n, "keys of the type "+api.Shorten(k.Type())+" are not accepted", hint)
}
