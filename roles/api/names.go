package api

import (
	"strconv"
	"unicode/utf8"
)

// MaxName is the longest name of an application, service or user, in bytes.
const MaxName = 64

// CheckName refuses what cannot be the name of an application, service or
// user. A name is 1 to 64 bytes of ASCII letters, digits, dot, dash,
// underscore and single blanks, begins with a letter or digit, and is not a
// whole number, because commands take a name or an id in the same place.
func CheckName(what, name string) error {
	shown := name
	if len(shown) > 40 {
		shown = shown[:40] + "…"
	}
	bad := func(why string) error {
		return &Error{Code: CodeInvalid, Object: what + " " + strconv.QuoteToASCII(shown), Message: why, Fields: []string{"name"},
			Hint: "use 1 to 64 letters, digits, '-', '_', '.' or blanks, beginning with a letter or digit"}
	}
	switch {
	case name == "":
		return bad("a name is required")
	case len(name) > MaxName:
		return bad("the name is " + strconv.Itoa(utf8.RuneCountInString(name)) + " characters long, at most 64 are allowed")
	}
	if _, err := strconv.Atoi(name); err == nil {
		return bad("a name cannot be a number, because numbers are ids")
	}
	for i, r := range []byte(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case i > 0 && (r == '-' || r == '_' || r == '.'):
		case i > 0 && i < len(name)-1 && r == ' ' && name[i-1] != ' ':
		default:
			return bad("the name has a character that is not allowed at position " + strconv.Itoa(i+1))
		}
	}
	return nil
}

// Shorten quotes s for a message and cuts it after 40 bytes.
func Shorten(s string) string {
	if len(s) > 40 {
		return strconv.QuoteToASCII(s[:40]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
