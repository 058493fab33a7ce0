package api

import "testing"

func TestParameterFits(t *testing.T) {
	for _, c := range []struct {
		kind, value string
		want        bool
	}{
		{"integer", "-12", true}, {"integer", "12.5", false}, {"integer", "99999999999999999999", false},
		{"boolean", "true", true}, {"boolean", "yes", false},
		{"size", "512M", true}, {"size", "4", true}, {"size", "0", false}, {"size", "4GG", false}, {"size", "4T", false},
		{"text", "two\nlines", true}, {"", "anything", true},
	} {
		if got := (Parameter{Type: c.kind}).Fits(c.value); got != c.want {
			t.Errorf("%q as %q: got %v, want %v", c.value, c.kind, got, c.want)
		}
	}
}
