package edge

import (
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

// page is what a visitor sees in place of a site.
type page struct {
	Status            int
	Title, Text, Hint string
	Again             int  // seconds after which to try again, 0: do not
	Close             bool // the connection is of no use any more
}

func badHost() page {
	return page{Status: http.StatusBadRequest, Title: "This address cannot be read", Text: "The request names no host, or one that cannot be.", Close: true}
}

func badMethod(method string) page {
	return page{Status: http.StatusMethodNotAllowed, Title: "Not here", Text: "Requests with " + method + " are not answered."}
}

func misdirected() page {
	return page{Status: http.StatusMisdirectedRequest, Title: "Wrong connection", Text: "The request is for another site than the one this connection was made to.", Hint: "Load the page again.", Close: true}
}

func unknownHost(host string) page {
	return page{Status: http.StatusNotFound, Title: "There is no site named " + host,
		Text: "Nobody shows anything under this name here. Check the address.",
		Hint: "If one of your applications shall have it: nutshell site add APPLICATION SERVICE " + host}
}

func idle(s *shown) page {
	return page{Status: http.StatusServiceUnavailable, Title: s.Name + " " + s.Idle, Text: "The site is known, but nothing runs behind it now. Come back later.", Again: 10}
}

func nobody(s *shown) page {
	return page{Status: http.StatusBadGateway, Title: s.Name + " does not answer", Text: "The application should run, but none of its entry points could be reached. It is looked after by itself; try again in a moment.", Again: 3}
}

func broken() page {
	return page{Status: http.StatusBadGateway, Title: "The answer broke off", Text: "The application ended the connection in the middle of this request. Whether it did what was asked is not known."}
}

func tooSlow() page {
	return page{Status: http.StatusGatewayTimeout, Title: "The answer takes too long", Text: "The application did not answer this request in time."}
}

func slowBody() page {
	return page{Status: http.StatusRequestTimeout, Title: "The request never ended", Text: "Nothing more of it came for " + stallTime.String() + ".", Close: true}
}

// refuse answers with a page that needs nothing from elsewhere, or with plain
// text to those who do not read pages.
func (e *Edge) refuse(w http.ResponseWriter, r *http.Request, p page) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.Again > 0 {
		h.Set("Retry-After", strconv.Itoa(p.Again))
	}
	if p.Close && r.ProtoMajor == 1 {
		h.Set("Connection", "close")
	}
	var b strings.Builder
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		if err := pageTemplate.Execute(&b, p); err != nil {
			e.c.Log.Error("page not made", "error", err)
		}
	} else {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(&b, "%s\n%s\n", p.Title, p.Text)
		if p.Hint != "" {
			fmt.Fprintln(&b, p.Hint)
		}
	}
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(b.String())) // the client may have gone
	}
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; font: 1rem/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText }
main { max-width: 34rem; padding: 2rem; overflow-wrap: anywhere }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0 0 .75rem }
p { margin: 0 0 .75rem }
small { opacity: .7 }
</style>
</head>
<body>
<main>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
{{if .Hint}}<p>{{.Hint}}</p>
{{end}}<small>{{.Status}} · Nutshell</small>
</main>
</body>
</html>
`))
