package client

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// sessionVerbs are the verbs of the object session: where browsers are signed in.
func (c *Client) sessionVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "where you are signed in with a browser", "", listSessions),
		examples(c.verb("revoke", "end a session, with the pages and terminals that are open in it", "[session_id]", revokeSession,
			&cli.BoolFlag{Name: "all", Usage: "all of yours"}), "nutshell session revoke ab2cd3ef", "nutshell session revoke --all"),
	}
}

func listSessions(r *call) error {
	var all []api.OpenSession
	if err := r.get("/sessions", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"id", "seen", "from", "since", "expires", "browser"}, none: "No browser is signed in."}
	for _, s := range all {
		t.add(s.ID, s.Seen.Local().Format(time.DateTime), orDash(s.Remote), s.Created.Local().Format(time.DateTime), s.Expires.Local().Format(time.DateOnly), orDash(s.Agent))
	}
	return r.show(all, t)
}

func revokeSession(r *call) error {
	id := r.arg("session_id")
	switch {
	case r.Bool("all") && id != "":
		return usagef("name a session, or give --all, not both")
	case r.Bool("all"):
		if err := r.send(http.MethodDelete, "/sessions", nil, nil); err != nil {
			return err
		}
		r.say("You are signed out of all browsers.")
		return nil
	case id == "":
		return usagef("which session? nutshell session list shows them; --all is all of them")
	}
	if err := r.send(http.MethodDelete, "/sessions/"+escape(id), nil, nil); err != nil {
		return err
	}
	r.say("Session %s ended.", id)
	return nil
}

// factorVerbs are the verbs of the object factor: the authenticator app.
func (c *Client) factorVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("show", "whether a second factor is on, and the recovery codes that are left", "", showFactors),
		c.verb("set-up", "turn the second factor on: shows a secret for an authenticator app and asks for its first code", "", setUpFactor),
		c.verb("turn-off", "sign in with the password alone again", "", func(r *call) error {
			if err := r.proving(func() error { return r.send(http.MethodDelete, "/factors/totp", nil, nil) }); err != nil {
				return err
			}
			r.say("The second factor is off.")
			return nil
		}),
		c.verb("recovery-codes", "make new recovery codes; the old ones are void", "", func(r *call) error {
			var made api.RecoveryCodes
			if err := r.proving(func() error { return r.send(http.MethodPost, "/factors/recovery", nil, &made) }); err != nil {
				return err
			}
			return r.showCodes(made)
		}),
	}
}

func showFactors(r *call) error {
	var f api.Factors
	if err := r.get("/factors", &f); err != nil {
		return err
	}
	return r.showText(f, func(w io.Writer) {
		app, codes := "off", "none"
		if f.TOTP != nil {
			app, codes = "on since "+f.TOTP.Since.Local().Format(time.DateTime), strconv.Itoa(f.TOTP.Recovery)+" left"
		}
		pairs(w, "authenticator app", app, "recovery codes", codes, "passkeys", strconv.Itoa(len(f.Passkeys)))
	})
}

func setUpFactor(r *call) error {
	if !r.interactive() {
		return &api.Error{Code: api.CodeInvalid, Op: "set up", Object: "second factor", Message: "a code of the app is needed and there is no terminal to ask at", Hint: "run this at a terminal, or use the pages: Profile, Second factor"}
	}
	var made api.NewTOTP
	if err := r.proving(func() error { return r.send(http.MethodPost, "/factors/totp/begin", nil, &made) }); err != nil {
		return err
	}
	fmt.Fprintf(r.o.Stderr, "Type this secret into your authenticator app, or open the address with it:\n  %s\n  %s\n", printable(made.Secret), printable(made.URI))
	code, err := r.ask("The code that it shows now: ")
	if err != nil {
		return err
	}
	var codes api.RecoveryCodes
	if err := r.proving(func() error { return r.send(http.MethodPost, "/factors/totp", api.OneTimeCode{Code: code}, &codes) }); err != nil {
		return err
	}
	r.say("The second factor is on. Keep these recovery codes: each lets you in once when the app is lost.")
	return r.showCodes(codes)
}

func (r *call) showCodes(made api.RecoveryCodes) error {
	return r.showText(made, func(w io.Writer) {
		for _, c := range made.Codes {
			fmt.Fprintln(w, printable(c))
		}
	})
}

