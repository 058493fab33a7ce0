package director

import "nutshell/roles/internal/httpapi"

// binRoutes are those of the bin, revisions of settings, and the installation's own settings.
func (d *Director) binRoutes() []httpapi.Route {
	return []httpapi.Route{}
}
