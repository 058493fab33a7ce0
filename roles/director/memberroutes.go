package director

import "nutshell/roles/internal/httpapi"

// memberRoutes are those of members of applications.
func (d *Director) memberRoutes() []httpapi.Route {
	return []httpapi.Route{}
}
