package director

import (
	"context"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
)

// Time limits of requests.
const (
	short     = 15 * time.Second
	called    = time.Minute     // a manager is asked
	poll      = 2 * time.Minute // the client waits for something
	action    = 10 * time.Minute
	transfer  = 2 * time.Hour // archives and followed logs
	launch    = 30 * time.Minute
	streaming = 24 * time.Hour // files of any size; who is silent for long is given up sooner
)

// routes is the whole API: what it is called, who may use it, how long it may
// take.
func (d *Director) routes() []httpapi.Route {
	const (
		get, post, put, patch, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
		app                        = "/applications/{app}"
		services                   = app + "/services"
		service                    = services + "/{service}"
		instance                   = service + "/instances/{id}"
		version                    = service + "/versions/{version}"
		uploads                    = service + "/uploads"
		upload                     = uploads + "/{upload}"
	)
	list := []httpapi.Route{
		httpapi.On(get, "/health", "health", httpapi.Public, short, "Is the director there?", d.health),
		httpapi.On(get, "/version", "version", httpapi.Public, short, "What software answers", d.softwareVersion),
		httpapi.On(get, "/ca", "ca", httpapi.Public, short, "The root certificate", d.rootCertificate),
		httpapi.On(get, "/binary", "binary", httpapi.AnyRole, transfer, "The director's own program", d.sendBinary),

		httpapi.On(post, "/session", "session.create", httpapi.Public, short, "Sign in", d.signIn),
		httpapi.On(get, "/session", "session.get", httpapi.User, short, "Who is signed in", d.session),
		httpapi.On(del, "/session", "session.delete", httpapi.User, short, "Sign out", d.signOut),
		httpapi.On(get, "/users", "user.list", httpapi.Admin, short, "All users", d.users),
		httpapi.On(post, "/users", "user.create", httpapi.Admin, short, "Create a user", d.createUser).Status(http.StatusCreated),
		httpapi.On(get, "/users/{user}", "user.get", httpapi.User, short, "One user", d.getUser),
		httpapi.On(patch, "/users/{user}", "user.change", httpapi.User, short, "Change a user", d.changeUser),
		httpapi.On(del, "/users/{user}", "user.delete", httpapi.Admin, short, "Delete a user without applications", d.deleteUser),
		httpapi.On(get, "/users/{user}/account", "credit.account", httpapi.User, short, "What a user has and uses", d.account),
		httpapi.On(get, "/users/{user}/ledger", "credit.ledger", httpapi.User, short, "A user's ledger, newest first", d.ledger),
		httpapi.On(post, "/users/{user}/credit", "credit.grant", httpapi.Admin, short, "Give credits to a user, or take some", d.grantCredit),
		httpapi.On(put, "/users/{user}/quota", "credit.quota", httpapi.Admin, short, "Bound what a user may have at a time", d.setQuota),
		httpapi.On(get, "/tokens", "token.list", httpapi.User, short, "Your API tokens", d.tokens),
		httpapi.On(post, "/tokens", "token.create", httpapi.User, short, "Make an API token", d.createToken).Status(http.StatusCreated),
		httpapi.On(del, "/tokens/{id}", "token.delete", httpapi.User, short, "Revoke an API token", d.deleteToken),

		httpapi.On(get, "/keys", "key.list", httpapi.User, short, "Your public keys for git", d.listKeys),
		httpapi.On(post, "/keys", "key.create", httpapi.User, short, "Add public keys for git", d.addKeys).Status(http.StatusCreated),
		httpapi.On(del, "/keys/{id}", "key.delete", httpapi.User, short, "Revoke a public key", d.deleteKey),

		httpapi.On(get, "/clouds", "cloud.list", httpapi.User, called, "Clouds and whether they are ready", d.listClouds),
		httpapi.On(get, "/kinds", "kind.list", httpapi.User, short, "Kinds of services", d.listKinds),
		httpapi.On(get, "/kinds/{kind}", "kind.get", httpapi.User, short, "One kind of service", d.getKind),
		httpapi.On(get, "/resources", "resource.list", httpapi.User, short, "Instances of all your applications", d.resources),

		httpapi.On(get, "/applications", "application.list", httpapi.User, short, "Your applications", d.listApplications),
		httpapi.On(post, "/applications", "application.create", httpapi.User, short, "Create an application", d.createApplication).Status(http.StatusCreated),
		httpapi.On(get, app, "application.get", httpapi.Viewer, short, "An application with its services", d.getApplication),
		httpapi.On(patch, app, "application.rename", httpapi.Owner, short, "Rename an application", d.renameApplication),
		httpapi.On(del, app, applicationDelete, httpapi.Owner, short, "Delete an application with all it holds", d.deleteApplication).Status(http.StatusAccepted),
		httpapi.On(post, app+"/start", applicationStart, httpapi.Developer, short, "Start an application", d.startApplication).Status(http.StatusAccepted),
		httpapi.On(post, app+"/stop", applicationStop, httpapi.Developer, short, "Stop an application and keep all it holds", d.stopApplication).Status(http.StatusAccepted),
		httpapi.On(get, app+"/history", "application.history", httpapi.Viewer, short, "States of an application", d.applicationHistory),
		httpapi.On(get, app+"/log", "application.log", httpapi.Viewer, transfer, "The manager's log", d.applicationLog),

		httpapi.On(get, app+"/repository", "repository.get", httpapi.Viewer, short, "The git repository of an application", d.getRepository),

		httpapi.On(get, "/services", "service.list_all", httpapi.User, short, "Services of all your applications", d.listServices),
		httpapi.On(get, services, "service.list", httpapi.Viewer, short, "Services of an application", d.listApplicationServices),
		httpapi.On(post, services, "service.create", httpapi.Developer, called, "Create a service", d.createService).Status(http.StatusCreated),
		httpapi.On(get, service, "service.get", httpapi.Viewer, short, "A service with its instances", d.getService),
		httpapi.On(patch, service, "service.change", httpapi.Developer, short, "Change a service's name and what becomes of its versions", d.changeService),
		httpapi.On(del, service, serviceDelete, httpapi.Owner, short, "Delete a service with all it holds", d.deleteService).Status(http.StatusAccepted),
		httpapi.On(post, service+"/start", serviceStart, httpapi.Developer, short, "Start a service", d.startService).Status(http.StatusAccepted),
		httpapi.On(post, service+"/stop", serviceStop, httpapi.Developer, short, "Stop a service", d.stopService).Status(http.StatusAccepted),
		httpapi.On(post, service+"/scale", serviceScale, httpapi.Developer, short, "Change the counts of parts", d.scale).Status(http.StatusAccepted),
		httpapi.On(post, service+"/preview", "service.preview", httpapi.Viewer, short, "What a scaling would do", d.preview).Quiet(),
		httpapi.On(get, service+"/settings", "service.settings", httpapi.Viewer, short, "Settings of a service", d.getSettings),
		httpapi.On(patch, service+"/settings", serviceConfigure, httpapi.Developer, short, "Change settings of a service", d.configure),
		httpapi.On(get, service+"/environment", "service.variables", httpapi.Viewer, short, "Environment variables of a service", d.getEnvironment),
		httpapi.On(patch, service+"/environment", serviceEnvironment, httpapi.Developer, short, "Set and remove environment variables", d.changeEnvironment),
		httpapi.On(get, service+"/secrets", "secret.list", httpapi.Viewer, short, "Secrets of a service that are yours", d.listSecrets),
		httpapi.On(put, service+"/secrets/{secret}", serviceSecret, httpapi.Developer, short, "Set a secret, or have a random one made", d.setSecret),
		httpapi.On(post, service+"/secrets/{secret}/show", "secret.show", httpapi.Developer, short, "Show a secret's value, once", d.showSecret),
		httpapi.On(put, service+"/weights", serviceWeights, httpapi.Developer, short, "Set shares of the requests", d.setWeights).Status(http.StatusAccepted),
		httpapi.On(get, service+"/history", "service.history", httpapi.Viewer, short, "States of a service", d.serviceHistory),
		httpapi.On(get, service+"/log", "service.log", httpapi.Viewer, transfer, "The manager's log of a service", d.serviceLog),
		httpapi.On(get, service+"/script", "service.script", httpapi.Viewer, short, "The startup script", d.getScript),
		httpapi.On(put, service+"/script", "service.set_script", httpapi.Developer, short, "Set the startup script", d.putScript),
		httpapi.On(post, service+"/actions/{action}", "service.act", httpapi.Viewer, action, "Run an action of the kind", d.act),
		httpapi.On(get, service+"/bindings", "service.bindings", httpapi.Viewer, called, "What a service offers to its siblings and gets of them", d.bindings),
		httpapi.On(post, service+"/streams/{action}", serviceStream, httpapi.Developer, streaming, "Send the file that an action takes", d.takeStream).Raw().AnyQuery(),
		httpapi.On(get, service+"/streams/{action}", "service.give", httpapi.Developer, streaming, "Get the file that an action gives", d.giveStream).AnyQuery(),
		httpapi.On(get, service+"/backups", "backup.list", httpapi.Viewer, short, "Backups of a service", d.listBackups),
		httpapi.On(post, service+"/backups", serviceBackup, httpapi.Developer, short, "Take a backup now", d.createBackup).Status(http.StatusAccepted),
		httpapi.On(post, service+"/restore", serviceRestore, httpapi.Developer, short, "Put back the data of a backup, also in a new service", d.restoreService).Status(http.StatusAccepted),
		httpapi.On(post, app+"/restore", "application.restore", httpapi.Developer, short, "Make a service of a backup", d.restoreApplication).Status(http.StatusAccepted),
		httpapi.On(get, "/backups", "backup.list_all", httpapi.User, short, "Backups of all your services, gone ones too", d.allBackups),
		httpapi.On(get, "/backups/{id}", "backup.get", httpapi.Viewer, short, "One backup", d.getBackup),
		httpapi.On(del, "/backups/{id}", "backup.delete", httpapi.Owner, short, "Delete a backup", d.deleteBackup),
		httpapi.On(post, "/backups/{id}/verify", serviceVerify, httpapi.Developer, short, "Restore a backup on trial", d.verifyBackup).Status(http.StatusAccepted),
		httpapi.On(get, service+"/instances", "instance.list", httpapi.Viewer, short, "Instances of a service", d.listInstances),
		httpapi.On(get, instance, "instance.get", httpapi.Viewer, called, "What an instance observes of itself", d.instanceStatus),
		httpapi.On(get, instance+"/logs", "instance.logs", httpapi.Viewer, called, "Logs of an instance", d.listLogs),
		httpapi.On(get, instance+"/logs/{log}", "instance.log", httpapi.Viewer, transfer, "One log of an instance", d.instanceLog),

		httpapi.On(get, service+"/versions", "version.list", httpapi.Viewer, short, "Code versions", d.listVersions),
		httpapi.On(post, service+"/versions", "version.create", httpapi.Developer, transfer, "Upload a code version", d.upload).Status(http.StatusCreated).Raw(),
		httpapi.On(get, uploads, "upload.list", httpapi.Viewer, short, "Uploads that are not finished", d.listUploads),
		httpapi.On(post, uploads, "upload.create", httpapi.Developer, short, "Begin an upload, or go on with one that was broken off", d.startUpload).Status(http.StatusCreated),
		httpapi.On(get, upload, "upload.get", httpapi.Viewer, short, "How much of an upload has come", d.getUpload),
		httpapi.On(patch, upload, "upload.append", httpapi.Developer, transfer, "Send the next bytes of an upload", d.appendUpload).Raw().Quiet(),
		httpapi.On(post, upload+"/finish", "upload.finish", httpapi.Developer, transfer, "Make a code version of an upload", d.finishUpload).Status(http.StatusCreated),
		httpapi.On(del, upload, "upload.delete", httpapi.Developer, short, "Give up an upload", d.deleteUpload),
		httpapi.On(get, version+"/files", "version.files", httpapi.Viewer, action, "Files of a code version", d.versionFiles),
		httpapi.On(get, version+"/diff/{from}", "version.diff", httpapi.Viewer, action, "How a code version differs from another", d.versionDiff),
		httpapi.On(post, service+"/rollback", "version.rollback", httpapi.Developer, short, "Activate the version that served before", d.rollback),
		httpapi.On(get, version, "version.get", httpapi.Viewer, short, "One code version", d.getVersion),
		httpapi.On(del, version, "version.delete", httpapi.Developer, short, "Delete a code version", d.deleteVersion),
		httpapi.On(get, version+"/download", "version.download", httpapi.Viewer, transfer, "The archive of a code version", d.download),
		httpapi.On(post, service+"/activate", serviceActivate, httpapi.Developer, short, "Activate a code version", d.activate),

		httpapi.On(get, service+"/graphs", "service.graphs", httpapi.Viewer, called, "What instances measured, over time", d.graphs),
		httpapi.On(get, "/metrics", "metrics", httpapi.Admin, called, "Figures of the director and the last of each instance, for Prometheus", d.metricsText),

		httpapi.On(get, "/edge", "edge.get", httpapi.User, short, "Whether services are shown under names of their own", d.getEdge),
		httpapi.On(get, service+"/sites", "site.list", httpapi.Viewer, short, "Host names of a service", d.listSites),
		httpapi.On(post, service+"/sites", "site.add", httpapi.Developer, short, "Give a service a host name, or a host name another certificate", d.addSite).Status(http.StatusCreated),
		httpapi.On(del, service+"/sites/{name}", "site.remove", httpapi.Developer, short, "Give a host name up", d.deleteSite),

		httpapi.On(get, "/operations", "operation.list", httpapi.User, short, "Operations, newest first", d.listOperations),
		httpapi.On(get, "/operations/{id}", "operation.get", httpapi.Viewer, poll, "One operation, perhaps when it has ended", d.getOperation),
		httpapi.On(post, "/operations/{id}/cancel", "operation.cancel", httpapi.Developer, short, "Cancel an operation", d.cancel),
		httpapi.On(post, "/operations/{id}/retry", "operation.retry", httpapi.Developer, short, "Try a failed operation again", d.retry).Status(http.StatusAccepted),
		httpapi.On(get, "/events", "event.stream", httpapi.User, transfer, "What changes, as it changes", d.events),
		httpapi.On(get, "/audit", "audit.list", httpapi.Admin, short, "Who asked for which change", d.audit),

		httpapi.On(post, "/enrol", "member.enrol", httpapi.Public, short, "Become a member with a single-use secret", d.enrol),
		httpapi.On(post, "/renew", "member.renew", httpapi.Renewing, short, "Renew a member's certificate", d.renew).Quiet(),
		httpapi.On(get, "/manager/desired", "manager.desired", httpapi.Manager, poll, "What the director wants", d.desired),
		httpapi.On(post, "/manager/launch", "manager.launch", httpapi.Manager, launch, "Start instances", d.launchInstances),
		httpapi.On(post, "/manager/volumes", "manager.volumes", httpapi.Manager, action, "Give an instance the volumes that its parts need", d.giveVolumes),
		httpapi.On(post, "/manager/terminate", "manager.terminate", httpapi.Manager, action, "End instances", d.terminateInstances),
		httpapi.On(post, "/manager/report", "manager.report", httpapi.Manager, short, "What a manager observed", d.report).Quiet(),
		httpapi.On(post, "/manager/measured", "manager.measured", httpapi.Manager, short, "What instances measured", d.measured).Quiet(),
		httpapi.On(post, "/manager/operations/{id}", "manager.operation", httpapi.Manager, short, "How far an operation is", d.reportOperation).Quiet(),
		httpapi.On(get, "/blobs/{sha256}", "blob.get", httpapi.Agent, transfer, "Code of the agent's service", d.blob),
	}
	return slices.Concat(list, d.volumeRoutes(), d.manifestRoutes(), d.memberRoutes(), d.signInRoutes(), d.terminalRoutes(), d.logRoutes(), d.binRoutes(), d.nodeRoutes())
}

