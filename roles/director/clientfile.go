package director

import (
	"context"
	"net"
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/store"
)

// clientTokenName is the name of the token in client.yaml.
const clientTokenName = "this machine"

// clientConnection is the file by which the command line finds the director
// on the same machine.
type clientConnection struct {
	URL   string `yaml:"url"`
	CA    string `yaml:"ca_sha256"`
	User  string `yaml:"user"`
	Token string `yaml:"token"`
}

// clientFile writes the file, keeping its token as long as it is good for
// another month.
func (d *Director) clientFile(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	path := filepath.Join(d.c.Dir, "client.yaml")
	c := clientConnection{URL: "https://" + net.JoinHostPort(host, port), CA: d.ca.RootSHA256()}
	var old clientConnection
	if b, err := os.ReadFile(path); err == nil && yaml.Unmarshal(b, &old) == nil {
		if k, u, err := d.store.TokenUser(ctx, auth.HashSecret(old.Token)); err == nil && u.Admin && k.Expires.After(d.c.Now().AddDate(0, 1, 0)) {
			c.User, c.Token = old.User, old.Token
		}
	}
	if c.Token == "" {
		if c.User, c.Token, err = d.clientToken(ctx); err != nil || c.Token == "" {
			return err
		}
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// clientToken makes a token of the oldest administrator.
func (d *Director) clientToken(ctx context.Context) (user, secret string, err error) {
	users, err := d.store.Users(ctx)
	if err != nil {
		return "", "", err
	}
	var admin store.User
	for _, u := range users {
		if u.Admin && (admin.ID == 0 || u.ID < admin.ID) {
			admin = u
		}
	}
	if admin.ID == 0 {
		return "", "", nil
	}
	k, err := d.newToken(ctx, admin.ID, api.CreateToken{Name: clientTokenName, Scope: "write", Days: 366})
	return admin.Name, k.Secret, err
}
