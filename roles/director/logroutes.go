package director

import (
	"net/http"

	"nutshell/roles/internal/httpapi"
)

// logRoutes are those of reading and searching logs.
func (d *Director) logRoutes() []httpapi.Route {
	const app = "/applications/{app}/logs"
	return []httpapi.Route{
		httpapi.On(http.MethodGet, app, "log.sources", httpapi.Viewer, called, "The logs of an application", d.logSources),
		httpapi.On(http.MethodGet, app+"/lines", "log.lines", httpapi.Viewer, called, "Lines of an application's logs, merged by time", d.logLines),
		httpapi.On(http.MethodGet, app+"/counts", "log.counts", httpapi.Viewer, called, "How many lines match, over time and by level", d.logCounts),
		// Whoever follows comes back, and is asked again who they are.
		httpapi.On(http.MethodGet, app+"/follow", "log.follow", httpapi.Viewer, action, "The newest lines, and what is written, one JSON object a line", d.followLogs),
		httpapi.On(http.MethodGet, app+"/download", "log.download", httpapi.Viewer, transfer, "All lines that match, as text", d.downloadLogs),
	}
}