type healthy struct {
	Status string `json:"status"`
}

func (d *Director) health(context.Context, *struct{}) (healthy, error) { return healthy{"ok"}, nil }

func (d *Director) softwareVersion(context.Context, *struct{}) (api.Version, error) {
	v := version()
	v.Installation, v.BinSeconds, v.CAExpires = d.installation, int64(d.binKeep()/time.Second), d.ca.Expires().UTC()
	sum, err := d.binary()
	v.BinarySHA256 = sum
	return v, err
}

func version() api.Version {
	v := api.Version{Version: "devel"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Go = info.GoVersion
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

func (d *Director) rootCertificate(context.Context, *struct{}) (*httpapi.Stream, error) {
	return &httpapi.Stream{Type: "application/x-pem-file", Filename: "nutshell-" + d.installation + "-ca.pem", Read: text(string(d.ca.RootPEM()))}, nil
}

type reader struct{ *strings.Reader }

// Close does nothing.
func (reader) Close() error { return nil }

func text(s string) reader { return reader{strings.NewReader(s)} }

// events tells a user what changes in what is theirs. A client that was away
// too long starts afresh: hello makes it read everything again.
func (d *Director) events(ctx context.Context, in *struct {
	Last  string `header:"Last-Event-ID"`
	After int64  `query:"after"`
	All   bool   `query:"all"`
}) (*httpapi.Events, error) {
	p := httpapi.Who(ctx).User
	oldest, newest, err := d.store.EventRange(ctx)
	if err != nil {
		return nil, err
	}
	after := in.After
	if n, err := strconv.ParseInt(in.Last, 10, 64); err == nil {
		after = n
	}
	if after <= 0 || after > newest || after < oldest-1 {
		after = newest
	}
	ctx, err = d.whileSignedIn(ctx)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(ctx)
	context.AfterFunc(d.waits, end)
	return &httpapi.Events{After: after, Changed: d.store.Changed, Stop: ctx.Done(), Next: func(ctx context.Context, after int64) ([]api.Event, error) {
		return d.store.EventsFor(ctx, p.ID, p.Admin, in.All && p.Admin, after, 500)
	}}, nil
}
