package director

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"io"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"nutshell/roles/api"
	"nutshell/roles/internal/auth"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/store"
)

// Bounds on machines that nobody has approved.
const (
	mostWaiting     = 64        // machines
	mostWaitingFrom = 4         // of one address
	waitingLife     = time.Hour // after it asked last; sooner where others need its place
	waitingPatience = 30 * time.Second
	challengeLife   = time.Minute // at least; twice that at most
	mostNodeLayers  = 256
	mostNetworks    = 32
)

// newJoinLimiter lets a machine ask every few seconds, and a shelf of them
// behind one address begin at the same time.
func newJoinLimiter(now func() time.Time) *auth.Limiter {
	return auth.NewLimiter(auth.LimiterConfig{Burst: 40, Every: time.Second, Now: now})
}

// newNewcomerLimiter bounds how many machines of one address are taken note of:
// each is in the audit log for months, and a key costs nothing.
func newNewcomerLimiter(now func() time.Time) *auth.Limiter {
	return auth.NewLimiter(auth.LimiterConfig{Burst: 4 * mostWaitingFrom, Every: time.Minute, Now: now})
}

// challenges are what machines that want to join must sign. Nothing is kept of
// them: who asks costs no memory.
type challenges struct{ key [32]byte }

func newChallenges() *challenges {
	c := &challenges{}
	_, _ = rand.Read(c.key[:]) // never fails, by its documentation
	return c
}

func (c *challenges) at(fingerprint string, moment int64) string {
	h := hmac.New(sha256.New, c.key[:])
	_, _ = h.Write([]byte(fingerprint))
	var b [8]byte
	for i := range b {
		b[i] = byte(moment >> (8 * i)) //nolint:gosec // one byte after the other
	}
	_, _ = h.Write(b[:])
	return hex.EncodeToString(h.Sum(nil))
}

// now is the challenge for a key at this time.
func (c *challenges) now(fingerprint string, now time.Time) string {
	return c.at(fingerprint, now.Unix()/int64(challengeLife/time.Second))
}

// good reports whether a challenge is the one of now or the one before.
func (c *challenges) good(fingerprint, challenge string, now time.Time) bool {
	moment := now.Unix() / int64(challengeLife/time.Second)
	return hmac.Equal([]byte(challenge), []byte(c.at(fingerprint, moment))) || hmac.Equal([]byte(challenge), []byte(c.at(fingerprint, moment-1)))
}

// nodeID follows from the key, so that nobody can choose another's.
func nodeID(fingerprint string) string {
	raw, _ := hex.DecodeString(fingerprint) // 32 bytes: we made it
	return "n" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw)[:12])
}

// joinNode takes note of a machine that wants to lend its containers, and
// gives it its certificate once an administrator has approved it. Anybody on
// the network may ask, so nothing is believed and little is kept.
func (d *Director) joinNode(ctx context.Context, in *struct{ Body api.NodeJoin }) (api.NodeJoined, error) {
	remote := httpapi.Remote(ctx)
	if ok, wait := d.joins.Allow("join " + remote); !ok {
		seconds := int(wait.Seconds()) + 1
		return api.NodeJoined{}, &api.Error{Code: api.CodeTooMany, Op: "join", Message: "too many machines ask from " + remote, RetryAfter: seconds}
	}
	fingerprint, err := pki.KeySHA256([]byte(in.Body.CSR))
	if err != nil {
		return api.NodeJoined{}, err
	}
	now := d.c.Now()
	out := api.NodeJoined{ID: nodeID(fingerprint), Challenge: d.challenges.now(fingerprint, now), Now: now.UTC()}
	if !d.challenges.good(fingerprint, in.Body.Challenge, now) {
		return out, nil
	}
	proved, err := pki.Proved([]byte(in.Body.CSR), in.Body.Challenge, in.Body.Proof)
	if err != nil {
		return api.NodeJoined{}, err
	}
	if !proved {
		d.c.Log.Warn("machine that wants to join does not have the key that it shows", "remote", remote, "fingerprint", fingerprint)
		return api.NodeJoined{}, &api.Error{Code: api.CodeForbidden, Op: "join", Message: "the proof was not made by the key of the certificate request"}
	}
	n, err := d.noteJoiner(ctx, out.ID, fingerprint, remote, cleanFacts(in.Body.Facts))
	if err != nil || !n.Approved {
		out.Waiting = true
		return out, err
	}
	enrolled, err := d.nodeCertificate(in.Body.CSR, n)
	if err != nil {
		return out, err
	}
	out.Enrolled = &enrolled
	d.c.Log.Info("node enrolled", "node", n.ID, "name", n.Name, "remote", remote)
	return out, nil
}

