package node

import (
	"context"
	"net/http"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
)

// Times of a machine that waits. It asks often at first, so that a click is
// felt at once, and not much less often later.
const (
	firstWait = time.Second
	lastWait  = 8 * time.Second
)

// join asks every director that there is until one has approved this machine.
func (n *node) join(ctx context.Context) error {
	wait := firstWait
	status := Status{State: looking}
	n.show(status)
	for {
		n.c.Turn()
		list := n.candidates(ctx)
		next := Status{State: looking, Problem: status.Problem}
		if len(list) == 0 {
			next.Problem = "none answers on this network; name one by node.director"
		}
		for _, address := range list {
			n.c.Turn()
			out, ca, err := n.ask(ctx, address)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				n.c.Log.Info("director cannot be asked", "director", address, "error", err)
				if next.State == looking {
					next.Problem = address + ": " + err.Error()
				}
				continue
			case out.Enrolled != nil:
				if err := n.enrolled(address, ca, *out.Enrolled); err != nil {
					n.c.Log.Warn("certificate not taken", "director", address, "error", err)
					next.Problem = err.Error()
					continue
				}
				return nil
			case out.Waiting && next.State == looking:
				next = Status{State: waiting, ID: out.ID, Director: address, CASHA256: ca}
			}
		}
		if next.State == waiting && status.State != waiting {
			wait = firstWait
		}
		status = next
		n.show(status)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		wait = min(wait*3/2, lastWait)
	}
}

// candidates are the directors to ask: those of the configuration, or whoever
// answers on the network.
func (n *node) candidates(ctx context.Context) []string {
	list := addresses(n.c.Directors)
	if len(list) > 0 {
		return list
	}
	answers, err := find(ctx, n.c.Find)
	if err != nil && ctx.Err() == nil {
		n.c.Log.Warn("network not asked for a director", "error", err)
	}
	for _, f := range answers {
		if n.c.CASHA256 == "" || sameHash(f.ca, n.c.CASHA256) {
			list = append(list, f.address)
		}
	}
	return list
}

// ask asks one director, twice where it must give a challenge first.
func (n *node) ask(ctx context.Context, address string) (api.NodeJoined, string, error) {
	k, err := n.contacts.get(ctx, address)
	if err != nil {
		return api.NodeJoined{}, "", err
	}
	for try := 0; ; try++ {
		out, err := n.askOnce(ctx, k)
		if err != nil {
			n.contacts.drop(address)
			return out, k.ca, inTime(err, n.c.Now())
		}
		n.tellTime(out.Now, n.c.CASHA256 != "" || n.creds != nil, func() bool { return n.creds == nil })
		k.challenge = out.Challenge
		n.contacts.keep(address, k)
		if out.Waiting || out.Enrolled != nil || try > 0 {
			return out, k.ca, nil
		}
	}
}

func (n *node) askOnce(ctx context.Context, k contact) (api.NodeJoined, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	in := api.NodeJoin{CSR: string(n.csr), Challenge: k.challenge, Facts: n.facts()}
	if k.challenge != "" {
		var err error
		if in.Proof, err = pki.Prove(n.key, k.challenge); err != nil {
			return api.NodeJoined{}, err
		}
	}
	var out api.NodeJoined
	return out, k.client.Do(ctx, http.MethodPost, "/api/v1/node/join", in, &out)
}

// enrolled takes the certificate that makes this machine a node.
func (n *node) enrolled(address, ca string, e api.Enrolled) error {
	creds, err := pki.NewCredentials(n.key, []byte(e.Chain), ca, n.c.Now)
	if err != nil {
		return err
	}
	if id := creds.Identity(); id.Role != api.RoleNode {
		return &api.Error{Code: api.CodeForbidden, Message: "the certificate is for " + id.String() + ", not for a node"}
	}
	creds.Told(e.Now)
	n.tellTime(e.Now, true, nothingRuns) // somebody approved us there, and that is the time we live by now
	if err := creds.Save(n.c.Dir); err != nil {
		return err
	}
	n.creds = creds
	n.state = state{CASHA256: creds.RootSHA256(), Directors: []string{address}}
	n.saveState()
	n.c.Log.Info("joined", "identity", creds.Identity().String(), "director", address, "expires", creds.NotAfter())
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
