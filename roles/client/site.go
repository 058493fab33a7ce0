package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// maxPEM is more than any chain of certificates has.
const maxPEM = 256 << 10

// siteVerbs are the verbs of the object site: the host names of services.
func (c *Client) siteVerbs() []*cli.Command {
	const one = argApp + " " + argServ
	return []*cli.Command{
		c.verb("list", "the host names of a service, and what is wrong with them", one, onService(listSites)),
		examples(c.verb("add", "give a service a host name, or a host name another certificate", one+" <host_name>", onService(addSite),
			&cli.StringFlag{Name: "certificate", Usage: "own (the director's CA), file, or acme (default: acme where the director has it, else own)"},
			&cli.PathFlag{Name: "chain", Usage: "file with the certificate and those that signed it, PEM"},
			&cli.PathFlag{Name: "key", Usage: "file with its key, PEM"}),
			"nutshell site add shop php www.example.org", "nutshell site add shop php www.example.org --chain fullchain.pem --key privkey.pem"),
		c.verb("remove", "take a host name from a service", one+" <host_name>", onService(removeSite)),
	}
}

// edgeVerbs are the verbs of the object edge.
func (c *Client) edgeVerbs() []*cli.Command {
	return []*cli.Command{c.verb("show", "whether and where the director shows services under names of their own", "", func(r *call) error {
		var e api.Edge
		if err := r.get("/edge", &e); err != nil {
			return err
		}
		return r.showText(e, func(w io.Writer) {
			if !e.On {
				fmt.Fprintln(w, "off:", printable(e.Fallback))
				return
			}
			names, http, acme := "only those that users add", "", "no"
			if e.Domain != "" {
				names = "APPLICATION." + e.Domain
			}
			if e.HTTP != 0 {
				http = strconv.Itoa(e.HTTP)
			}
			if e.ACME {
				acme = "yes"
			}
			pairs(w, "names", names, "https", strconv.Itoa(e.HTTPS), "http", http, "acme", acme)
		})
	})}
}

func sitesPath(a api.Application, s api.Service) string {
	return "/applications/" + strconv.FormatInt(a.ID, 10) + "/services/" + strconv.FormatInt(s.ID, 10) + "/sites"
}

func listSites(r *call, a api.Application, s api.Service) error {
	var all []api.Site
	if err := r.get(sitesPath(a, s), &all); err != nil {
		return err
	}
	t := &table{columns: []string{"name", "certificate", "until", "url", "problem"}, none: "The service has no host names."}
	for _, one := range all {
		until := "-"
		if !one.Expires.IsZero() {
			until = one.Expires.Local().Format("2006-01-02")
		}
		t.add(one.Name, orDash(one.Certificate), until, orDash(one.URL), orDash(one.Problem))
	}
	return r.show(all, t)
}

func addSite(r *call, a api.Application, s api.Service) error {
	in := api.AddSite{Name: r.arg("host_name"), Certificate: r.String("certificate")}
	if (r.Path("chain") == "") != (r.Path("key") == "") {
		return usagef("--chain and --key belong together")
	}
	var err error
	if path := r.Path("chain"); path != "" {
		if in.Chain, err = readPEM(path); err != nil {
			return err
		}
		if in.Key, err = readPEM(r.Path("key")); err != nil {
			return err
		}
		if in.Certificate == "" {
			in.Certificate = "file"
		}
	}
	var out api.Site
	if err := r.send(http.MethodPost, sitesPath(a, s), in, &out); err != nil {
		return err
	}
	if err := r.made(out, out.Name, "Service '%s' is shown at %s (certificate: %s).", s.Name, out.URL, out.Certificate); err != nil || out.Problem == "" {
		return err
	}
	r.say("Note: %s", out.Problem)
	return nil
}

func readPEM(path string) (string, error) {
	bad := func(err error) (string, error) {
		return "", &api.Error{Code: api.CodeInvalid, Op: "read", Object: "file " + path, Err: err, Hint: "it is a text file that begins with -----BEGIN"}
	}
	f, err := os.Open(path)
	if err != nil {
		return bad(err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err == nil && !strings.Contains(string(b), "-----BEGIN ") {
		err = errors.New("there is no PEM in it")
	}
	if err != nil {
		return bad(err)
	}
	return string(b), nil
}

func removeSite(r *call, a api.Application, s api.Service) error {
	name := r.arg("host_name")
	if err := r.send(http.MethodDelete, sitesPath(a, s)+"/"+escape(name), nil, nil); err != nil {
		return err
	}
	r.say("Service '%s' is not shown as %s any more.", s.Name, name)
	return nil
}
