package director

import "nutshell/roles/internal/httpapi"

// logRoutes are those of reading and searching logs.
func (d *Director) logRoutes() []httpapi.Route {
	return []httpapi.Route{}
}
