package totp

import (
	"encoding/base32"
	"net/url"
	"regexp"
	"testing"
	"time"
)

// TestVectors has those of RFC 6238, appendix B, cut to six digits.
func TestVectors(t *testing.T) {
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	for _, c := range []struct {
		name string
		at   int64
		code string
	}{
		{"1970", 59, "287082"}, {"2005", 1111111109, "081804"}, {"2005-later", 1111111111, "050471"},
		{"2009", 1234567890, "005924"}, {"2033", 2000000000, "279037"}, {"2603", 20000000000, "353130"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := Code(secret, time.Unix(c.at, 0)); got != c.code || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, c.code)
			}
			if step, ok := Check(secret, c.code, time.Unix(c.at, 0), 0); !ok || step != c.at/30 {
				t.Errorf("got %d, %v, want step %d", step, ok, c.at/30)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	secret, _, err := New("Nutshell", "ann")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_010, 0) // 0 to 30 s are one step
	at := func(steps int64) string {
		code, err := Code(secret, now.Add(time.Duration(steps)*30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return code
	}
	step := now.Unix() / 30
	for _, c := range []struct {
		name, code string
		after      int64
		ok         bool
	}{
		{"now", at(0), 0, true}, {"one-early", at(1), 0, true}, {"one-late", at(-1), 0, true},
		{"two-early", at(2), 0, false}, {"two-late", at(-2), 0, false},
		{"replayed", at(0), step, false}, {"older-than-the-last", at(-1), step, false}, {"next-after-the-last", at(1), step, true},
		{"with-a-blank", at(0)[:3] + " " + at(0)[3:], 0, true}, {"cut-off", at(0)[:5], 0, false}, {"empty", "", 0, false}, {"words", "hello!", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, ok := Check(secret, c.code, now, c.after); ok != c.ok {
				t.Errorf("got %v, want %v", ok, c.ok)
			}
		})
	}
	if _, ok := Check("not base32!", at(0), now, 0); ok {
		t.Error("a secret that is none lets somebody in")
	}
}

func TestNewAndDraw(t *testing.T) {
	secret, uri, err := New("Nutshell at nut.example.org", "ann & bob")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Query().Get("secret") != secret || u.Query().Get("issuer") != "Nutshell at nut.example.org" {
		t.Errorf("uri %q: %v", uri, err)
	}
	if raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret); err != nil || len(raw) != 20 {
		t.Errorf("secret %q: %v", secret, err)
	}
	size, path, err := Draw(uri)
	if err != nil || size < 21 || (size-17)%4 != 0 || !regexp.MustCompile(`^(M\d+ \d+h\d+v1h-\d+z)+$`).MatchString(path) {
		t.Errorf("a code of %d modules: %v, %.80s", size, err, path)
	}
	if path[:14] != "M0 0h7v1h-7zM"+path[13:14] { // the finder pattern in the corner
		t.Errorf("it begins with %.20s", path)
	}
}
