package gitserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"

	"nutshell/roles/api"
)

// uploadCaps is what we can when a client fetches.
const uploadCaps = "multi_ack_detailed multi_ack side-band-64k side-band ofs-delta shallow no-progress object-format=sha1 agent=nutshell"

// maxWants bounds the lines that a fetching client may send.
const maxWants = 100_000

// upload is one fetch or clone, the server's side of git-upload-pack.
type upload struct {
	ctx  context.Context
	repo *repository
	in   *pktline.Scanner
	w    *bufio.Writer
	out  *pktline.Encoder

	refs  refs
	o     *objects
	walk  *walk
	caps  map[string]bool
	wants []plumbing.Hash
	depth int
	have  []plumbing.Hash // of the client's, those that we have, too
}

// uploadPack serves one fetch. A client that wants nothing is up to date and
// goes away: that is no error.
func (s *Server) uploadPack(ctx context.Context, r *repository, stream io.ReadWriter) error {
	w := bufio.NewWriterSize(stream, 64<<10)
	u := &upload{ctx: ctx, repo: r, in: pktline.NewScanner(bufio.NewReader(stream)), w: w, out: pktline.NewEncoder(w)}
	var err error
	if u.refs, err = r.refs(); err != nil {
		return err
	}
	if u.o, err = r.objects(ctx); err != nil {
		return err
	}
	defer u.o.close()
	u.walk = newWalk(u.o)
	if err := u.advertise(); err != nil {
		return err
	}
	if err := u.readWants(); err != nil || len(u.wants) == 0 {
		return err
	}
	within, err := u.shorten()
	if err != nil {
		return err
	}
	if err := u.negotiate(); err != nil {
		return err
	}
	return u.send(within)
}

// advertise lists what there is.
func (u *upload) advertise() error {
	caps := "\x00" + uploadCaps
	head, err := u.repo.head()
	if err != nil {
		return err
	}
	if at, ok := u.refs[head]; ok {
		_ = u.out.Encodef("%s HEAD%s symref=HEAD:%s\n", at.id, caps, head) // the flush tells
		caps = ""
	}
	for _, name := range u.refs.names() {
		at := u.refs[name]
		_ = u.out.Encodef("%s %s%s\n", at.id, name, caps)
		caps = ""
		if !at.peeled.IsZero() {
			_ = u.out.Encodef("%s %s^{}\n", at.peeled, name)
		}
	}
	if caps != "" {
		_ = u.out.Encodef("%s capabilities^{}%s symref=HEAD:%s\n", plumbing.ZeroHash, caps, head)
	}
	_ = u.out.Flush()
	return u.w.Flush()
}

// wrongLine is what no git client says.
func wrongLine(line string) error {
	return api.Invalidf("the client said what is not git's protocol: %s", api.Shorten(line))
}

// readWants reads what the client asks for.
func (u *upload) readWants() error {
	known := map[plumbing.Hash]bool{}
	for _, h := range u.refs.tips() {
		known[h] = true
	}
	for n := 0; u.in.Scan(); n++ {
		if len(u.in.Bytes()) == 0 {
			return nil
		}
		line := strings.TrimSuffix(string(u.in.Bytes()), "\n")
		word, rest, _ := strings.Cut(line, " ")
		id, caps, _ := strings.Cut(rest, " ")
		h, isHash := hashOf(id, true)
		switch {
		case n > maxWants:
			return api.Invalidf("the client wants more than %d things at once", maxWants)
		case word == "want" && isHash:
			if u.caps == nil {
				u.caps = map[string]bool{}
				for _, c := range strings.Fields(caps) {
					u.caps[c] = true
				}
			}
			if !known[h] {
				return &api.Error{Code: api.CodeNotFound, Object: "commit " + shortID(h), Message: "no branch or tag shows it any more", Hint: "fetch again"}
			}
			u.wants = append(u.wants, h)
		case word == "shallow" && isHash:
			if u.o.has(h) {
				u.walk.shallow[h] = true
			}
		case word == "deepen":
			d, err := strconv.Atoi(rest)
			if err != nil || d < 1 {
				return wrongLine(line)
			}
			u.depth = d
		default:
			return wrongLine(line)
		}
	}
	return u.in.Err() // the client has gone, perhaps because it is up to date
}

