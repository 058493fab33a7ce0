package director

import (
	"context"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/director/gitserver"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

// GitPort is where the git server listens unless it is told otherwise.
const GitPort = 5522

// gitGrace is how long pushes may go on when the director stops.
const gitGrace = 5 * time.Second

// GitConfig is the git server's.
type GitConfig struct {
	Listen []string // host:port; empty: there is none
	// Optional lets the director start without its git server where another
	// program has the port, and say so.
	Optional               bool
	Push, File, Repository int64 // bytes of one pack, of one file in it and of a repository; 0: defaults
}

// gitHost is the director, seen from its git server.
type gitHost struct{ *Director }

func (d *Director) openGit() error {
	var err error
	l := d.c.Git
	d.git, err = gitserver.New(gitserver.Config{Dir: filepath.Join(d.c.Dir, "git"), Host: gitHost{d}, Now: d.c.Now, Log: d.c.Log,
		Limits: gitserver.Limits{Push: l.Push, File: l.File, Repository: l.Repository}})
	return err
}

// listenGit takes the git server's ports.
func (d *Director) listenGit(ctx context.Context) ([]net.Listener, error) {
	var list []net.Listener
	for _, address := range d.c.Git.Listen {
		n, err := listen(ctx, address)
		if err != nil && d.c.Git.Optional {
			d.c.Log.Warn("no git server", "address", address, "error", err)
			d.mu.Lock()
			d.gitProblem = "the port of " + address + " was taken when the director started; choose another by git.listen"
			d.mu.Unlock()
			continue
		}
		if err != nil {
			for _, n := range list {
				_ = n.Close()
			}
			e := *api.AsError(err)
			e.Hint, e.Fields = "stop it, or choose another port by --git-listen", []string{"git.listen"}
			return nil, &e
		}
		list = append(list, n)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range list {
		d.gitAddress = append(d.gitAddress, n.Addr().String())
	}
	return list, nil
}

// GitAddresses are the host:port pairs that the git server listens on.
func (d *Director) GitAddresses() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.gitAddress)
}

// KnownKey implements gitserver.Host.
func (g gitHost) KnownKey(ctx context.Context, fingerprint string) (bool, error) {
	keys, err := g.store.KeysLike(ctx, fingerprint)
	return len(keys) > 0, err
}

// Find implements gitserver.Host. Paths are OWNER/APPLICATION, or APPLICATION
// for one's own. What a user may not see is not there.
func (g gitHost) Find(ctx context.Context, who gitserver.Caller, path string) (gitserver.Access, error) {
	users, err := g.keyUsers(ctx, who)
	if err != nil {
		return gitserver.Access{}, err
	}
	least := api.AccessViewer
	if who.Write {
		least = api.AccessDeveloper
	}
	var missing error = &api.Error{Code: api.CodeNotFound, Object: "repository " + api.Shorten(path), Message: "there is no such application that you may use",
		Hint: "the path is OWNER/APPLICATION; nutshell git show APPLICATION prints it"}
	owner, name, two := strings.Cut(path, "/")
	var found []gitserver.Access
	for _, u := range users {
		as := httpapi.As(ctx, httpapi.Principal{User: u.User}, nil)
		var a store.Application
		if two {
			a, err = g.ownedBy(as, owner, name, least)
		} else {
			a, err = g.applicationFor(as, path, least)
		}
		switch {
		case api.CodeOf(err) == api.CodeNotFound:
			continue
		case api.CodeOf(err) == api.CodeForbidden:
			missing = err // unless another who has the same key may
			continue
		case err != nil:
			return gitserver.Access{}, err
		}
		found = append(found, gitserver.Access{Repository: a.ID, Name: a.Owner + "/" + a.Name, User: u.Name})
	}
	switch {
	case len(found) == 0:
		return gitserver.Access{}, missing
	case slices.ContainsFunc(found, func(a gitserver.Access) bool { return a.Repository != found[0].Repository }):
		return gitserver.Access{}, &api.Error{Code: api.CodeConflict, Object: "repository " + api.Shorten(path), Message: "several users have your key, and each has such an application",
			Hint: "use OWNER/" + path}
	}
	return found[0], nil
}

// ownedBy finds an application of an owner, if the asker may use it.
func (g gitHost) ownedBy(ctx context.Context, owner, name string, least api.Access) (store.Application, error) {
	o, err := g.store.User(ctx, owner)
	if err != nil {
		return store.Application{}, err
	}
	a, err := g.store.Application(ctx, o.ID, name)
	if err != nil {
		return a, err
	}
	return g.applicationFor(ctx, strconv.FormatInt(a.ID, 10), least)
}

// keyUsers are those whose key was proven: several people may have given the
// same one, and the name of the connection then chooses among them.
func (g gitHost) keyUsers(ctx context.Context, who gitserver.Caller) ([]store.User, error) {
	keys, err := g.store.KeysLike(ctx, who.Fingerprint)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, &api.Error{Code: api.CodeUnauthorized, Message: "your key was revoked"}
	}
	var users []store.User
	now := g.c.Now()
	for _, k := range keys {
		u, err := g.store.User(ctx, strconv.FormatInt(k.User, 10))
		if err != nil {
			return nil, err
		}
		users = append(users, u)
		if now.Sub(k.Used) > tokenTouch {
			if err := g.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.TouchKey(ctx, k.ID) }); err != nil {
				return nil, err
			}
		}
	}
	for _, u := range users {
		if u.Name == who.Login {
			return []store.User{u}, nil
		}
	}
	return users, nil
}

