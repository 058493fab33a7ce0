package web

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"nutshell/roles/api"
)

// Snippets are a user's own lines for the proxies' nginx. Kinds embed it in
// their settings.
type Snippets struct {
	Server   string `json:"nginx_server" title:"nginx: server" help:"lines for the server block of the proxies' nginx, such as rewrite, return, add_header and location blocks" type:"text" max:"16384"`
	Location string `json:"nginx_location" title:"nginx: location" help:"lines for the block of the proxies' nginx that all paths go through that no other location takes" type:"text" max:"16384"`
}

// allowed are the directives that users may use: how a request is answered,
// not where files, programs, logs and other servers are.
var allowed = map[string]bool{
	"absolute_redirect": true, "add_header": true, "allow": true, "auth_basic": true, "autoindex": true, "autoindex_exact_size": true, "autoindex_localtime": true,
	"break": true, "charset": true, "chunked_transfer_encoding": true, "client_body_timeout": true, "client_max_body_size": true, "default_type": true, "deny": true,
	"error_page": true, "etag": true, "expires": true, "gzip": true, "gzip_comp_level": true, "gzip_disable": true, "gzip_http_version": true, "gzip_min_length": true,
	"gzip_proxied": true, "gzip_types": true, "gzip_vary": true, "if": true, "if_modified_since": true, "internal": true, "keepalive_timeout": true, "limit_except": true,
	"limit_rate": true, "limit_rate_after": true, "location": true, "max_ranges": true, "msie_padding": true, "port_in_redirect": true, "recursive_error_pages": true,
	"return": true, "rewrite": true, "satisfy": true, "send_timeout": true, "server_name_in_redirect": true, "server_tokens": true, "set": true,
	"sub_filter": true, "sub_filter_last_modified": true, "sub_filter_once": true, "sub_filter_types": true, "try_files": true, "types": true, "valid_referers": true,
}

// ownVariable is what users may set; the others steer the proxy.
var ownVariable = regexp.MustCompile(`^\$my_[a-z0-9_]{1,60}$`)

// Validate refuses what users may not say; nginx itself is asked when it is
// used, see Nginx.Serve.
func (s Snippets) Validate() error {
	for _, f := range []struct{ name, text string }{{"nginx_server", s.Server}, {"nginx_location", s.Location}} {
		if err := checkSnippet(f.text); err != nil {
			return &api.Error{Code: api.CodeInvalid, Object: "setting " + f.name, Message: err.Error(), Hint: "allowed are " + strings.Join(allowedNames(), ", "), Fields: []string{f.name}}
		}
	}
	return nil
}

// blame makes nginx's refusal of a configuration with a user's lines an error
// that names them. Without such lines it is our own.
func (s Snippets) blame(err error) error {
	e := api.AsError(err)
	if s == (Snippets{}) || e == nil || e.Op != checkOp {
		return err
	}
	message := "nginx refuses them"
	if len(e.LogTail) > 0 {
		message += ": " + e.LogTail[0]
	}
	return &api.Error{Code: api.CodeInvalid, Op: "use", Object: "settings nginx_server and nginx_location", Message: message, LogTail: e.LogTail, Fields: []string{"nginx_server", "nginx_location"},
		Hint: "mend them; what served goes on"}
}

func allowedNames() []string {
	return slices.Sorted(maps.Keys(allowed))
}

// checkSnippet reads text as nginx does: words, quotes, comments, ; { and }.
func checkSnippet(text string) error {
	var words []string
	var blocks []string
	line := 1
	for rest := text; ; {
		t, n, err := nextToken(rest)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		line += strings.Count(rest[:n], "\n")
		rest = rest[n:]
		switch t {
		case "":
			switch {
			case len(words) > 0:
				return fmt.Errorf("line %d: %s does not end in ; or {", line, api.Shorten(words[0]))
			case len(blocks) > 0:
				return fmt.Errorf("a block of %s is not closed", blocks[len(blocks)-1])
			}
			return nil
		case ";", "{":
			inTypes := len(blocks) > 0 && blocks[len(blocks)-1] == "types"
			if len(words) == 0 {
				return fmt.Errorf("line %d: unexpected %s", line, t)
			}
			if inTypes && t == "{" {
				return fmt.Errorf("line %d: unexpected {", line)
			}
			if !inTypes {
				if err := checkDirective(words, t == "{"); err != nil {
					return fmt.Errorf("line %d: %w", line, err)
				}
			}
			if t == "{" {
				blocks = append(blocks, words[0])
			}
			words = nil
		case "}":
			if len(words) > 0 || len(blocks) == 0 {
				return fmt.Errorf("line %d: unexpected }", line)
			}
			blocks = blocks[:len(blocks)-1]
		default:
			words = append(words, t)
		}
	}
}

func checkDirective(words []string, block bool) error {
	name := words[0]
	if !allowed[name] {
		return fmt.Errorf("%s is not for users", api.Shorten(name))
	}
	if opens := name == "if" || name == "location" || name == "types" || name == "limit_except"; opens != block {
		return fmt.Errorf("%s is not a directive of that form", name)
	}
	for _, w := range words[1:] {
		if strings.Contains(w, "nutshell") {
			return fmt.Errorf("%s is the proxy's own", api.Shorten(w))
		}
	}
	switch {
	case name == "set" && (len(words) != 3 || !ownVariable.MatchString(words[1])):
		return errors.New("set is for variables whose names begin with $my_")
	case name == "location" && len(words) > 1 && strings.HasPrefix(words[1], "@") && !strings.HasPrefix(words[1], "@my_"):
		return errors.New("named locations begin with @my_")
	}
	return nil
}

// nextToken returns the next word, ";", "{" or "}", without quotes, and how
// many bytes it took; an empty token is the end.
func nextToken(s string) (token string, n int, err error) {
	i := 0
	for i < len(s) {
		switch c := s[i]; c {
		case '#':
			for i < len(s) && s[i] != '\n' {
				i++
			}
		case ' ', '\t', '\r', '\n':
			i++
		case ';', '{', '}':
			return string(c), i + 1, nil
		case '"', '\'':
			return quoted(s, i)
		default:
			return plain(s, i)
		}
	}
	return "", i, nil
}

func quoted(s string, i int) (string, int, error) {
	quote := s[i]
	var b strings.Builder
	for j := i + 1; j < len(s); j++ {
		switch {
		case s[j] == '\\' && j+1 < len(s):
			b.WriteString(s[j : j+2])
			j++
		case s[j] == quote:
			if j+1 < len(s) && !strings.ContainsRune(" \t\r\n;{)", rune(s[j+1])) {
				return "", 0, fmt.Errorf("unexpected %q after a quote", s[j+1])
			}
			if b.Len() == 0 {
				return " ", j + 1, nil // an empty word is a word too
			}
			return b.String(), j + 1, nil
		default:
			b.WriteByte(s[j])
		}
	}
	return "", 0, errors.New("a quote is not closed")
}

// plain is a word without quotes; it ends where nginx ends it; ${name} and \ belong to it.
func plain(s string, i int) (string, int, error) {
	for j := i; j < len(s); j++ {
		switch c := s[j]; {
		case c == '\\':
			j++
		case c == '$' && j+1 < len(s) && s[j+1] == '{':
			j++
		case strings.IndexByte(" \t\r\n;{", c) >= 0:
			return s[i:j], j, nil
		case c < ' ' || c == 0x7f:
			return "", 0, errors.New("a control character")
		}
	}
	return s[i:], len(s), nil
}
