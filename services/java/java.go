// Package java is the service kind that hosts Java web applications: nginx
// proxies, nginx for static files and Tomcat for everything else. Each code
// version runs in a Tomcat process of its own, so that a new one is started
// and tried beside the one that serves, and nothing of the old one stays in
// memory afterwards. Tomcat listens on Unix sockets only; backends answer
// proxies elsewhere by an nginx of their own, which knows whom to trust.
package java

import (
	"context"
	"embed"
	"encoding/json"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
	"nutshell/services/web/session"
)

//go:embed *.tmpl tomcat/nutshell.jar
var files embed.FS

// Kind describes the service.
func Kind() services.Kind {
	return services.Kind{
		Name: "java", Title: "Java", Summary: "Hosts Java web applications (servlets, JSP, WebSocket) and static pages; grows by adding backend, web and proxy nodes.",
		Parts:    parts(),
		Packages: []string{"nginx-light", "libnginx-mod-http-lua", "tomcat10-common", "default-jre-headless", "tomcat-jakartaee-migration"},
		Settings: defaults(),
		Check:    checkSettings,
		Actions: []api.Action{{Name: "get_java_config", Title: "Show Java configuration", Reads: true,
			Summary: "Shows the settings that Tomcat runs with and the code version."}},
		Code:        api.CodeRules{Accepts: true, Help: "a WAR, or an archive with what a WAR holds at its top: pages and WEB-INF; applications written for javax.servlet are migrated"},
		DefaultCode: map[string]string{"index.jsp": welcome},
		Manager: func(h services.Host) services.Manager {
			return &manager{web.Manager{Host: h, Terms: terms, Apart: true}}
		},
		Agent: newAgent,
		Tools: map[string]services.Tool{"session": session.Serve},
	}
}

func parts() []services.Part {
	all := web.Parts("Tomcat")
	for i := range all {
		if all[i].Name == web.Backend {
			all[i].Ports = append(all[i].Ports, api.Port{Number: session.Port, Use: "sessions, among backends"})
		}
	}
	return all
}

const welcome = `<%@ page contentType="text/html; charset=UTF-8" session="false" %><!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Welcome to Nutshell</title></head>
<body>
<h1>Welcome to your Java service</h1>
<p>It runs <%= application.getServerInfo().replaceAll("[^A-Za-z0-9./ ()-]", "") %>, and shows this page until you upload an application and activate it.</p>
</body>
</html>
`

type manager struct{ web.Manager }

// Act runs get_java_config.
func (m *manager) Act(_ context.Context, action string, _ map[string]string) (api.ActResult, error) {
	if action != "get_java_config" {
		return api.ActResult{}, api.Invalidf("java has no action %s", api.Shorten(action))
	}
	return m.Configuration(Kind(), "javaconf")
}

func terms(raw json.RawMessage) (web.Terms, error) {
	s, err := parseSettings(raw)
	if err != nil {
		return web.Terms{}, err
	}
	return web.Terms{BodyMax: s.bodyMax(), ReadTimeout: s.RequestTimeout, Snippets: s.Snippets}, nil
}
