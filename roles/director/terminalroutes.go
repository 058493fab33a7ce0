package director

import "nutshell/roles/internal/httpapi"

// terminalRoutes are those of terminals into instances.
func (d *Director) terminalRoutes() []httpapi.Route {
	return []httpapi.Route{}
}
