package director

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/auth/passkey"
	"nutshell/roles/internal/auth/totp"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

const (
	recoveryCodes  = 10
	enrolmentLife  = 15 * time.Minute // from the QR code to the first code of the app
	enrolmentsMost = 1000
)

// enrolments are authenticator apps that are being set up, by user.
type enrolments struct {
	mu   sync.Mutex
	open map[int64]enrolment
}

type enrolment struct {
	secret string
	until  time.Time
}

func newEnrolments() *enrolments { return &enrolments{open: map[int64]enrolment{}} }

func (x *enrolments) put(user int64, secret string, now time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, e := range x.open {
		if now.After(e.until) {
			delete(x.open, id)
		}
	}
	if len(x.open) >= enrolmentsMost {
		return &api.Error{Code: api.CodeTooMany, Message: "too many are setting up a second factor at the moment", Hint: "try again in a few minutes"}
	}
	x.open[user] = enrolment{secret, now.Add(enrolmentLife)}
	return nil
}

func (x *enrolments) get(user int64, now time.Time) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.open[user]; ok && now.Before(e.until) {
		return e.secret
	}
	return ""
}

func (x *enrolments) drop(user int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, user)
}

func totpOf(user int64) string { return "totp of user " + strconv.FormatInt(user, 10) }

// secondFactor checks the code that must come with the password of a user who
// has turned that on.
func (d *Director) secondFactor(ctx context.Context, u store.User, code string) error {
	if !u.SecondFactor {
		return nil
	}
	x, err := d.store.TOTP(ctx, u.ID)
	if err != nil || x == nil {
		return err
	}
	refused := &api.Error{Code: api.CodeSecondFactor, Op: "sign in", Message: "a code is needed beside the password", Fields: []string{"code"}, Factors: []string{factorTOTP},
		Hint: "take it from your authenticator app"}
	if x.Recovery > 0 {
		refused.Factors = append(refused.Factors, factorRecovery)
		refused.Hint += ", or use a recovery code"
	}
	keys, err := d.store.Passkeys(ctx, u.ID)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.Host == httpapi.Host(ctx) {
			refused.Factors = append(refused.Factors, factorPasskey)
			break
		}
	}
	if code == "" {
		return refused
	}
	if ok, wait := d.codes.Allow(strconv.FormatInt(u.ID, 10)); !ok {
		return tooManyTries(wait)
	}
	taken, err := d.takeCode(ctx, u, *x, code)
	if err != nil {
		return err
	}
	if !taken {
		refused.Message, refused.Hint = "the code is wrong, or was used already", "wait for the next code of your app; if it goes on, see that its clock is right"
		return refused
	}
	d.codes.Forget(strconv.FormatInt(u.ID, 10))
	return nil
}

func tooManyTries(wait time.Duration) error {
	seconds := int(wait.Seconds()) + 1
	return &api.Error{Code: api.CodeTooMany, Op: "sign in", Message: "too many tries", Hint: fmt.Sprintf("try again in %d s", seconds), RetryAfter: seconds}
}

// takeCode takes a code of the app, or a recovery code. Neither works twice.
func (d *Director) takeCode(ctx context.Context, u store.User, x store.TOTP, code string) (taken bool, err error) {
	secret, err := d.secrets.Open(x.Secret, totpOf(u.ID))
	if err != nil {
		return false, err
	}
	step, right := totp.Check(string(secret), code, d.c.Now(), x.Step)
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if right {
			taken, err = t.TakeStep(ctx, u.ID, step)
			return err
		}
		taken, err = t.TakeRecoveryCode(ctx, u.ID, auth.HashSecret(plainCode(code)))
		return err
	})
	if taken && !right {
		d.c.Log.Warn("signed in with a recovery code", "user", u.Name, "remote", httpapi.Remote(ctx), "left", x.Recovery-1)
	}
	return taken, err
}

// plainCode is a recovery code as it is hashed, however it was typed.
func plainCode(code string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(code))
}

func (d *Director) factors(ctx context.Context, _ *struct{}) (api.Factors, error) {
	return d.factorsOf(ctx, httpapi.Who(ctx).User.ID)
}

func (d *Director) factorsOf(ctx context.Context, user int64) (api.Factors, error) {
	out := api.Factors{Passkeys: []api.Passkey{}, PasskeyHost: httpapi.Host(ctx)}
	if err := passkey.CheckHost(out.PasskeyHost); err != nil {
		e := api.AsError(err)
		out.PasskeyHost, out.PasskeyProblem = "", e.Message+": "+e.Hint
	}
	x, err := d.store.TOTP(ctx, user)
	if err != nil {
		return out, err
	}
	if x != nil {
		out.TOTP = &api.TOTP{Since: x.Since, Recovery: x.Recovery}
	}
	keys, err := d.store.Passkeys(ctx, user)
	for _, k := range keys {
		out.Passkeys = append(out.Passkeys, k.Passkey)
	}
	return out, err
}

