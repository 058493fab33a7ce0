package roles

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// passwordFlag names a file for the password of the first start: what a
// service prints would stay in the machine's journal.
const passwordFlag = "password-file"

// healthLimit bounds the question whether a director of this machine is there.
const healthLimit = 5 * time.Second

// writePassword puts the password into the file and returns what is left to
// be shown.
func writePassword(file, password string) (string, error) {
	if file == "" || password == "" {
		return password, nil
	}
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = os.WriteFile(file, []byte(password+"\n"), 0o600)
	}
	if err != nil {
		// The password is stored nowhere else.
		return password, &api.Error{Code: api.CodeUnavailable, Op: "write", Object: "--" + passwordFlag, Message: "the first password of admin is " + password, Err: err}
	}
	return "", nil
}

// answersAt asks the director at an address of this machine whether it is
// there.
func answersAt(address, ca string) func(context.Context) error {
	if host, port, err := net.SplitHostPort(address); err == nil {
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			address = net.JoinHostPort("127.0.0.1", port)
		}
	}
	c := rpc.NewClient("https://"+address, pki.PinnedTLS(ca))
	if t, ok := c.HTTP.Transport.(*http.Transport); ok {
		t.TLSHandshakeTimeout = 0 // a busy machine may need all the time that the question has
	}
	return func(ctx context.Context) error { return c.Do(ctx, http.MethodGet, "/api/v1/health", nil, nil) }
}
