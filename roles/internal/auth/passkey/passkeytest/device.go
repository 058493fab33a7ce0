// Package passkeytest is a device with passkeys, for tests: it answers what a
// browser is asked as a real one with a P-256 key does.
package passkeytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
)

// Device holds one passkey. Its fields may be changed to make it lie.
type Device struct {
	Origin   string // that it tells, https://name:port
	Host     string // that it signs for
	Verified bool   // it checked who holds it
	Count    uint32 // of uses, as it tells

	id, handle []byte
	key        *ecdsa.PrivateKey
}

// New makes a device that has no passkey yet.
func New(host, origin string) *Device {
	return &Device{Host: host, Origin: origin, Verified: true}
}

var text = base64.RawURLEncoding

// Create makes a passkey as the options of navigator.credentials.create ask.
func (d *Device) Create(options []byte) (answer []byte, err error) {
	var asked struct {
		Challenge string
		User      struct{ ID string }
	}
	if err := json.Unmarshal(options, &asked); err != nil {
		return nil, err
	}
	if d.handle, err = text.DecodeString(asked.User.ID); err != nil {
		return nil, err
	}
	if d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	d.id = make([]byte, 16)
	_, _ = rand.Read(d.id) // never fails, by its documentation
	public, err := d.key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	// COSE: type EC2, algorithm ES256, curve P-256, x and y.
	cose := append([]byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20}, public[1:33]...)
	cose = append(append(cose, 0x22, 0x58, 0x20), public[33:]...)
	made := make([]byte, 16, 64)                                  // no model is told
	made = binary.BigEndian.AppendUint16(made, uint16(len(d.id))) //nolint:gosec // a test's few bytes
	made = append(append(made, d.id...), cose...)
	data := d.data(0x40, made)
	// CBOR: {"fmt": "none", "attStmt": {}, "authData": …}
	object := append([]byte{0xa3, 0x63}, "fmt"...)
	object = append(append(object, 0x64), "none"...)
	object = append(append(object, 0x67), "attStmt"...)
	object = append(append(object, 0xa0, 0x68), "authData"...)
	object = append(binary.BigEndian.AppendUint16(append(object, 0x59), uint16(len(data))), data...) //nolint:gosec // a test's few bytes
	return d.answer(map[string]any{"clientDataJSON": text.EncodeToString(d.client("webauthn.create", asked.Challenge)), "attestationObject": text.EncodeToString(object), "transports": []string{"internal"}})
}

// Get uses the passkey as the options of navigator.credentials.get ask.
func (d *Device) Get(options []byte) (answer []byte, err error) {
	var asked struct{ Challenge string }
	if err := json.Unmarshal(options, &asked); err != nil {
		return nil, err
	}
	if d.key == nil {
		return nil, errors.New("the device has no passkey")
	}
	d.Count++
	data, client := d.data(0, nil), d.client("webauthn.get", asked.Challenge)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, d.key, sum[:])
	if err != nil {
		return nil, err
	}
	return d.answer(map[string]any{"clientDataJSON": text.EncodeToString(client), "authenticatorData": text.EncodeToString(data),
		"signature": text.EncodeToString(signature), "userHandle": text.EncodeToString(d.handle)})
}

func (d *Device) data(flags byte, more []byte) []byte {
	flags |= 0x01 // somebody was there
	if d.Verified {
		flags |= 0x04
	}
	host := sha256.Sum256([]byte(d.Host))
	return append(binary.BigEndian.AppendUint32(append(host[:], flags), d.Count), more...)
}

func (d *Device) client(what, challenge string) []byte {
	b, _ := json.Marshal(map[string]any{"type": what, "challenge": challenge, "origin": d.Origin, "crossOrigin": false}) // strings always encode
	return b
}

func (d *Device) answer(response map[string]any) ([]byte, error) {
	return json.Marshal(map[string]any{"id": text.EncodeToString(d.id), "rawId": text.EncodeToString(d.id), "type": "public-key", "response": response,
		"clientExtensionResults": map[string]any{}, "authenticatorAttachment": "platform"})
}