// noteJoiner stores a machine that waits, or finds one that was approved.
func (d *Director) noteJoiner(ctx context.Context, id, fingerprint, remote string, facts api.NodeFacts) (store.Node, error) {
	now := d.c.Now()
	n, err := d.store.Node(ctx, id)
	if err == nil && n.ID == id && (n.Approved || n.Address == remote && sameFacts(n.Facts, facts)) {
		if n.Fingerprint != fingerprint {
			return n, &api.Error{Code: api.CodeForbidden, Op: "join", Message: "another key has this id"}
		}
		d.nodes.asked(id, now)
		return n, nil
	}
	if err != nil && api.CodeOf(err) != api.CodeNotFound && api.CodeOf(err) != api.CodeConflict {
		return n, err
	}
	if api.CodeOf(err) == api.CodeNotFound {
		if ok, wait := d.newcomers.Allow(remote); !ok {
			return n, &api.Error{Code: api.CodeTooMany, Op: "join", Message: "too many new machines ask from the address " + remote, RetryAfter: int(wait.Seconds()) + 1}
		}
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		all, err := t.Nodes(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(o store.Node) bool { return o.ID == id })
		switch {
		case i >= 0 && all[i].Fingerprint != fingerprint:
			return &api.Error{Code: api.CodeForbidden, Op: "join", Message: "another key has this id"}
		case i >= 0:
			n = all[i]
		default:
			if err := d.makeRoom(ctx, t, all, remote); err != nil {
				return err
			}
			n = store.Node{ID: id, Fingerprint: fingerprint, Joined: now}
			if !d.nodes.admitted(remote, now) { // it was here before, and had to give way
				break
			}
			d.c.Log.Info("machine wants to join", "node", id, "model", facts.Model, "serial", facts.Serial, "remote", remote, "fingerprint", fingerprint)
			if err := t.InsertAudit(ctx, api.AuditEntry{Actor: "node " + id, From: remote, Action: "node.join", Object: "/nodes/" + id, Result: "ok"}); err != nil {
				return err
			}
		}
		if n.Approved { // meanwhile
			return nil
		}
		n.Name, n.Address, n.Facts, n.Seen = waitingName(facts, id), remote, facts, now
		return t.SaveNode(ctx, n)
	})
	if err == nil {
		d.nodes.asked(id, now)
	}
	return n, err
}

// sameFacts reports whether two facts look the same to who must decide.
func sameFacts(a, b api.NodeFacts) bool {
	return a.Name == b.Name && a.Serial == b.Serial && a.Model == b.Model && a.Arch == b.Arch && a.Version == b.Version && a.CPUs == b.CPUs && a.Memory == b.Memory && slices.Equal(a.Networks, b.Networks)
}

// admitted notes that a machine of an address is shown, and reports whether
// that is news.
func (n *nodes) admitted(remote string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.queue.leave(remote, now)
}

// asked notes when a machine that waits asked, without a write.
func (n *nodes) asked(id string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.joins[id] = now // of machines that have a row, which are bounded
}

func (n *nodes) askedAt(id string, seen time.Time) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at := n.joins[id]; at.After(seen) {
		return at
	}
	return seen
}

func (d *Director) nodeCertificate(csr string, n store.Node) (api.Enrolled, error) {
	id := api.Identity{Installation: d.installation, Role: api.RoleNode, Name: n.ID}
	return d.certificate(csr, id, store.Instance{Instance: api.Instance{Address: n.Address}})
}

// renewNode signs for the same key only: its fingerprint is what people know
// the machine by.
func (d *Director) renewNode(ctx context.Context, id api.Identity, csr string) (api.Enrolled, error) {
	n, err := d.store.Node(ctx, id.Name)
	if err != nil {
		return api.Enrolled{}, err
	}
	key, err := pki.KeySHA256([]byte(csr))
	if err != nil {
		return api.Enrolled{}, err
	}
	if key != n.Fingerprint {
		return api.Enrolled{}, &api.Error{Code: api.CodeForbidden, Op: "renew", Message: "this is not the key of node " + n.Name}
	}
	return d.nodeCertificate(csr, n)
}