// beginTOTP makes a secret for an authenticator app. Nothing changes until a
// code shows that the app has it.
func (d *Director) beginTOTP(ctx context.Context, _ *struct{}) (api.NewTOTP, error) {
	if err := d.needProof(ctx); err != nil {
		return api.NewTOTP{}, err
	}
	u := httpapi.Who(ctx).User
	issuer := "Nutshell"
	if host := httpapi.Host(ctx); host != "" {
		issuer += " at " + host
	}
	secret, uri, err := totp.New(strings.ReplaceAll(issuer, ":", "."), u.Name) // a colon would end the issuer
	if err != nil {
		return api.NewTOTP{}, err
	}
	size, path, err := totp.Draw(uri)
	if err != nil {
		return api.NewTOTP{}, err
	}
	return api.NewTOTP{Secret: secret, URI: uri, QR: api.QR{Size: size, Path: path}}, d.enrolments.put(u.ID, secret, d.c.Now())
}

// enableTOTP turns the second factor on and makes its recovery codes.
func (d *Director) enableTOTP(ctx context.Context, in *struct{ Body api.OneTimeCode }) (api.RecoveryCodes, error) {
	if err := d.needProof(ctx); err != nil {
		return api.RecoveryCodes{}, err
	}
	id := httpapi.Who(ctx).User.ID
	secret := d.enrolments.get(id, d.c.Now())
	if secret == "" {
		return api.RecoveryCodes{}, &api.Error{Code: api.CodeConflict, Op: "turn on", Object: "second factor", Message: "no app is being set up, or it took too long", Hint: "begin again"}
	}
	if ok, wait := d.codes.Allow(strconv.FormatInt(id, 10)); !ok {
		return api.RecoveryCodes{}, tooManyTries(wait)
	}
	step, ok := totp.Check(secret, in.Body.Code, d.c.Now(), 0)
	if !ok {
		return api.RecoveryCodes{}, &api.Error{Code: api.CodeInvalid, Op: "turn on", Object: "second factor", Message: "this is not the code that the app shows now", Fields: []string{"code"},
			Hint: "wait for the next code; if it goes on, see that the clock of the device is right"}
	}
	var codes api.RecoveryCodes
	err := d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		u, err := t.User(ctx, strconv.FormatInt(id, 10))
		if err != nil {
			return err
		}
		if codes, err = newRecoveryCodes(ctx, t, id); err != nil {
			return err
		}
		return t.SetTOTP(ctx, u, store.TOTP{Secret: d.secrets.Seal([]byte(secret), totpOf(id)), Step: step})
	})
	if err != nil {
		return api.RecoveryCodes{}, err
	}
	d.enrolments.drop(id)
	d.codes.Forget(strconv.FormatInt(id, 10))
	return codes, nil
}

func newRecoveryCodes(ctx context.Context, t *store.Tx, user int64) (api.RecoveryCodes, error) {
	var out api.RecoveryCodes
	var hashes []string
	for range recoveryCodes {
		code := strings.Join([]string{api.NewID(5), api.NewID(5), api.NewID(5)}, "-") // 75 random bits: no cost is needed against guessing
		out.Codes = append(out.Codes, code)
		hashes = append(hashes, auth.HashSecret(plainCode(code)))
	}
	return out, t.SetRecoveryCodes(ctx, user, hashes)
}

func (d *Director) disableTOTP(ctx context.Context, _ *struct{}) (httpapi.None, error) {
	if err := d.needProof(ctx); err != nil {
		return httpapi.None{}, err
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		u, err := t.User(ctx, strconv.FormatInt(httpapi.Who(ctx).User.ID, 10))
		if err != nil {
			return err
		}
		return t.DeleteTOTP(ctx, u)
	})
}

// renewRecovery makes new recovery codes; the old ones are void.
func (d *Director) renewRecovery(ctx context.Context, _ *struct{}) (codes api.RecoveryCodes, err error) {
	if err := d.needProof(ctx); err != nil {
		return codes, err
	}
	id := httpapi.Who(ctx).User.ID
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		x, err := t.TOTP(ctx, id)
		if err != nil {
			return err
		}
		if x == nil {
			return &api.Error{Code: api.CodeConflict, Op: "make", Object: "recovery codes", Message: "there is no second factor that they could stand in for", Hint: "set up an authenticator app first"}
		}
		codes, err = newRecoveryCodes(ctx, t, id)
		return err
	})
	return codes, err
}
