// Package totp makes and checks the codes of authenticator apps (RFC 6238:
// SHA-1, six digits, 30 seconds, which is what all apps understand) and draws
// the QR code by which an app learns a secret. It stores nothing: which codes
// were taken already is the caller's to remember.
package totp

import (
	"crypto/subtle"
	"fmt"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"
)

const (
	period = 30 // seconds that a code is shown
	skew   = 1  // codes before and after that are taken too: clocks differ
	bytes  = 20 // of a secret, as long as the hash
)

// New makes a secret for somebody's app.
func New(issuer, account string) (secret, uri string, err error) {
	k, err := totp.Generate(totp.GenerateOpts{Issuer: issuer, AccountName: account, Period: period, SecretSize: bytes})
	if err != nil {
		return "", "", fmt.Errorf("make a secret for an authenticator app: %w", err)
	}
	return k.Secret(), k.URL(), nil
}

// Check reports whether code is one that an app with this secret shows at a
// time, a step of 30 seconds early or late. Codes of steps up to after were
// taken before and are refused. It answers the code's step, to be remembered.
func Check(secret, code string, at time.Time, after int64) (step int64, ok bool) {
	code = strings.Join(strings.Fields(code), "")
	now := at.Unix() / period
	for s := now - skew; s <= now+skew; s++ {
		want, err := hotp.GenerateCodeCustom(secret, uint64(max(s, 0)), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		// All are compared, so that the time tells nothing of which was near.
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && s > after {
			step, ok = s, true
		}
	}
	return step, ok
}

// Code is what an app with this secret shows at a time.
func Code(secret string, at time.Time) (string, error) {
	return hotp.GenerateCodeCustom(secret, uint64(max(at.Unix()/period, 0)), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
}

// Draw makes a QR code of a text: how many modules each side has, and the path
// of an SVG that fills the dark ones.
func Draw(text string) (size int, path string, err error) {
	code, err := qr.Encode(text, qr.M, qr.Auto)
	if err != nil {
		return 0, "", fmt.Errorf("draw a QR code: %w", err)
	}
	b := code.Bounds()
	var out strings.Builder
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if r, _, _, _ := code.At(x, y).RGBA(); r != 0 {
				continue
			}
			run := 1 // dark modules beside each other are one rectangle
			for ; x+run < b.Max.X; run++ {
				if r, _, _, _ := code.At(x+run, y).RGBA(); r != 0 {
					break
				}
			}
			fmt.Fprintf(&out, "M%d %dh%dv1h-%dz", x-b.Min.X, y-b.Min.Y, run, run)
			x += run
		}
	}
	return b.Dx(), out.String(), nil
}