// shorten finds where a shallow clone ends, and tells the client.
func (u *upload) shorten() (within map[plumbing.Hash]bool, err error) {
	if u.depth == 0 {
		return nil, nil
	}
	var tips []plumbing.Hash
	for _, w := range u.wants {
		h, kind, _, err := u.walk.peel(w)
		if err != nil {
			return nil, err
		}
		if kind == plumbing.CommitObject {
			tips = append(tips, h)
		}
	}
	depth := u.depth
	if depth >= forever {
		depth = int(^uint(0) >> 1)
	}
	within, ends, err := u.walk.within(tips, depth)
	if err != nil {
		return nil, err
	}
	isEnd := map[plumbing.Hash]bool{}
	for _, h := range ends {
		isEnd[h] = true
		if !u.walk.shallow[h] {
			_ = u.out.Encodef("shallow %s\n", h) // the flush tells
		}
	}
	for h := range u.walk.shallow {
		if within[h] && !isEnd[h] {
			_ = u.out.Encodef("unshallow %s\n", h)
		}
	}
	_ = u.out.Flush()
	return within, u.w.Flush()
}

// negotiate finds out what the client has. With multi_ack_detailed it hears
// at once which of its commits we know, and stops when we have enough.
func (u *upload) negotiate() error {
	detailed, multi := u.caps["multi_ack_detailed"], u.caps["multi_ack_detailed"] || u.caps["multi_ack"]
	known := map[plumbing.Hash]bool{}
	var last plumbing.Hash
	ready, news := false, false
	ack := func(h plumbing.Hash, how string) { _ = u.out.Encodef("ACK %s%s\n", h, how) } // the flush tells
	for u.in.Scan() {
		line := strings.TrimSuffix(string(u.in.Bytes()), "\n")
		id, isHave := strings.CutPrefix(line, "have ")
		h, isHash := hashOf(id, isHave)
		switch {
		case line == "":
			if detailed && news && !ready && u.enough(known) {
				ready = true
				ack(last, " ready")
			}
			news = false
			if len(known) == 0 || multi {
				_ = u.out.EncodeString("NAK\n")
			}
			if err := u.w.Flush(); err != nil {
				return err
			}
		case line == "done":
			if len(known) == 0 {
				_ = u.out.EncodeString("NAK\n")
			} else if multi {
				ack(last, "")
			}
			return u.w.Flush()
		case isHash:
			if kind, ok, err := u.o.kindOf(h); err != nil {
				return err
			} else if !ok || kind != plumbing.CommitObject {
				continue
			}
			if !known[h] {
				known[h] = true
				u.have = append(u.have, h)
			}
			last, news = h, true
			switch {
			case detailed:
				ack(h, " common")
			case multi:
				ack(h, " continue")
			case len(known) == 1:
				ack(h, "")
			}
		default:
			return wrongLine(line)
		}
	}
	if err := u.in.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// enough tells whether every wanted commit builds on one that the client has.
func (u *upload) enough(known map[plumbing.Hash]bool) bool {
	if u.depth > 0 {
		return false
	}
	for _, want := range u.wants {
		h, kind, _, err := u.walk.peel(want)
		if err != nil || kind != plumbing.CommitObject {
			return false
		}
		found := false
		met := map[plumbing.Hash]bool{}
		for todo := []plumbing.Hash{h}; len(todo) > 0 && !found; {
			h := todo[0]
			todo = todo[1:]
			if found = known[h]; found || met[h] || u.walk.shallow[h] {
				continue
			}
			met[h] = true
			c, err := u.walk.commit(h)
			if err != nil {
				return false
			}
			todo = append(todo, c.parents...)
		}
		if !found {
			return false
		}
	}
	return true
}

// send sends what the client lacks.
func (u *upload) send(within map[plumbing.Hash]bool) error {
	has, err := u.walk.has(u.have)
	if err != nil {
		return u.fatal(err)
	}
	if err := u.walk.lacks(u.wants, has, within); err != nil {
		return u.fatal(err)
	}
	var to io.Writer = u.w
	banded := newBand(u.w, u.caps)
	if banded != nil {
		to = banded
		if !u.caps["no-progress"] {
			_, _ = banded.send(bandProgress, fmt.Appendf(nil, "Sending %d objects.\n", len(u.walk.list)))
		}
	}
	if _, err := u.o.writePack(to, u.walk.list); err != nil {
		return u.fatal(err)
	}
	if banded != nil {
		_ = u.out.Flush() // the next flush tells
	}
	return u.w.Flush()
}

// fatal tells the client why nothing more comes.
func (u *upload) fatal(err error) error {
	if b := newBand(u.w, u.caps); b != nil {
		_, _ = b.send(bandError, []byte("the director could not read the repository; its log says why\n"))
		return errors.Join(err, u.w.Flush())
	}
	return err
}
