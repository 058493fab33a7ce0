package card

import (
	"bytes"
	"context"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPbs5eHq3HkAqPbUVQ5oXRAAYIfmQ2nqv5Dg8bHk0Tt9 me@laptop"

func TestParse(t *testing.T) {
	ca := strings.Repeat("ab", 32)
	for _, c := range []struct {
		name, text, want string // want: the settings as the node and its network get them
		problem          string
	}{
		{"empty", "", "NODE_ARGS=\n", ""},
		{"explained-file", "# director\n\n#name = pi-1\n", "NODE_ARGS=\n", ""},
		{"all", "director = 172.16.0.1:8443\nca=SHA256:" + strings.ToUpper(ca) + "\nname = pi-1\n", "NODE_ARGS=--director 172.16.0.1:8443 --ca-sha256 " + ca + " --name pi-1\n", ""},
		{"colons-in-sum", "ca = " + strings.TrimSuffix(strings.Repeat("ab:", 32), ":"), "NODE_ARGS=--ca-sha256 " + ca + "\n", ""},
		{"written-on-windows", "\ufeffdirector = box\r\nname = pi-2\r\n", "NODE_ARGS=--director box --name pi-2\n", ""},
		{"written-on-an-old-mac", "director = box\rname = pi-2\r", "NODE_ARGS=--director box --name pi-2\n", ""},
		{"unknown-key", "directer = box\n", "NODE_ARGS=\n", "line 1 (directer = box): there is no such setting"},
		{"no-equals", "\n\ndirector box\n", "NODE_ARGS=\n", "line 3 (director box): there is no ="},
		{"twice", "name = a\nname = b\n", "NODE_ARGS=--name a\n", "name was set in line 1"},
		{"empty-value", "name =\n", "NODE_ARGS=\n", "nothing behind"},
		{"argument-in-director", "director = box --data-dir /x\n", "NODE_ARGS=\n", "no address and no name"},
		{"shell-in-name", "name = $(reboot)\n", "NODE_ARGS=\n", "small letters"},
		{"short-sum", "ca = abcd\n", "NODE_ARGS=\n", "64 hexadecimal digits"},
		{"bad-port", "director = box:99999\n", "NODE_ARGS=\n", "1 to 65535"},
		{"broadcast-address", "address = 172.16.0.255/24\n", "NODE_ARGS=\n", "no machine can have"},
		{"network-address", "address = 172.16.0.0/24\n", "NODE_ARGS=\n", "no machine can have"},
		{"address-without-prefix", "address = 172.16.0.11\n", "NODE_ARGS=\n", "with its prefix"},
		{"gateway-elsewhere", "address = 172.16.0.11/24\ngateway = 10.0.0.1\n", "NODE_ARGS=\n", "is not in the network"},
		{"lines-in-dns", "dns = fe80::1%x\r[Route]\rGateway=10.0.0.9\r\nname = a\r\n", "NODE_ARGS=--name a\n", "is no address"},
		{"private-key", "ssh_key = -----BEGIN OPENSSH PRIVATE KEY-----\n", "NODE_ARGS=\n", "begins with its kind"},
		{"key-with-a-zero", "ssh_key = " + key + "\x00\n", "NODE_ARGS=\n", "no text"},
		{"half-a-key", "ssh_key = ssh-ed25519 AAAA\n", "NODE_ARGS=\n", "not whole"},
		{"escapes-for-the-screen", "na\x1b[2Jme\n", "NODE_ARGS=\n", "line 1 (na?[2Jme)"},
		{"binary", "\x00\x01\xff\xfe", "NODE_ARGS=\n", "there is no ="},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, problems := Parse([]byte(c.text))
			if got := environment(s); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if all := strings.Join(problems, "\n"); c.problem == "" && all != "" || !strings.Contains(all, c.problem) {
				t.Errorf("got problems %q, want %q", all, c.problem)
			}
		})
	}
}

func TestParseBoundsProblems(t *testing.T) {
	if _, problems := Parse(bytes.Repeat([]byte("x\n"), 30000)); len(problems) > most {
		t.Errorf("got %d problems, want at most %d", len(problems), most)
	}
}

func TestParseKeepsKeys(t *testing.T) {
	s, problems := Parse([]byte("ssh_key = " + key + "\nssh_key = " + key + "\n"))
	if len(problems) > 0 || len(s.SSHKeys) != 2 {
		t.Errorf("got %v with problems %v, want two keys", s.SSHKeys, problems)
	}
}