// passkeyVerbs are the verbs of the object passkey. Only browsers make them.
func (c *Client) passkeyVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "your passkeys; browsers make them, under Profile, Passkeys", "", func(r *call) error {
			var f api.Factors
			if err := r.get("/factors", &f); err != nil {
				return err
			}
			t := &table{columns: []string{"id", "name", "for", "made", "used"}, none: "No existing passkeys."}
			for _, k := range f.Passkeys {
				used := "never"
				if !k.Used.IsZero() {
					used = k.Used.Local().Format(time.DateTime)
				}
				t.add(k.ID, k.Name, k.Host, k.Created.Local().Format(time.DateOnly), used)
			}
			return r.show(f.Passkeys, t)
		}),
		c.verb("rename", "name a passkey", "<passkey_id> <name>", func(r *call) error {
			if err := r.send(http.MethodPatch, "/passkeys/"+escape(r.arg("passkey_id")), api.Rename{Name: r.arg("name")}, nil); err != nil {
				return err
			}
			r.say("Passkey %s is called '%s' now.", r.arg("passkey_id"), r.arg("name"))
			return nil
		}),
		c.verb("delete", "let a passkey in no longer", "<passkey_id>", func(r *call) error {
			err := r.proving(func() error { return r.send(http.MethodDelete, "/passkeys/"+escape(r.arg("passkey_id")), nil, nil) })
			if err != nil {
				return err
			}
			r.say("Passkey %s deleted.", r.arg("passkey_id"))
			return nil
		}),
	}
}

// proving does something that may need the password once more, and then again.
func (r *call) proving(do func() error) error {
	err := do()
	if api.CodeOf(err) != api.CodeProof || !r.interactive() {
		return err
	}
	me, err := r.self()
	if err != nil {
		return err
	}
	password, err := r.askSecret("Password of " + me.Name + ": ")
	if err != nil {
		return err
	}
	if err := r.send(http.MethodPost, "/proof", api.Proof{Password: password}, nil); err != nil {
		return err
	}
	return do()
}

func resetFactors(r *call) error {
	name := r.arg("username")
	if err := r.confirm("the second factor of '"+name+"'", name, "authenticator app, recovery codes and passkeys of user '"+name+"', who is signed out everywhere"); err != nil {
		return err
	}
	if err := r.proving(func() error { return r.send(http.MethodDelete, "/users/"+escape(name)+"/factors", nil, nil) }); err != nil {
		return err
	}
	r.say("User '%s' signs in with the password alone now.", name)
	return nil
}

func endSessions(r *call) error {
	if err := r.send(http.MethodDelete, "/users/"+escape(r.arg("username"))+"/sessions", nil, nil); err != nil {
		return err
	}
	r.say("User '%s' is signed out of all browsers.", r.arg("username"))
	return nil
}

func chooseCloud(r *call) error {
	var c api.Cloud
	if err := r.send(http.MethodPut, "/clouds/"+escape(r.arg("cloud"))+"/default", nil, &c); err != nil {
		return err
	}
	r.say("Applications that name no cloud go to '%s' from now on.", c.Name)
	return nil
}

// tokenByCode makes a token for who has a second factor: by a session, which
// is ended again.
func (r *call) tokenByCode(conn connection, in api.CreateToken, made *api.NewToken) error {
	code := r.String("code")
	if code == "" {
		if !r.interactive() {
			return &api.Error{Code: api.CodeSecondFactor, Op: "sign in", Object: "user " + conn.User, Message: "a code is needed beside the password", Hint: "give it with --code"}
		}
		var err error
		if code, err = r.ask("Code of your authenticator app, or a recovery code: "); err != nil {
			return err
		}
	}
	bare := conn
	bare.Password, bare.Token = "", ""
	wire := r.rpc(bare)
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	wire.HTTP.Jar = jar
	var s api.Session
	if err := wire.Do(r.ctx(), http.MethodPost, "/api/v1/session", api.SignIn{Name: conn.User, Password: conn.Password, Code: code}, &s); err != nil {
		return r.explain(err)
	}
	wire.HTTP.Transport = &header{next: wire.HTTP.Transport, name: "X-CSRF-Token", value: s.CSRF}
	err = r.explain(wire.Do(r.ctx(), http.MethodPost, "/api/v1/tokens", in, made))
	if e := wire.Do(r.ctx(), http.MethodDelete, "/api/v1/session", nil, nil); e != nil {
		r.warn("the session that was opened for this stays for a week: %v", e)
	}
	return err
}
