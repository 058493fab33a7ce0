package director

import (
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
)

// moment reads a time, or how long before now it is; usual stands for "".
func moment(field, text string, now, usual time.Time) (time.Time, error) {
	if text == "" {
		return usual, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 10); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	return time.Time{}, &api.Error{Code: api.CodeInvalid, Message: api.Shorten(text) + " is neither a time nor a span", Fields: []string{field},
		Hint: "such as 2026-01-31T12:00:00Z, 90m, 24h or 30d"}
}
