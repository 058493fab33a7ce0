package client

import (
	"net"
	"testing"
)

// TestWithPort: the address on an appliance's screen needs no port.
func TestWithPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, open, _ := net.SplitHostPort(l.Addr().String())
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, closed, _ := net.SplitHostPort(gone.Addr().String())
	_ = gone.Close()
	for _, c := range []struct{ name, address, want string }{
		{"host", "127.0.0.1", "https://127.0.0.1:" + open},
		{"url", "https://127.0.0.1/", "https://127.0.0.1:" + open},
		{"with-port", "https://127.0.0.1:7", "https://127.0.0.1:7"},
		{"host-with-port", "127.0.0.1:7", "127.0.0.1:7"},
		{"nonsense", "ftp://x", "ftp://x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := withPort(t.Context(), c.address, closed, open); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	if got := withPort(t.Context(), "127.0.0.1", closed); got != "127.0.0.1" {
		t.Errorf("nobody answers: got %s", got)
	}
}
