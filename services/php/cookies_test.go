package php_test

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// cookies sends back every cookie it got; one site is all that is asked.
type cookies struct{ all []*http.Cookie }

func (c *cookies) SetCookies(_ *url.URL, set []*http.Cookie) { c.all = append(c.all, set...) }
func (c *cookies) Cookies(*url.URL) []*http.Cookie           { return c.all }

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
func encode64(b []byte) string                 { return url.QueryEscape(base64.StdEncoding.EncodeToString(b)) }
func itoa(n int) string                        { return strconv.Itoa(n) }
