package node

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// FuzzAnswerOf: who answers on the network chooses no other address than its
// own.
func FuzzAnswerOf(f *testing.F) {
	f.Add([]byte(`{"nutshell":"director","port":5555,"ca_sha256":"`+strings.Repeat("a", 64)+`","nonce":"n"}`), "172.16.0.1:5557")
	f.Fuzz(func(t *testing.T, data []byte, from string) {
		got, ok := answerOf(data, "n", from)
		if !ok {
			return
		}
		host, _, err := net.SplitHostPort(got.address)
		want, wantErr := netip.ParseAddrPort(from)
		if err != nil || wantErr != nil || host != want.Addr().Unmap().String() || len(got.ca) != 64 {
			t.Fatalf("from %q: %+v", from, got)
		}
	})
}

func FuzzHostPort(f *testing.F) {
	f.Add("https://backend:5555/")
	f.Add("[fd00::1]:1")
	f.Add("0]0")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := hostPorts(text)
		for _, address := range got {
			if again, err := hostPorts(address); err != nil || len(again) != 1 || again[0] != address {
				t.Fatalf("%q is %q is %q, %v", text, address, again, err)
			}
		}
		if (err == nil) != (len(got) > 0) {
			t.Fatalf("%q: %q, %v", text, got, err)
		}
	})
}
