package pki

import (
	"testing"

	"nutshell/roles/api"
)

func TestProofs(t *testing.T) {
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, _ := NewKey()
	csr, err := CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := Prove(key, "once")
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := Prove(other, "once")
	for _, c := range []struct {
		name, challenge string
		proof           []byte
		want            bool
	}{
		{"right", "once", proof, true}, {"another-challenge", "twice", proof, false}, {"another-key", "once", foreign, false}, {"none", "once", nil, false}, {"noise", "once", []byte("x"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := Proved(csr, c.challenge, c.proof); got != c.want || err != nil {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
	if _, err := Proved([]byte("no csr"), "once", proof); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("got %v, want invalid", err)
	}
	a, err := Fingerprint(key)
	b, _ := KeySHA256(csr)
	if a != b || err != nil || len(a) != 64 {
		t.Errorf("Fingerprint says %s (%v), KeySHA256 %s", a, err, b)
	}
}
