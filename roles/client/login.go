package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) loginVerbs() []*cli.Command {
	login := c.verb("login", "sign in to a director and keep a token for it", "[director_url]", func(r *call) error { return r.login(r.arg("director_url")) },
		&cli.StringFlag{Name: "fingerprint", Usage: "accept the CA with this SHA-256 without asking"}, stdinFlag(), codeFlag())
	login.Description = "Shows the fingerprint of the director's CA, asks for name and password, and keeps a token\n(not the password) in ~/.config/nutshell/client.yaml. The director prints its fingerprint when it starts."
	return []*cli.Command{login, c.verb("logout", "revoke the token and forget it", "", logout)}
}

// appliancePort is where the director of an appliance listens.
const appliancePort = "443"

func directorPorts() []string { return []string{strconv.Itoa(api.DirectorPort), appliancePort} }

// withPort adds a port to an address without one: the first that answers. An
// appliance's screen names its host alone, as a browser needs no more.
func withPort(ctx context.Context, address string, ports ...string) string {
	full, err := directorURL(address)
	if err != nil || !portless(address) {
		return address // what is wrong with it is told where it is used
	}
	u, err := url.Parse(full)
	if err != nil {
		return address
	}
	for _, port := range ports {
		d := net.Dialer{Timeout: 3 * time.Second}
		c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
		if err == nil {
			_ = c.Close()
			return "https://" + net.JoinHostPort(u.Hostname(), port)
		}
	}
	return address
}

// login trusts a director's CA, after a person or --fingerprint confirmed it,
// and changes name and password for a token.
func (r *call) login(address string) error {
	path := r.clientFile()
	if path == "" {
		return &api.Error{Code: api.CodeInvalid, Op: "sign in", Message: "there is no home directory to keep the token in", Hint: "set HOME"}
	}
	if address != "" {
		r.g.director = withPort(r.ctx(), address, directorPorts()...)
	}
	conn, err := r.connection()
	if err != nil {
		return err
	}
	if conn.CA, err = r.confirmCA(conn); err != nil {
		return err
	}
	if conn.User == "" {
		if !r.interactive() {
			return &api.Error{Code: api.CodeInvalid, Op: "sign in", Message: "a user name is needed", Hint: "give it with --username or NUTSHELL_USER"}
		}
		if conn.User, err = r.ask("User name: "); err != nil {
			return err
		}
	}
	if r.Bool("password-stdin") {
		if conn.Password, err = r.secretFromStdin(); err != nil {
			return err
		}
	}
	if conn.Password == "" {
		if conn.Password, err = r.askSecret("Password of " + conn.User + ": "); err != nil {
			return err
		}
	}
	conn.Token = "" // the password proves who it is, not an old token
	r.conn = &conn
	host, _ := os.Hostname()
	var made api.NewToken
	wanted := api.CreateToken{Name: tokenName(host), Scope: "write"}
	err = r.send(http.MethodPost, "/tokens", wanted, &made)
	if api.CodeOf(err) == api.CodeSecondFactor {
		err = r.tokenByCode(conn, wanted, &made)
	}
	if err != nil {
		if api.CodeOf(err) == api.CodeUnauthorized {
			return &api.Error{Code: api.CodeUnauthorized, Op: "sign in", Object: "user " + conn.User, Message: "name or password is wrong"}
		}
		return err
	}
	conn.Token, conn.TokenID = made.Secret, made.Token.ID
	if err := writeClientFile(path, conn); err != nil {
		return &api.Error{Code: api.CodeInternal, Op: "keep the token", Object: path, Err: err}
	}
	if kinds, err := r.askKinds(); err == nil {
		r.keepKinds(conn.URL, kinds)
	}
	r.say("Signed in to %s as %s.", conn.URL, conn.User)
	r.say("Kept in %s: the CA's fingerprint and a token that expires on %s.", path, made.Token.Expires.Local().Format(time.DateOnly))
	return nil
}

func codeFlag() cli.Flag {
	return &cli.StringFlag{Name: "code", Usage: "of your authenticator app, or a recovery code; it is asked for if one is needed"}
}