// node accepts the certificate of a node that was not removed. That it was is
// told in a way that it cannot mistake: it ends its containers then.
func (g guard) node(ctx context.Context, identity api.Identity) (httpapi.Principal, error) {
	n, err := g.store.Node(ctx, identity.Name)
	if api.CodeOf(err) == api.CodeNotFound || err == nil && (n.ID != identity.Name || !n.Approved) {
		return httpapi.Principal{}, &api.Error{Code: api.CodeNotFound, Object: "node " + identity.Name, Message: "it was removed"}
	}
	return httpapi.Principal{Identity: identity}, err
}

// sendLayer gives a layer of a file system to a node.
func (d *Director) sendLayer(ctx context.Context, in *struct {
	Digest string `path:"digest" pattern:"^[0-9a-f]{64}$"`
}) (*httpapi.Stream, error) {
	if d.c.Layer == nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "send", Object: "layer " + api.Shorten(in.Digest), Message: "nobody builds images here"}
	}
	if ok, wait := d.joins.Allow("layer " + httpapi.Who(ctx).Identity.Name); !ok { // each is compressed for it
		return nil, &api.Error{Code: api.CodeTooMany, Op: "send", Object: "layer " + api.Shorten(in.Digest), Message: "this node asks for layers more often than it should", RetryAfter: int(wait.Seconds()) + 1}
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(d.c.Layer(ctx, in.Digest, w)) }()
	return &httpapi.Stream{Type: "application/zstd", Whole: true, Read: r}, nil
}

var digestPattern = regexp.MustCompile(`^[0-9a-f]{16,128}$`)

// cleanFacts cuts what a machine says of itself to what can be shown and kept.
func cleanFacts(f api.NodeFacts) api.NodeFacts {
	f.Name, f.Serial, f.Model = cleanText(f.Name), cleanText(f.Serial), cleanText(f.Model)
	f.Clock, f.Boot = time.Time{}, ""
	f.Arch, f.Version, f.Problem = cleanText(f.Arch), cleanText(f.Version), cleanText(f.Problem)
	if f.Port < 1 || f.Port > 65535 {
		f.Port = 0
	}
	f.CPUs = min(max(f.CPUs, 0), 4096)
	for _, n := range []*int64{&f.Memory, &f.MemoryFree, &f.Disk, &f.DiskFree} {
		*n = max(*n, 0)
	}
	if !(f.Load >= 0) || math.IsInf(f.Load, 0) {
		f.Load = 0
	}
	f.Load = math.Round(min(f.Load, 100_000)*100) / 100
	for _, h := range []*float64{&f.Heat, &f.HeatMost} {
		if !(*h > 0 && *h < 200) { // nothing that computes
			*h = 0
		}
		*h = math.Round(*h*10) / 10
	}
	f.Layers = f.Layers[:min(len(f.Layers), mostNodeLayers)]
	f.Layers = slices.DeleteFunc(slices.Clone(f.Layers), func(l string) bool { return !digestPattern.MatchString(l) })
	var networks []string
	for _, text := range f.Networks[:min(len(f.Networks), mostNetworks)] {
		if p, err := netip.ParsePrefix(text); err == nil && p.Bits() >= 8 { // nobody takes all networks away by naming a large one
			networks = append(networks, p.Masked().String())
		}
	}
	f.Networks = networks
	return f
}

// mostText is how much of a text of a machine is kept, in bytes.
const mostText = 200

func cleanText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ReplaceAll(s[:min(len(s), 4*mostText)], "\n", "; "))
	return strings.ToValidUTF8(strings.TrimSpace(s[:min(len(s), mostText)]), "")
}

// ordinary are names that tell nothing: whole shelves have them.
var ordinary = []string{"", "localhost", "raspberrypi", "nutshell", "nutshell-node", "node", "debian"}

// waitingName is what a machine is called until somebody names it.
func waitingName(f api.NodeFacts, id string) string {
	if name := slug(strings.SplitN(f.Name, ".", 2)[0]); !slices.Contains(ordinary, name) && api.CheckName("node", name) == nil {
		return name
	}
	model, serial := slug(f.Model), slug(f.Serial)
	if strings.HasPrefix(model, "raspberry-pi-") {
		words := strings.Split(model, "-")
		model = "pi" + words[min(2, len(words)-1)]
	}
	if model = strings.Trim(model[:min(len(model), 20)], "-"); model == "" || model[0] < 'a' {
		model = "node"
	}
	if serial == "" {
		serial = id
	}
	return model + "-" + strings.Trim(serial[max(0, len(serial)-6):], "-")
}

func slug(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, s[:min(len(s), 40)])
	for strings.Contains(s, "--") {
		s = strings.ReplaceAll(s, "--", "-")
	}
	return strings.Trim(s, "-")
}
