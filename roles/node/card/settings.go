package card

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Mode is how a card gets its address.
type Mode int

// Modes.
const (
	Auto   Mode = iota // a free one of the cluster's range, and one by DHCP if somebody offers it
	DHCP               // only by DHCP
	Static             // as the settings say
)

// Settings are what people write on a card.
type Settings struct {
	Director string // host or host:port
	CA       string // SHA-256 in hexadecimal
	Name     string
	Mode     Mode
	Address  netip.Prefix // of mode Static
	Gateway  netip.Addr
	DNS      []netip.Addr
	SSHKeys  []string
}

var (
	nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// most bounds what a broken or hostile file says about itself.
const most = 20

// Parse reads the settings. A line that is wrong is left out and named among
// the problems, by its number.
func Parse(text []byte) (s Settings, problems []string) {
	clean := strings.ReplaceAll(strings.TrimPrefix(string(text), "\ufeff"), "\r", "\n") // as Windows and old Macs write
	if strings.Contains(string(text), "\r\n") {
		clean = strings.ReplaceAll(strings.TrimPrefix(string(text), "\ufeff"), "\r\n", "\n")
	}
	seen := map[string]int{}
	number := 0
	for line := range strings.Lines(clean) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
		var err error
		switch first, again := seen[key]; {
		case !ok:
			err = errors.New("there is no = in it")
		case again && key != "ssh_key" && key != "dns":
			err = fmt.Errorf("%s was set in line %d already", key, first)
		case value == "":
			err = errors.New("there is nothing behind the =")
		default:
			err = s.set(key, value)
		}
		if err == nil {
			seen[key] = number
			continue
		}
		if len(problems) < most {
			problems = append(problems, fmt.Sprintf("line %d (%s): %v", number, shorten(line), err))
		}
	}
	if s.Gateway.IsValid() && s.Mode == Static && !s.Address.Masked().Contains(s.Gateway) {
		problems = append(problems, fmt.Sprintf("gateway %s is not in the network of address %s", s.Gateway, s.Address))
		s.Gateway = netip.Addr{}
	}
	return s, problems
}

func (s *Settings) set(key, value string) (err error) {
	switch key {
	case "director":
		s.Director, err = director(value)
	case "ca":
		plain := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(value), "sha256:"), ":", ""))
		if b, bad := hex.DecodeString(plain); bad != nil || len(b) != 32 {
			return errors.New("this is no SHA-256 of 64 hexadecimal digits")
		}
		s.CA = plain
	case "name":
		if !nodeName.MatchString(value) {
			return errors.New("a name has small letters, digits and dashes, at most 32 of them")
		}
		s.Name = value
	case "address":
		return s.address(value)
	case "gateway":
		s.Gateway, err = address4(value)
	case "dns":
		for _, word := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
			a, err := netip.ParseAddr(word)
			if err != nil || a.Zone() != "" && !hostName.MatchString(a.Zone()) {
				return fmt.Errorf("%s is no address", shorten(word))
			}
			s.DNS = append(s.DNS, a)
		}
	case "ssh_key":
		if err := publicKey(value); err != nil {
			return err
		}
		s.SSHKeys = append(s.SSHKeys, value)
	default:
		return errors.New("there is no such setting; there are director, ca, name, address, gateway, dns, ssh_key")
	}
	return err
}

func (s *Settings) address(value string) error {
	switch strings.ToLower(value) {
	case "auto":
		s.Mode = Auto
		return nil
	case "dhcp":
		s.Mode = DHCP
		return nil
	}
	p, err := netip.ParsePrefix(value)
	if err != nil || !p.Addr().Is4() {
		return errors.New("this is neither auto, dhcp, nor an address with its prefix as in 172.16.0.11/24")
	}
	if p.Bits() < 8 || p.Bits() > 30 || p.Addr() == p.Masked().Addr() || p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Addr() == last(p) {
		return errors.New("no machine can have this address")
	}
	s.Mode, s.Address = Static, p
	return nil
}

// last is the broadcast address of a network.
func last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(a)
}

func address4(value string) (netip.Addr, error) {
	a, err := netip.ParseAddr(value)
	if err != nil || !a.Is4() {
		return netip.Addr{}, errors.New("this is no address as in 172.16.0.1")
	}
	return a, nil
}

func director(value string) (string, error) {
	value = strings.TrimSuffix(strings.TrimPrefix(value, "https://"), "/")
	host := value
	if h, port, err := net.SplitHostPort(value); err == nil {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "", errors.New("the port is no number from 1 to 65535")
		}
		host = h
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostName.MatchString(host) {
		return "", errors.New("this is no address and no name of a machine")
	}
	return value, nil
}

// publicKey checks what sshd takes, and keeps options out: nobody writes them
// here by intent.
func publicKey(value string) error {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' }) {
		return errors.New("there is something in it that is no text")
	}
	words := strings.Fields(value)
	if len(words) < 2 || !strings.HasPrefix(words[0], "ssh-") && !strings.HasPrefix(words[0], "ecdsa-") && !strings.HasPrefix(words[0], "sk-") {
		return errors.New("a public key begins with its kind, as in ssh-ed25519 AAAA…")
	}
	b, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil || len(b) < 30 || !strings.HasPrefix(string(b[4:]), words[0]) {
		return errors.New("the key is not whole")
	}
	return nil
}

// shorten makes a line of a file fit for a screen.
func shorten(s string) string {
	var b strings.Builder
	for i, r := range []rune(s) {
		if i == 40 {
			b.WriteRune('…')
			break
		}
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}
