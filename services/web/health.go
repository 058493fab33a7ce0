package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
)

// Health says how a version is tried before visitors see it. Kinds embed it
// in their settings.
type Health struct {
	Path    string `json:"health_path" title:"Health path" help:"page that must not fail before a new version is shown" pattern:"^/[!-~]*$" max:"1000"`
	Status  string `json:"health_status" title:"Health status" help:"status codes with which it has not failed, such as 200-399,404" pattern:"^[0-9]{3}(-[0-9]{3})?(,[0-9]{3}(-[0-9]{3})?)*$" max:"200"`
	Timeout int    `json:"health_timeout" title:"Health timeout" help:"seconds in which it must answer" min:"1" max:"600" unit:"s"`
}

// DefaultHealth lets an application say that it wants a login or has no front
// page, but not that it is broken.
func DefaultHealth() Health { return Health{Path: "/", Status: "200-499", Timeout: 20} }

// Validate says what tags cannot.
func (h Health) Validate() error {
	for r := range strings.SplitSeq(h.Status, ",") {
		if low, high := bounds(r); low < 100 || high > 599 || low > high {
			return &api.Error{Code: api.CodeInvalid, Object: "setting health_status", Message: fmt.Sprintf("%s is no range of status codes", api.Shorten(r)),
				Hint: "for example 200-399 or 200,301,404; codes are 100 to 599", Fields: []string{"health_status"}}
		}
	}
	return nil
}

// Good reports whether a page with this status has not failed.
func (h Health) Good(status int) bool {
	for r := range strings.SplitSeq(h.Status, ",") {
		if low, high := bounds(r); low <= status && status <= high {
			return true
		}
	}
	return false
}

// Patience is how long the page may take.
func (h Health) Patience() time.Duration { return time.Duration(h.Timeout) * time.Second }

// bounds reads one range that has passed its pattern; anything else is one
// that nothing lies in.
func bounds(text string) (low, high int) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, err := strconv.Atoi(first)
	if err == nil {
		high, err = strconv.Atoi(last)
	}
	if err != nil {
		return 1, 0
	}
	return low, high
}
