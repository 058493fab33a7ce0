package director

import (
	"net/http"
	"time"

	"nutshell/roles/internal/httpapi"
)

// terminalOpen is how long a terminal may be open. Who is idle is given up
// sooner.
const terminalOpen = 24 * time.Hour

// terminalRoutes are those of terminals into instances, and of their files.
func (d *Director) terminalRoutes() []httpapi.Route {
	const instance = "/applications/{app}/services/{service}/instances/{id}"
	return []httpapi.Route{
		httpapi.On(http.MethodGet, instance+"/terminal", "terminal.open", httpapi.Developer, terminalOpen, "A shell or a command in an instance, as a WebSocket", d.openTerminal),
		httpapi.On(http.MethodGet, instance+"/files", "file.list", httpapi.Developer, called, "What a directory of an instance holds", d.listFiles),
		httpapi.On(http.MethodGet, instance+"/files/content", "file.get", httpapi.Developer, streaming, "A file of an instance", d.getFile).Audited(),
		httpapi.On(http.MethodPut, instance+"/files/content", "file.put", httpapi.Developer, streaming, "Write a file of an instance", d.putFile).Raw(),
	}
}
