package client

import (
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) userVerbs() []*cli.Command {
	flags := func() []cli.Flag {
		return []cli.Flag{
			&cli.StringFlag{Name: "email", Usage: "e-mail address"},
			&cli.StringFlag{Name: "fname", Usage: "first name"},
			&cli.StringFlag{Name: "lname", Usage: "last name"},
			&cli.StringFlag{Name: "affiliation", Usage: "where the user works or studies"},
			&cli.StringFlag{Name: "password", Usage: "the new user's password; it is asked for if it is not given"},
			stdinFlag(),
			&cli.Int64Flag{Name: "credit", Value: 50, Usage: "credits to begin with"},
			&cli.BoolFlag{Name: "admin", Usage: "may manage users"},
		}
	}
	return []*cli.Command{
		c.verb("create", "make a new user (admins only)", "<username>", createUser, flags()...),
		c.verb("create-free", "the same as create, kept for old scripts", "<username>", createUser, flags()...),
		c.verb("list", "the users (admins only)", "", listUsers, &cli.BoolFlag{Name: "credit", Usage: "with their credits"}),
		c.verb("add-credit", "give or take credits (admins only)", "<username> <credit>", addCredit, &cli.StringFlag{Name: "reason", Usage: "what the user's ledger says"}),
		c.verb("set-quota", "bound what a user may have at a time; 0: no bound (admins only)", "<username>", setQuota,
			&cli.IntFlag{Name: "applications", Usage: "applications"}, &cli.IntFlag{Name: "instances", Usage: "started instances, managers included"},
			&cli.StringFlag{Name: "volumes", Usage: "sum of the sizes of volumes, such as 50G"}),
		c.verb("get-certificate", "trust the configured director and keep a token for it", "", func(r *call) error { return r.login("") },
			&cli.StringFlag{Name: "fingerprint", Usage: "accept the CA with this SHA-256 without asking"}, stdinFlag(), codeFlag()),
		c.verb("get-config", "your user record", "", userConfig),
		c.verb("get-credit", "your credits", "", func(r *call) error {
			u, err := r.self()
			if err != nil {
				return err
			}
			return r.showText(map[string]int64{"credit": u.Credit}, func(w io.Writer) { fmt.Fprintln(w, u.Credit) })
		}),
		c.verb("passwd", "change a password: yours, or as admin anybody's", "[username]", changePassword, stdinFlag()),
		c.verb("reset-factors", "take somebody's authenticator app and passkeys away who lost them (admins only)", "<username>", resetFactors),
		c.verb("end-sessions", "sign a user out of all browsers (admins only)", "<username>", endSessions),
		examples(c.verb("change", "change what is known of a user; administrators also who is one", "<username>", changeUser,
			&cli.StringFlag{Name: "email", Usage: "e-mail address"}, &cli.StringFlag{Name: "fname", Usage: "first name"}, &cli.StringFlag{Name: "lname", Usage: "last name"},
			&cli.StringFlag{Name: "affiliation", Usage: "where the user works or studies"}, &cli.BoolFlag{Name: "admin", Usage: "may manage users; --admin=false: no longer (admins only)"}),
			"nutshell user change ann --affiliation 'Institute of Botany'", "nutshell user change ann --admin=false"),
		c.verb("delete", "destroy a user who has no applications any more (admins only)", "<username>", deleteUser),
	}
}

func createUser(r *call) error {
	credit := r.Int64("credit")
	in := api.CreateUser{Name: r.arg("username"), Email: r.String("email"), FirstName: r.String("fname"), LastName: r.String("lname"),
		Affiliation: r.String("affiliation"), Password: r.String("password"), Credit: &credit, Admin: r.Bool("admin")}
	var err error
	if in.Email == "" && r.interactive() {
		if in.Email, err = r.ask("E-mail address of " + in.Name + ": "); err != nil {
			return err
		}
	}
	if in.Password == "" {
		if in.Password, err = r.newSecret(in.Name); err != nil {
			return err
		}
	}
	var u api.User
	if err := r.send(http.MethodPost, "/users", in, &u); err != nil {
		return err
	}
	return r.made(u, u.Name, "User '%s' created successfully.", u.Name)
}

func listUsers(r *call) error {
	var all []api.User
	if err := r.get("/users", &all); err != nil {
		return err
	}
	return r.showText(all, func(w io.Writer) {
		for _, u := range all {
			if r.Bool("credit") {
				fmt.Fprintf(w, "%s\t%d\n", printable(u.Name), u.Credit)
				continue
			}
			fmt.Fprintln(w, printable(u.Name))
		}
	})
}

// self is the user who is signed in.
func (r *call) self() (api.User, error) {
	var s api.Session
	err := r.get("/session", &s)
	return s.User, err
}

func userConfig(r *call) error {
	u, err := r.self()
	if err != nil {
		return err
	}
	return r.showText(u, func(w io.Writer) {
		pairs(w, "uid", strconv.FormatInt(u.ID, 10), "username", u.Name, "email", u.Email, "fname", u.FirstName, "lname", u.LastName,
			"affiliation", u.Affiliation, "credit", strconv.FormatInt(u.Credit, 10), "admin", strconv.FormatBool(u.Admin), "created", u.Created.Local().Format("2006-01-02 15:04:05"))
	})
}

func changePassword(r *call) error {
	me, err := r.self()
	if err != nil {
		return err
	}
	name := r.arg("username")
	if name == "" {
		name = me.Name
	}
	var in api.ChangeUser
	if name == me.Name && !r.conn.local() {
		current := r.conn.Password
		if current == "" {
			if current, err = r.askSecret("Current password of " + name + ": "); err != nil {
				return err
			}
		}
		in.Current = &current
	}
	password, err := r.newSecret(name)
	if err != nil {
		return err
	}
	in.Password = &password
	if err := r.send(http.MethodPatch, "/users/"+escape(name), in, nil); err != nil {
		return err
	}
	r.say("Password of '%s' changed.", name)
	return nil
}

func changeUser(r *call) error {
	var in api.ChangeUser
	for flag, to := range map[string]**string{"email": &in.Email, "fname": &in.FirstName, "lname": &in.LastName, "affiliation": &in.Affiliation} {
		if r.IsSet(flag) {
			value := r.String(flag)
			*to = &value
		}
	}
	if r.IsSet("admin") {
		admin := r.Bool("admin")
		in.Admin = &admin
	}
	if in == (api.ChangeUser{}) {
		return usagef("say what to change, such as --email")
	}
	var u api.User
	if err := r.send(http.MethodPatch, "/users/"+escape(r.arg("username")), in, &u); err != nil {
		return err
	}
	return r.made(u, u.Name, "User '%s' was changed.", u.Name)
}

func deleteUser(r *call) error {
	var u api.User
	if err := r.get("/users/"+escape(r.arg("username")), &u); err != nil {
		return err
	}
	if err := r.confirm("user '"+u.Name+"'", u.Name, "user '"+u.Name+"' with their credits, tokens and sessions"); err != nil {
		return err
	}
	op, err := r.change(http.MethodDelete, "/users/"+escape(u.Name), nil, nil)
	if err != nil {
		return err
	}
	return r.finishSaying(op, "User '"+u.Name+"' is being deleted... ", "User '"+u.Name+"' was deleted.")
}
