package card

import (
	"net/netip"
	"strings"
	"testing"
	"unicode"
)

// FuzzParse: whatever stands on a card, the node gets one line of arguments
// without blanks in values, and the network's file has only lines of ours.
func FuzzParse(f *testing.F) {
	f.Add([]byte("director = 172.16.0.1:8443\nca=SHA256:" + strings.Repeat("ab", 32) + "\nname = pi-1\naddress = 10.1.2.3/16\ngateway = 10.1.0.1\ndns = 10.1.0.1, fe80::1%eth0\nssh_key = " + key + "\n"))
	f.Add([]byte("\ufeffdirector = box\rname = pi-2\r\naddress=dhcp"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, problems := Parse(text)
		if len(problems) > most+1 {
			t.Fatalf("%d problems", len(problems))
		}
		for _, p := range problems {
			if strings.ContainsFunc(p, unicode.IsControl) {
				t.Fatalf("for the screen: %q", p)
			}
		}
		args := environment(s)
		if strings.Count(args, "\n") != 1 || strings.ContainsAny(args, "\r\x00\"'\\$`") || len(strings.Fields(strings.TrimPrefix(args, "NODE_ARGS=")))%2 != 0 {
			t.Fatalf("arguments %q", args)
		}
		for line := range strings.Lines(network(s, netip.MustParsePrefix("172.16.0.14/24"))) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if strings.ContainsAny(value, "\r\x00 ") || !strings.Contains("|[Match]|[Network]|[Route]|[DHCPv4]|Name|LinkLocalAddressing|IPv6AcceptRA|DHCP|Address|DNS|Gateway|Metric|UseHostname|UseDomains||", "|"+key+"|") {
				t.Fatalf("line %q", line)
			}
		}
		for _, k := range s.SSHKeys {
			if strings.ContainsAny(k, "\n\r\x00") {
				t.Fatalf("key %q", k)
			}
		}
	})
}