// tokenName is what the list of tokens shows for a sign-in.
func tokenName(host string) string {
	name := "cli on " + host
	if api.CheckName("token", name) != nil {
		return "cli"
	}
	return name
}

// confirmCA returns the fingerprint that the director's CA must have.
func (r *call) confirmCA(conn connection) (string, error) {
	want := cleanFingerprint(r.String("fingerprint"))
	if want == "" && r.g.ca != "" {
		want = cleanFingerprint(r.g.ca)
	}
	got, err := askRoot(r.ctx(), conn.URL)
	if err != nil {
		return "", err
	}
	switch {
	case want == got, want == "" && conn.CA == got:
		return got, nil
	case want != "":
		return "", &api.Error{Code: api.CodeUnauthorized, Op: "sign in", Object: conn.URL, Message: "its CA has the fingerprint " + showFingerprint(got) + ", not the one given",
			Hint: "compare with what the director printed when it started; somebody may be listening in"}
	}
	if !r.interactive() {
		return "", &api.Error{Code: api.CodeUnauthorized, Op: "sign in", Object: conn.URL, Message: "its CA is not known here and nobody can be asked",
			Hint: "compare with what the director printed when it started, then add --fingerprint " + got}
	}
	if conn.CA != "" {
		fmt.Fprintln(r.o.Stderr, "WARNING: this is not the CA that was trusted for this address so far.")
	}
	fmt.Fprintf(r.o.Stderr, "The CA of %s has the fingerprint\n  %s\n", conn.URL, showFingerprint(got))
	answer, err := r.ask("Is it the one that the director printed when it started? (yes/no) ")
	if err != nil {
		return "", err
	}
	if answer != "yes" {
		return "", &api.Error{Code: api.CodeCancelled, Op: "sign in", Object: conn.URL, Message: "not confirmed, nothing was kept"}
	}
	return got, nil
}

// logout revokes the token that login made. The token is forgotten here even
// if the director cannot be told.
func logout(r *call) error {
	path := r.clientFile()
	kept, err := readClientFile(path)
	if err != nil {
		return &api.Error{Code: api.CodeNotFound, Op: "sign out", Message: "nobody is signed in from here"}
	}
	if err := os.Remove(path); err != nil {
		return &api.Error{Code: api.CodeInternal, Op: "sign out", Object: path, Err: err}
	}
	if kept.TokenID != "" {
		r.conn = &kept
		if err := r.send(http.MethodDelete, "/tokens/"+escape(kept.TokenID), nil, nil); err != nil && api.CodeOf(err) != api.CodeNotFound {
			r.warn("the token was forgotten here, but %s could not be told: %v", kept.URL, err)
		}
	}
	r.say("Signed out of %s.", kept.URL)
	return nil
}

func (c *Client) tokenVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "your API tokens", "", func(r *call) error {
			var all []api.Token
			if err := r.get("/tokens", &all); err != nil {
				return err
			}
			t := &table{columns: []string{"id", "name", "scope", "expires", "used"}, none: "No existing tokens."}
			for _, k := range all {
				used := "never"
				if !k.Used.IsZero() {
					used = k.Used.Local().Format(time.DateTime)
				}
				t.add(k.ID, k.Name, k.Scope, k.Expires.Local().Format(time.DateOnly), used)
			}
			return r.show(all, t)
		}),
		c.verb("create", "make a token and print its secret, this once", "<name>", func(r *call) error {
			var made api.NewToken
			if err := r.send(http.MethodPost, "/tokens", api.CreateToken{Name: r.arg("name"), Scope: r.String("scope"), Days: r.Int("days")}, &made); err != nil {
				return err
			}
			return r.showText(made, func(w io.Writer) { fmt.Fprintln(w, made.Secret) })
		}, &cli.StringFlag{Name: "scope", Value: "write", Usage: "read or write"}, &cli.IntFlag{Name: "days", Value: 90, Usage: "until it expires"}),
		c.verb("delete", "revoke a token", "<token_id>", func(r *call) error {
			if err := r.send(http.MethodDelete, "/tokens/"+escape(r.arg("token_id")), nil, nil); err != nil {
				return err
			}
			r.say("Token %s revoked.", r.arg("token_id"))
			return nil
		}),
	}
}
