package web

import (
	"strings"
	"testing"

	"nutshell/roles/api"
)

func TestSnippets(t *testing.T) {
	tests := []struct{ name, text, want string }{ // want: part of the refusal; empty: allowed
		{"empty", "", ""},
		{"header", `add_header X-Frame-Options "SAMEORIGIN" always;`, ""},
		{"redirect", "location = /old { return 301 /new$is_args$args; }\nrewrite \"^/a/(\\d{1,3})$\" /b?n=$1 last; # a comment; with signs {", ""},
		{"regex-with-braces-quoted", `location ~ "^/x{2}$" { expires 30d; }`, ""},
		{"variable-in-braces", `set $my_x "${uri}y"; add_header X "a;b}c";`, ""},
		{"nested", "location /api/ { limit_except GET { deny all; } if ($arg_x) { return 403; } }", ""},
		{"types", "location /d/ { types { text/x-mine mine; } }", ""},
		{"include", "include /etc/passwd;", `"include" is not for users`},
		{"load-module", "load_module x.so;", "load_module"},
		{"lua", `content_by_lua_block { os.execute("x") }`, "content_by_lua_block"},
		{"lua-quoted-name", `"content_by_lua" "os.exit()";`, "content_by_lua"},
		{"alias", "location /x/ { alias /etc/; }", "alias"},
		{"root", "root /;", "root"},
		{"proxy", "location /x { proxy_pass http://10.0.0.1; }", "proxy_pass"},
		{"fastcgi", `location /x { fastcgi_param PHP_VALUE "auto_prepend_file=/etc/passwd"; }`, "fastcgi_param"},
		{"log-to-a-file", "access_log /etc/cron.d/x;", "access_log"},
		{"error-log", "error_log /tmp/x debug;", "error_log"},
		{"steer", "set $docroot /etc;", "$my_"},
		{"steer-quoted", `set "$docroot" /etc;`, "$my_"},
		{"steer-braces", "set $nutshell_pages x;", "the proxy's own"},
		{"own-location", "location @app { return 200; }", "@my_"},
		{"close-server", "} server { listen 1234; }", "unexpected }"},
		{"close-server-later", "if ($a) { return 1; } }", "unexpected }"},
		{"second-server", "server { listen 81; }", `"server" is not for users`},
		{"not-closed", "location /x { return 204;", "not closed"},
		{"no-end", "return 204", "does not end"},
		{"quote-not-closed", `return 200 "x;`, "quote"},
		{"quote-joined", `return 200 "a"include;`, "after a quote"},
		{"hidden-behind-comment", "return 204; # x\ninclude /etc/passwd;", `line 2: "include"`},
		{"hidden-in-types", "types { text/plain x; } include y;", "include"},
		{"block-without-need", "return { include x; }", "form"},
		{"nul", "return 200 a\x00b;", "control character"},
		{"auth-file", "auth_basic_user_file /etc/shadow;", "auth_basic_user_file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Snippets{Server: tt.text}.Validate()
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e := api.AsError(err)
			if e == nil || e.Code != api.CodeInvalid || !strings.Contains(e.Message, tt.want) || len(e.Fields) != 1 || e.Fields[0] != "nginx_server" {
				t.Errorf("got %+v, want an invalid error with %q", e, tt.want)
			}
		})
	}
}
