package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	blockCert = "CERTIFICATE"
	blockKey  = "PRIVATE KEY"
	blockCSR  = "CERTIFICATE REQUEST"
)

// maxPEM bounds what is parsed; real chains and requests are below 4 KiB.
const maxPEM = 64 << 10

func certPEM(cs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range cs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: c.Raw})...)
	}
	return out
}

func keyPEM(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

// parsePEM returns the certificates of data in their order, and its last key if any.
func parsePEM(data []byte) ([]*x509.Certificate, *ecdsa.PrivateKey, error) {
	if len(data) > maxPEM {
		return nil, nil, errors.New("too much PEM data")
	}
	var certs []*x509.Certificate
	var key *ecdsa.PrivateKey
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return certs, key, nil
		}
		switch b.Type {
		case blockCert:
			c, err := x509.ParseCertificate(b.Bytes)
			if err != nil {
				return nil, nil, err
			}
			certs = append(certs, c)
		case blockKey:
			k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
			if err != nil {
				return nil, nil, err
			}
			ec, ok := k.(*ecdsa.PrivateKey)
			if !ok {
				return nil, nil, fmt.Errorf("a key of type %T, expected ECDSA", k)
			}
			key = ec
		}
	}
}

func readCert(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certs, _, err := parsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", path, err)
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("read certificate %s: %d certificates, expected 1", path, len(certs))
	}
	return certs[0], nil
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	_, key, err := parsePEM(data)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", path, err)
	}
	if key == nil {
		return nil, fmt.Errorf("read key %s: there is no key in it", path)
	}
	return key, nil
}

// writeFile replaces a file so that a crash leaves the old one or the new one.
func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
