package api

import (
	"errors"
	"fmt"
	"strings"
)

// Code says what kind of error it is. It crosses the wire.
type Code string

// The codes, each with one HTTP status and one exit status of the CLI.
const (
	CodeInvalid      Code = "invalid"       // the request is wrong; the hint says how to mend it
	CodeUnauthorized Code = "unauthorized"  // sign in first
	CodeSecondFactor Code = "second_factor" // the password is right, a code must come with it
	CodeForbidden    Code = "forbidden"
	CodeProof        Code = "proof_needed" // show again who you are, by POST /proof
	CodeNotFound     Code = "not_found"
	CodeConflict     Code = "conflict" // the state does not allow it now
	CodeTooLarge     Code = "too_large"
	CodeTooMany      Code = "too_many_requests"
	CodeQuota        Code = "quota"       // credit or a limit is used up
	CodeUnavailable  Code = "unavailable" // a cloud, a program or a role is missing or does not answer
	CodeDeadline     Code = "deadline"    // it did not finish in time
	CodeCancelled    Code = "cancelled"
	CodeNoSpace      Code = "no_space"
	CodeInternal     Code = "internal" // a bug in Nutshell
)

// Error says what was attempted, on which object, why it failed and what to
// do. It is sent as problem+json.
type Error struct {
	Code    Code     `json:"code"`
	Op      string   `json:"op,omitempty"`     // "scale", "upload code"
	Object  string   `json:"object,omitempty"` // "service shop/php"
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`     // what to do
	Related string   `json:"related,omitempty"`  // id of what is in the way, e.g. an operation
	Fields  []string `json:"fields,omitempty"`   // names of wrong input fields
	LogTail []string `json:"log_tail,omitempty"` // last lines of the log of what failed
	Factors []string `json:"factors,omitempty"`  // what may prove who somebody is: totp, recovery, passkey, password
	// RetryAfter is in how many seconds it is worth trying again, 0: not known.
	RetryAfter int   `json:"retry_after,omitempty"`
	Err        error `json:"-"` // cause
}

// Error prints op, object, message, cause and hint in one line.
func (e *Error) Error() string {
	var b strings.Builder
	for _, s := range []string{strings.TrimSpace(e.Op + " " + e.Object), e.Message} {
		if s != "" {
			if b.Len() > 0 {
				b.WriteString(": ")
			}
			b.WriteString(s)
		}
	}
	if e.Err != nil {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, " (%s)", e.Hint)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first *Error in err's chain, CodeInternal
// for any other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// AsError returns err as an *Error that can be sent or stored: its message
// holds the cause, which would be lost otherwise. Any other error is internal.
// It is nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		if error(e) == err || err.Error() == e.Error() { //nolint:errorlint // is it wrapped? is the question
			return e.withCause()
		}
		wrapped := *e
		wrapped.Message, wrapped.Op, wrapped.Object, wrapped.Err = err.Error(), "", "", nil
		wrapped.Hint = ""
		return &wrapped
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}

// withCause moves the cause into the message.
func (e *Error) withCause() *Error {
	if e.Err == nil {
		return e
	}
	whole := *e
	whole.Err = nil
	if whole.Message != "" {
		whole.Message += ": "
	}
	whole.Message += e.Err.Error()
	return &whole
}

// Invalidf returns an error of code invalid.
func Invalidf(format string, args ...any) *Error {
	return &Error{Code: CodeInvalid, Message: fmt.Sprintf(format, args...)}
}

// NotFoundf returns an error of code not_found.
func NotFoundf(format string, args ...any) *Error {
	return &Error{Code: CodeNotFound, Message: fmt.Sprintf(format, args...)}
}

// Conflictf returns an error of code conflict.
func Conflictf(format string, args ...any) *Error {
	return &Error{Code: CodeConflict, Message: fmt.Sprintf(format, args...)}
}

// Status is the HTTP status of a code.
func (c Code) Status() int {
	switch c {
	case CodeInvalid:
		return 422
	case CodeUnauthorized, CodeSecondFactor:
		return 401
	case CodeForbidden, CodeProof:
		return 403
	case CodeNotFound:
		return 404
	case CodeConflict, CodeCancelled:
		return 409
	case CodeTooLarge:
		return 413
	case CodeTooMany:
		return 429
	case CodeQuota:
		return 402
	case CodeUnavailable:
		return 503
	case CodeDeadline:
		return 504
	case CodeNoSpace:
		return 507
	default:
		return 500
	}
}

// Exit is the CLI's exit status for a code: 0 is success, 2 wrong usage or
// input, 3 not allowed, 4 not found, 5 conflict, 6 unavailable or out of
// time, 7 quota or space, 1 anything else.
func (c Code) Exit() int {
	switch c {
	case "":
		return 0
	case CodeInvalid, CodeTooLarge:
		return 2
	case CodeUnauthorized, CodeSecondFactor, CodeForbidden, CodeProof:
		return 3
	case CodeNotFound:
		return 4
	case CodeConflict, CodeCancelled:
		return 5
	case CodeUnavailable, CodeDeadline, CodeTooMany:
		return 6
	case CodeQuota, CodeNoSpace:
		return 7
	default:
		return 1
	}
}
