package client

import (
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// secretVerbs are for services that have secrets of the user's own.
func (c *Client) secretVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	if kind != nil && !slices.ContainsFunc(kind.Secrets, func(s api.Secret) bool { return s.Own }) {
		return nil
	}
	object := "nutshell " + c.objectName(kind)
	return []*cli.Command{
		c.ofKind(kind, "secrets", "passwords of a service, without their values", one, onService(listSecrets)),
		c.ofKind(kind, "show-secret", "show a password that nobody has seen yet; that can be done once", one+" <secret>", onService(showSecret)),
		examples(c.ofKind(kind, "set-secret", "change a password; asks for it, or reads it from stdin", one+" <secret>", onService(setSecret),
			&cli.StringFlag{Name: "value", Usage: "the new one; others on this machine may see it here, --password-stdin is safer"}, stdinFlag(),
			&cli.BoolFlag{Name: "random", Usage: "a random one, which is shown this once"}),
			object+" set-secret shop db password", object+" set-secret shop db password --random", "pwgen 20 1 | "+object+" set-secret shop db password --password-stdin"),
	}
}

func listSecrets(r *call, _ api.Application, s api.Service) error {
	var all []api.Secret
	if err := r.get(servicePath(s)+"/secrets", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"secret", "what", "shown", "changed"}, none: "No secrets."}
	for _, x := range all {
		t.add(x.Name, x.Title, yesNo(x.Shown), when(x.Changed))
	}
	return r.show(all, t)
}

func showSecret(r *call, _ api.Application, s api.Service) error { return r.reveal(s, r.arg("secret")) }

// reveal prints the value alone, so that a script can take it.
func (r *call) reveal(s api.Service, name string) error {
	var shown api.Shown
	if err := r.send(http.MethodPost, servicePath(s)+"/secrets/"+escape(name)+"/show", nil, &shown); err != nil {
		return err
	}
	return r.showText(shown, func(w io.Writer) { fmt.Fprintln(w, shown.Value) })
}

// setSecret shows a random value afterwards, when the service has taken it.
func setSecret(r *call, _ api.Application, s api.Service) error {
	name := r.arg("secret")
	value, err := r.secretValue(name, "value")
	if err != nil {
		return err
	}
	if value == "" && r.g.noWait {
		return usagef("a random value is shown when it is set, which --no-wait does not wait for")
	}
	op, err := r.change(http.MethodPut, servicePath(s)+"/secrets/"+escape(name), api.SetSecret{Value: value}, &api.Service{})
	if err != nil {
		return err
	}
	if err := r.finish(op, fmt.Sprintf("Changing the %s of service %s... ", name, r.arg(argServ))); err != nil || value != "" {
		return err
	}
	return r.reveal(s, name)
}

// secretValue finds the value of a secret: in an option, on stdin, or by
// asking. Empty asks for a random one, which is also what scripts get that say
// nothing.
func (r *call) secretValue(name, flag string) (string, error) {
	switch {
	case r.IsSet(flag) && (r.Bool("random") || r.Bool("password-stdin")), r.Bool("random") && r.Bool("password-stdin"):
		return "", usagef("--%s, --random and --password-stdin cannot stand together", flag)
	case r.IsSet(flag):
		if r.String(flag) == "" {
			return "", usagef("--%s is empty; --random asks for a random one", flag)
		}
		return r.String(flag), nil
	case r.Bool("password-stdin"):
		value, err := r.secretFromStdin()
		if err == nil && value == "" {
			err = &api.Error{Code: api.CodeInvalid, Op: "set", Object: "secret " + name, Message: "the first line of stdin is empty", Hint: "--random asks for a random one"}
		}
		return value, err
	case r.Bool("random") || !r.interactive():
		return "", nil
	}
	first, err := r.askSecret("New " + printable(name) + " (Enter for a random one): ")
	if err != nil || first == "" {
		return "", err
	}
	second, err := r.askSecret("The same again: ")
	if err == nil && first != second {
		err = api.Invalidf("the two differ")
	}
	return first, err
}
