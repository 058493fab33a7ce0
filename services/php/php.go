// Package php is the service kind that hosts PHP applications: nginx proxies,
// nginx for static files and PHP-FPM for pages. All three parts begin packed
// on one instance and move apart as the service grows. A backend answers its
// proxies over HTTP by an nginx of its own and keeps PHP-FPM on a Unix socket:
// FastCGI over TCP would let anybody who reaches the port run any code.
package php

import (
	"context"
	"embed"
	"encoding/json"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
	"nutshell/services/web/session"
)

//go:embed *.tmpl
var files embed.FS

// Kind describes the service.
func Kind() services.Kind {
	return services.Kind{
		Name: "php", Title: "PHP", Summary: "Hosts PHP applications and static pages; grows by adding backend, web and proxy nodes.",
		Parts:    parts(),
		Packages: packages(),
		Settings: defaults(),

		ExtraPackages: extensionPackages,
		Check:         checkSettings,
		Actions: []api.Action{{Name: "get_php_config", Title: "Show PHP configuration", Reads: true,
			Summary: "Shows the settings that PHP runs with and the code version."}},
		Code:        api.CodeRules{Accepts: true, Help: "an archive with index.php or index.html at its top; files that the application writes stay on their instance and with their version"},
		DefaultCode: map[string]string{"index.html": welcome},
		Manager: func(h services.Host) services.Manager {
			return &manager{web.Manager{Host: h, Terms: terms}}
		},
		Agent: newAgent,
		Tools: map[string]services.Tool{"session": session.Serve},
	}
}

func parts() []services.Part {
	all := web.Parts("PHP")
	for i := range all {
		if all[i].Name == web.Backend {
			all[i].Ports = append(all[i].Ports, api.Port{Number: session.Port, Use: "sessions, among backends"})
		}
	}
	return all
}

func packages() []string {
	list := []string{"nginx-light", "libnginx-mod-http-lua", "php-fpm", "php-cli", "php-redis"}
	for _, e := range append(standardExtensions(), imageExtensions()...) {
		list = append(list, "php-"+e)
	}
	return list
}

const welcome = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Welcome to Nutshell</title></head>
<body>
<h1>Welcome to your PHP service</h1>
<p>It runs, and shows this page until you upload an application and activate it.</p>
</body>
</html>
`

type manager struct{ web.Manager }

// Act runs get_php_config.
func (m *manager) Act(_ context.Context, action string, _ map[string]string) (api.ActResult, error) {
	if action != "get_php_config" {
		return api.ActResult{}, api.Invalidf("php has no action %s", api.Shorten(action))
	}
	return m.Configuration(Kind(), "phpconf")
}

func terms(raw json.RawMessage) (web.Terms, error) {
	s, err := parseSettings(raw)
	if err != nil {
		return web.Terms{}, err
	}
	return web.Terms{BodyMax: bodyMax(s), ReadTimeout: s.RequestTimeout + 10, Snippets: s.Snippets}, nil
}
