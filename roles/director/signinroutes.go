package director

import "nutshell/roles/internal/httpapi"

// signInRoutes are those of second factors, passkeys, sessions and the first run.
func (d *Director) signInRoutes() []httpapi.Route {
	return []httpapi.Route{}
}
