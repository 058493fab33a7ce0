package client

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// maxKeyFile is more than anybody's authorized_keys has.
const maxKeyFile = 256 << 10

// keyVerbs are the verbs of the object key: what git signs in with.
func (c *Client) keyVerbs() []*cli.Command {
	return []*cli.Command{
		examples(c.verb("add", "add public keys from a file, or from stdin for -; without either, your usual one", "[filename]", addKeys,
			&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "name of the key (default: its comment)"}),
			"nutshell key add ~/.ssh/id_ed25519.pub", "ssh-add -L | nutshell key add -"),
		c.verb("list", "your public keys", "", listKeys),
		c.verb("revoke", "let a key in no longer", "<key_id>", func(r *call) error {
			if err := r.send(http.MethodDelete, "/keys/"+escape(r.arg("key_id")), nil, nil); err != nil {
				return err
			}
			r.say("Key %s revoked.", r.arg("key_id"))
			return nil
		}),
	}
}

// oldKeyVerbs are ConPaaS's, which name a service; keys are a user's.
func (c *Client) oldKeyVerbs(kind *api.Kind) []*cli.Command {
	const one = argApp + " " + argServ
	return []*cli.Command{
		c.ofKind(kind, "upload-key", "add public keys for git from a file, and show the line that clones the repository", one+" <filename>", onService(func(r *call, a api.Application, _ api.Service) error {
			added, err := r.sendKeys(r.arg("filename"), "")
			if err != nil {
				return err
			}
			if err := r.showText(added, func(w io.Writer) { fmt.Fprintf(w, "%d keys added to authorized_keys\n", len(added)) }); err != nil || r.g.output != "table" {
				return err
			}
			return r.tellClone(a)
		})),
		c.ofKind(kind, "list-keys", "your public keys for git", one, onService(func(r *call, _ api.Application, _ api.Service) error { return listKeys(r) })),
	}
}

func addKeys(r *call) error {
	name := r.arg("filename")
	if name == "" {
		var err error
		if name, err = r.usualKey(); err != nil {
			return err
		}
	}
	added, err := r.sendKeys(name, r.String("name"))
	if err != nil {
		return err
	}
	return r.showText(added, func(w io.Writer) {
		for _, k := range added {
			if r.g.quiet {
				fmt.Fprintln(w, k.ID)
				continue
			}
			fmt.Fprintf(w, "Key '%s' %s added with id %s.\n", printable(k.Name), k.Fingerprint, k.ID)
		}
	})
}

// usualKey is the public key that ssh would offer first.
func (r *call) usualKey() (string, error) {
	for _, name := range []string{"id_ed25519", "id_ecdsa", "id_rsa"} {
		path := filepath.Join(r.o.Getenv("HOME"), ".ssh", name+".pub")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", &api.Error{Code: api.CodeInvalid, Op: "add", Object: "key", Message: "there is no public key in ~/.ssh", Hint: "make one with ssh-keygen -t ed25519, or name a file"}
}

func (r *call) sendKeys(name, title string) ([]api.Key, error) {
	text, err := r.keyText(name)
	if err != nil {
		return nil, err
	}
	var added []api.Key
	return added, r.send(http.MethodPost, "/keys", api.AddKey{Text: text, Name: title}, &added)
}

// keyText reads a file of public keys. A private one never leaves this machine.
func (r *call) keyText(name string) (string, error) {
	bad := func(message, hint string, err error) (string, error) {
		return "", &api.Error{Code: api.CodeInvalid, Op: "add", Object: "key " + name, Message: message, Hint: hint, Err: err}
	}
	in := r.o.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return bad("there is no such file", "ssh-keygen -t ed25519 makes a key; its public half ends in .pub", nil)
		}
		if err != nil {
			return bad("", "", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxKeyFile+1))
	switch {
	case err != nil:
		return bad("", "", err)
	case len(b) > maxKeyFile:
		return bad("it is too large for a file of keys", "", nil)
	case strings.Contains(string(b), "PRIVATE KEY-----"):
		return bad("this is a private key, which must never leave your machine", "give the file beside it that ends in .pub", nil)
	}
	return string(b), nil
}

func listKeys(r *call) error {
	var all []api.Key
	if err := r.get("/keys", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"id", "name", "type", "fingerprint", "used"}, none: "No existing keys."}
	for _, k := range all {
		used := "never"
		if !k.Used.IsZero() {
			used = k.Used.Local().Format(time.DateTime)
		}
		t.add(k.ID, k.Name, k.Type, k.Fingerprint, used)
	}
	return r.show(all, t)
}
