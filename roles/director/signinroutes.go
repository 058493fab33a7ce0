package director

import (
	"net/http"

	"nutshell/roles/internal/httpapi"
)

// signInRoutes are those of second factors, passkeys, sessions and the first run.
func (d *Director) signInRoutes() []httpapi.Route {
	const (
		get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	)
	return []httpapi.Route{
		httpapi.On(post, "/session/passkey/begin", "session.passkey_begin", httpapi.Public, short, "Begin to use a passkey", d.askForPasskey).Quiet(),
		httpapi.On(post, "/session/passkey", "session.passkey", httpapi.Public, short, "Sign in with a passkey", d.signInByPasskey),
		httpapi.On(post, "/proof", "session.prove", httpapi.User, short, "Show again who you are, before something that matters", d.prove),
		httpapi.On(get, "/sessions", "session.list", httpapi.User, short, "Where you are signed in", d.listSessions),
		httpapi.On(del, "/sessions", "session.revoke_others", httpapi.User, short, "Sign out everywhere else", d.deleteSessions),
		httpapi.On(del, "/sessions/{id}", "session.revoke", httpapi.User, short, "End one of your sessions", d.deleteSession),

		httpapi.On(get, "/factors", "factor.list", httpapi.User, short, "What you prove by who you are, beside the password", d.factors),
		httpapi.On(post, "/factors/totp/begin", "factor.totp_begin", httpapi.User, short, "Begin to set up an authenticator app", d.beginTOTP),
		httpapi.On(post, "/factors/totp", "factor.totp", httpapi.User, short, "Turn the second factor on with a first code", d.enableTOTP),
		httpapi.On(del, "/factors/totp", "factor.totp_off", httpapi.User, short, "Turn the second factor off", d.disableTOTP),
		httpapi.On(post, "/factors/recovery", "factor.recovery", httpapi.User, short, "Make new recovery codes", d.renewRecovery),
		httpapi.On(post, "/passkeys/begin", "passkey.begin", httpapi.User, short, "Begin to make a passkey", d.beginPasskey),
		httpapi.On(post, "/passkeys", "passkey.create", httpapi.User, short, "Add a passkey", d.addPasskey).Status(http.StatusCreated),
		httpapi.On(patch, "/passkeys/{id}", "passkey.rename", httpapi.User, short, "Rename a passkey", d.renamePasskey),
		httpapi.On(del, "/passkeys/{id}", "passkey.delete", httpapi.User, short, "Delete a passkey", d.deletePasskey),

		httpapi.On(del, "/users/{user}/sessions", "user.revoke_sessions", httpapi.Admin, short, "Sign a user out everywhere", d.endUserSessions),
		httpapi.On(del, "/users/{user}/factors", "user.reset_factors", httpapi.Admin, short, "Take a user's second factor and passkeys away", d.resetFactors),

		httpapi.On(get, "/setup", "setup.get", httpapi.Admin, called, "How far a new installation is set up", d.setup),
		httpapi.On(post, "/setup/done", "setup.done", httpapi.Admin, short, "End the first run", d.setupDone),
		httpapi.On(put, "/clouds/{cloud}/default", "cloud.choose", httpapi.Admin, called, "Make a cloud the one of applications that name none", d.chooseCloud),
	}
}