// dropRepository removes the repository of an application that is deleted.
func (d *Director) dropRepository(application int64) {
	d.goWork(func(context.Context) {
		if err := d.git.Remove(application); err != nil {
			d.c.Log.Warn("repository of a deleted application not removed, the next start tries again", "app", application, "error", err)
		}
	})
}

// repositoryURL is where git finds an application's repository, as whoever
// asks reaches us.
func (d *Director) repositoryURL(ctx context.Context, a store.Application) (string, error) {
	d.mu.Lock()
	listen, problem := slices.Clone(d.gitAddress), d.gitProblem
	d.mu.Unlock()
	if len(listen) == 0 {
		if problem == "" {
			problem = "it is switched off in the director's configuration, by git.listen"
		}
		return "", &api.Error{Code: api.CodeUnavailable, Op: "show", Object: "repository of " + a.Name, Message: "the director has no git server: " + problem}
	}
	asked := httpapi.Host(ctx)
	host, port, err := net.SplitHostPort(listen[0])
	if err != nil {
		return "", err
	}
	for _, address := range listen {
		h, p, _ := net.SplitHostPort(address)
		if ip := net.ParseIP(h); h == asked || (ip != nil && ip.IsUnspecified()) {
			host, port = asked, p
			break
		}
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) || (ip != nil && !ip.IsLoopback() && len(d.c.Names) > 0 && asked != host) {
		host = "localhost"
		if len(d.c.Names) > 0 {
			host = d.c.Names[0]
		}
	}
	u := url.URL{Scheme: "ssh", User: url.User("git"), Host: net.JoinHostPort(host, port), Path: "/" + a.Owner + "/" + a.Name}
	return u.String(), nil
}

func (d *Director) getRepository(ctx context.Context, in *ApplicationPath) (api.Repository, error) {
	a, err := d.application(ctx, in.App)
	if err != nil {
		return api.Repository{}, err
	}
	link, err := d.repositoryURL(ctx, a)
	if err != nil {
		return api.Repository{}, err
	}
	sum, err := d.git.Summary(ctx, a.ID)
	if err != nil {
		return api.Repository{}, err
	}
	state, rows, err := d.store.Repository(ctx, a.ID)
	if err != nil {
		return api.Repository{}, err
	}
	folders, err := d.folders(ctx, a.ID, sum.Commit, rows)
	return api.Repository{Clone: cloneLine(link, a.Name), URL: link, HostKey: d.git.HostKey(), Branch: sum.Branch, Commit: sum.Commit, Subject: sum.Subject,
		Pushed: state.Pushed, Bytes: sum.Bytes, Branches: sum.Branches, Folders: folders}, err
}

// cloneLine is a whole command line. git makes a folder of the last part of
// the URL, which must be told where that is no good name.
func cloneLine(link, name string) string {
	line := "git clone " + link
	if strings.ContainsAny(name, " ") {
		line += " '" + strings.ReplaceAll(name, "'", "") + "'"
	}
	return line
}

// folders tells where services have their code.
func (d *Director) folders(ctx context.Context, application int64, commit string, rows []store.Folder) ([]api.Folder, error) {
	services, err := d.codeServices(ctx, application)
	if err != nil {
		return nil, err
	}
	var snap *gitserver.Snapshot
	if commit != "" {
		if snap, err = d.git.Open(ctx, application, commit); err != nil {
			return nil, err
		}
		defer snap.Close()
	}
	list := []api.Folder{}
	for _, s := range services {
		f := api.Folder{Service: s.ID, Names: folderNames(s)}
		if snap != nil {
			f.Found, _, _ = folderOf(snap, s) // a file of that name is none
		}
		if i := slices.IndexFunc(rows, func(r store.Folder) bool { return r.Service == s.ID }); i >= 0 {
			f.Version = rows[i].Version
		}
		list = append(list, f)
	}
	return list, nil
}

// codeServices are an application's services that keep code.
func (d *Director) codeServices(ctx context.Context, application int64) ([]store.Service, error) {
	all, err := d.store.Services(ctx, store.Selection{Application: application})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(all), func(s store.Service) bool {
		k, err := d.c.Services.Get(s.Kind)
		return err != nil || !k.Code.Accepts || s.Deleting
	}), nil
}

func folderNames(s store.Service) []string { return []string{strconv.FormatInt(s.ID, 10), s.Name} }

// folderOf finds a service's folder: the one named by its id comes first.
func folderOf(snap *gitserver.Snapshot, s store.Service) (name, tree string, err error) {
	var problems []error
	for _, name := range folderNames(s) {
		tree, err := snap.Folder(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if tree != "" {
			return name, tree, nil
		}
	}
	return "", "", errors.Join(problems...)
}
