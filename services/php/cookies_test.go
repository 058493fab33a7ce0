package php_test

import (
	"net/http"
	"net/url"
)

// cookies sends back every cookie it got; one site is all that is asked.
type cookies struct{ all []*http.Cookie }

func (c *cookies) SetCookies(_ *url.URL, set []*http.Cookie) { c.all = append(c.all, set...) }
func (c *cookies) Cookies(*url.URL) []*http.Cookie           { return c.all }
