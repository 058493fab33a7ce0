package web

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"

	"nutshell/roles/api"
)

// Connections counts the connections that clients have to a port.
func Connections(part, address string, port int) ([]api.Sample, error) {
	ip := net.ParseIP(address).To4()
	if ip == nil {
		return nil, nil // the instance has an IPv4 address, or nothing listens
	}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	local := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip), port)
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text()) // number, local, remote, state, …
		if len(words) > 3 && words[1] == local && words[3] == "01" {
			n++
		}
	}
	return []api.Sample{sample("nutshell_http_connections", float64(n), "part", part)}, nil
}
