package context

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// FuzzDecode: whatever a cloud passes on is a context of ours, or an error.
func FuzzDecode(f *testing.F) {
	b, err := Encode(Context{Directors: []string{"https://10.0.0.1:5555"}, CASHA256: strings.Repeat("ab", 32), Secret: "s", Identity: "i/agent/1/2/x", Expires: time.Unix(1e9, 0).UTC()})
	if err != nil {
		f.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(b); err != nil {
		f.Fatal(err)
	}
	if err := z.Close(); err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{b, packed.Bytes(), []byte(base64.StdEncoding.EncodeToString(packed.Bytes())), []byte(hex.EncodeToString(b)), []byte("ETH0_IP='x'\nexport USER_DATA='" + strings.ReplaceAll(string(b), "\n", "") + "'\n")} {
		if _, err := Decode(seed); err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(c)
		if err != nil {
			t.Fatalf("taken, and cannot be kept: %v", err)
		}
		if _, err := Parse(again); err != nil {
			t.Fatalf("kept, and cannot be read: %v", err)
		}
	})
}
