package api

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
)

// Role is what a process or a person is to the installation.
type Role string

// The roles that hold certificates.
const (
	RoleDirector Role = "director"
	RoleManager  Role = "manager"
	RoleAgent    Role = "agent"
	RoleNode     Role = "node"
	RoleUser     Role = "user"
)

// Identity is who a certificate speaks for, written as its URI SAN. No
// common name is ever looked at.
type Identity struct {
	Installation string
	Role         Role
	Application  int64  // manager, agent
	Service      int64  // agent
	Name         string // agent and manager: instance id; node: node id; user: user id
}

// String prints the URI, e.g. nutshell://i1/application/3/service/1/agent/a3-s1-k2.
func (i Identity) String() string {
	p := "nutshell://" + i.Installation
	switch i.Role {
	case RoleDirector:
		return p + "/director"
	case RoleManager:
		return fmt.Sprintf("%s/application/%d/manager/%s", p, i.Application, i.Name)
	case RoleAgent:
		return fmt.Sprintf("%s/application/%d/service/%d/agent/%s", p, i.Application, i.Service, i.Name)
	default:
		return fmt.Sprintf("%s/%s/%s", p, i.Role, i.Name)
	}
}

// ParseIdentity reads what String prints and refuses everything else.
func ParseIdentity(uri string) (Identity, error) {
	rest, ok := strings.CutPrefix(uri, "nutshell://")
	f := strings.Split(rest, "/")
	id := Identity{Installation: f[0]}
	var err error
	number := func(s string) int64 {
		n, e := strconv.ParseInt(s, 10, 64)
		if e != nil || n <= 0 {
			err = e
			ok = false
		}
		return n
	}
	switch {
	case !ok || f[0] == "":
		ok = false
	case len(f) == 2 && f[1] == "director":
		id.Role = RoleDirector
	case len(f) == 5 && f[1] == "application" && f[3] == "manager":
		id.Role, id.Application, id.Name = RoleManager, number(f[2]), f[4]
	case len(f) == 7 && f[1] == "application" && f[3] == "service" && f[5] == "agent":
		id.Role, id.Application, id.Service, id.Name = RoleAgent, number(f[2]), number(f[4]), f[6]
	case len(f) == 3 && (f[1] == "user" || f[1] == "node"):
		id.Role, id.Name = Role(f[1]), f[2]
	default:
		ok = false
	}
	if !ok || (id.Role != RoleDirector && id.Name == "") || id.String() != uri {
		return Identity{}, &Error{Code: CodeInvalid, Message: fmt.Sprintf("not a Nutshell identity: %q", uri), Err: err}
	}
	return id, nil
}

const idLetters = "abcdefghijkmnpqrstuvwxyz23456789"

// NewID returns n random letters and digits that cannot be mistaken for each
// other when read aloud.
func NewID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its documentation
	for i := range b {
		b[i] = idLetters[int(b[i])%len(idLetters)]
	}
	return string(b)
}

// NewInstanceID makes the id of a new instance of a service (0: manager).
func NewInstanceID(application, service int64) string {
	return fmt.Sprintf("a%d-s%d-%s", application, service, NewID(5))
}