func TestNetwork(t *testing.T) {
	own := netip.MustParsePrefix("172.16.0.14/24")
	for _, c := range []struct {
		name, text  string
		has, hasNot []string
	}{
		{"auto", "", []string{"DHCP=ipv4", "Address=172.16.0.14/24", "Gateway=172.16.0.1", "Metric=2048"}, []string{"DNS="}},
		{"dhcp", "address = dhcp", []string{"DHCP=ipv4"}, []string{"Address=", "Gateway="}},
		{"static", "address = 10.1.2.3/16\ngateway = 10.1.0.1\ndns = 10.1.0.1, 10.1.0.2", []string{"Address=10.1.2.3/16", "Gateway=10.1.0.1", "DNS=10.1.0.1\nDNS=10.1.0.2"}, []string{"DHCP=", "172.16"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, problems := Parse([]byte(c.text))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if s.Mode != Auto {
				own = netip.Prefix{}
			}
			got := network(s, own)
			for _, h := range c.has {
				if !strings.Contains(got, h) {
					t.Errorf("got %q, want %q in it", got, h)
				}
			}
			for _, h := range c.hasNot {
				if strings.Contains(got, h) {
					t.Errorf("got %q, want no %q in it", got, h)
				}
			}
		})
	}
}

func TestProblemsAreTold(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, errorsFile)
	if err := tellProblems(dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file of problems without any")
	}
	if err := tellProblems(dir, []string{"line 1 (x): bad"}); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := tellProblems(dir, []string{"line 1 (x): bad"}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same problems were written again: %v", err)
	}
	if err := tellProblems(dir, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file stayed when the problems were gone")
	}
}

func TestOrderVisitsAll(t *testing.T) {
	for _, mac := range []string{"b8:27:eb:00:00:01", "dc:a6:32:12:34:56", "2c:cf:67:ff:ff:fe"} {
		m, err := net.ParseMAC(mac)
		if err != nil {
			t.Fatal(err)
		}
		list := order(m, netip.MustParseAddr("172.16.0.20"))
		if list[0].String() != "172.16.0.20" {
			t.Errorf("%s: got %s first, want the kept one", mac, list[0])
		}
		slices.SortFunc(list, netip.Addr.Compare)
		if list = slices.Compact(list); len(list) != planCount || list[0].String() != "172.16.0.11" || list[planCount-1].String() != "172.16.0.31" {
			t.Errorf("%s: got %v, want all of .11 to .31", mac, list)
		}
	}
}

func TestClaims(t *testing.T) {
	ours, _ := net.ParseMAC("b8:27:eb:00:00:01")
	other, _ := net.ParseMAC("b8:27:eb:00:00:02")
	a := netip.MustParseAddr("172.16.0.12")
	answer := question(other, netip.MustParseAddr("172.16.0.99"))
	copy(answer[28:32], a.AsSlice())
	for _, c := range []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"our-own-question", question(ours, a), false},
		{"who-asks-for-the-same", question(other, a), true},
		{"who-asks-for-another", question(other, netip.MustParseAddr("172.16.0.13")), false},
		{"who-has-it", answer, true},
		{"short", answer[:30], false},
		{"not-arp", make([]byte, 60), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := claims(c.frame, ours, a); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestWriteIsWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a", "b")
	if err := write(file, "x", 0o600); err != nil {
		t.Fatal(err)
	}
	if left, err := fs.Glob(os.DirFS(filepath.Dir(file)), "*.new"); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAddressThatAnotherHas(t *testing.T) {
	text := []byte("address = 192.168.7.20/24\ngateway = 192.168.7.1\ndirector = 192.168.7.2\n")
	s, problems := Parse(text)
	if len(problems) != 0 {
		t.Fatal(problems)
	}
	for _, alone := range []bool{true, false} {
		asked := ""
		got, problem := fixed(t.Context(), s, func(_ context.Context, a netip.Addr) bool { asked = a.String(); return alone })
		if asked != "192.168.7.20" || alone != (problem == "") || alone != (got.Mode == Static) || got.Director != s.Director {
			t.Errorf("alone %v: asked for %q, got %+v, %q", alone, asked, got, problem)
		}
		if !alone && (got.Gateway.IsValid() || !strings.Contains(problem, "192.168.7.20")) {
			t.Errorf("got %+v, %q", got, problem)
		}
	}
	if _, problem := fixed(t.Context(), Settings{Mode: DHCP}, nil); problem != "" {
		t.Errorf("DHCP: %q", problem)
	}
}
