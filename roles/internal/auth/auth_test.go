package auth

import (
	"context"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nutshell/roles/api"
)

func TestPassword(t *testing.T) {
	ctx := context.Background()
	p := NewPasswords()
	hash, err := p.Hash(ctx, "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := p.Hash(ctx, "correct horse"); again == hash {
		t.Error("two hashes of one password are the same")
	}
	old := cost{memory: 8 << 10, time: 1, lanes: 2}.hash("correct horse")
	for _, c := range []struct {
		name, hash, password string
		ok, stale            bool
	}{
		{"right", hash, "correct horse", true, false},
		{"wrong", hash, "correct house", false, false},
		{"empty", hash, "", false, false},
		{"very-long", hash, strings.Repeat("a", 1<<20), false, false},
		{"other-cost", old, "correct horse", true, true},
		{"other-cost-wrong", old, "wrong", false, false},
		{"unknown-user", "", "correct horse", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if ok, stale, err := p.Verify(ctx, c.hash, c.password); ok != c.ok || stale != c.stale || err != nil {
				t.Errorf("got %v %v %v, want %v %v", ok, stale, err, c.ok, c.stale)
			}
		})
	}
}

func TestVerifyRefusesHashesItCannotRead(t *testing.T) {
	p := NewPasswords()
	good := p.nobody
	for name, hash := range map[string]string{
		"text": "hello", "bcrypt": "$2a$10$xxxxxxxxxxxxxxxxxxxxxx", "cut-off": good[:40],
		"costs-all-memory": strings.Replace(good, "m=19456", "m=4000000000", 1),
		"costs-nothing":    strings.Replace(good, "t=2", "t=0", 1),
		"short-sum":        good[:len(good)-10],
	} {
		t.Run(name, func(t *testing.T) {
			if ok, _, err := p.Verify(context.Background(), hash, "x"); ok || err == nil {
				t.Errorf("got %v, %v", ok, err)
			}
		})
	}
}

func TestUnknownUserTakesAsLong(t *testing.T) {
	p := NewPasswords()
	hash, err := p.Hash(context.Background(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	spent := func() time.Duration { // processor time: the machine may have other work
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	best := func(hash string) time.Duration {
		d := time.Hour
		for range 5 {
			began := spent()
			_, _, _ = p.Verify(context.Background(), hash, "wrong password")
			d = min(d, spent()-began)
		}
		return d
	}
	if known, unknown := best(hash), best(""); unknown < known/2 || known < unknown/2 {
		t.Errorf("known user %v, unknown user %v", known, unknown)
	}
}

func TestPasswordsWorksOnFewAtATime(t *testing.T) {
	p := NewPasswords()
	p.slots <- struct{}{}
	p.slots <- struct{}{}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := p.Verify(ctx, "", "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify did not wait: %v", err)
	}
	if _, err := p.Hash(ctx, "long enough"); !errors.Is(err, context.Canceled) {
		t.Errorf("Hash did not wait: %v", err)
	}
}

func TestCheckPassword(t *testing.T) {
	for _, c := range []struct {
		name, password string
		ok             bool
	}{
		{"empty", "", false}, {"seven", "1234567", false}, {"eight", "12345678", true},
		{"most", strings.Repeat("a", 256), true}, {"more", strings.Repeat("a", 257), false}, {"unicode", "пароль", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := CheckPassword(c.password); (err == nil) != c.ok || err != nil && api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("got %v, want ok %v", err, c.ok)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	form := regexp.MustCompile(`^nsh_[0-9A-Za-z]{43}$`)
	seen := map[string]bool{}
	for range 1000 {
		s, h := NewSecret()
		if !form.MatchString(s) || h != HashSecret(s) || len(h) != 64 || seen[s] {
			t.Fatalf("secret %q hash %q", s, h)
		}
		seen[s] = true
	}
	if p := NewPassword(); !regexp.MustCompile(`^([a-z2-9]{5}-){3}[a-z2-9]{5}$`).MatchString(p) || CheckPassword(p) != nil || p == NewPassword() {
		t.Errorf("password %q", p)
	}
}

func TestCSRF(t *testing.T) {
	token := CSRFToken("nsh_one")
	for _, c := range []struct {
		name, session, token string
		ok                   bool
	}{
		{"right", "nsh_one", token, true}, {"other-session", "nsh_two", token, false}, {"empty", "nsh_one", "", false}, {"cut-off", "nsh_one", token[:20], false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := CheckCSRF(c.session, c.token); got != c.ok {
				t.Errorf("got %v, want %v", got, c.ok)
			}
		})
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := NewLimiter(LimiterConfig{Burst: 3, Every: 10 * time.Second, Keys: 100, Now: func() time.Time { return now }})
	tries := func(key string, want int) {
		t.Helper()
		got := 0
		for range 10 {
			if ok, wait := l.Allow(key); ok {
				got++
			} else if wait <= 0 || wait > 10*time.Second {
				t.Errorf("wait %v", wait)
			}
		}
		if got != want {
			t.Errorf("%s: %d tries allowed, want %d", key, got, want)
		}
	}
	tries("a", 3)
	tries("b", 3)
	now = now.Add(9 * time.Second)
	tries("a", 0)
	now = now.Add(time.Second)
	tries("a", 1)
	now = now.Add(time.Hour)
	tries("a", 3)
	l.Forget("a")
	tries("a", 3)
	now = now.Add(-24 * time.Hour)
	tries("a", 0)
	now = now.Add(10 * time.Second)
	tries("a", 1)
	for i := range 1000 {
		l.Allow(strconv.Itoa(i))
	}
	if len(l.buckets) != 100 || l.recent.Len() != 100 {
		t.Errorf("remembers %d keys, want 100", len(l.buckets))
	}
}

func TestLimiterConcurrently(t *testing.T) {
	l := NewLimiter(LimiterConfig{Burst: 50, Every: time.Hour})
	var mu sync.Mutex
	var wg sync.WaitGroup
	allowed := 0
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if ok, _ := l.Allow("k"); ok {
					mu.Lock()
					allowed++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if allowed != 50 {
		t.Errorf("%d allowed, want 50", allowed)
	}
}
