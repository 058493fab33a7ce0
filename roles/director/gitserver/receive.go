package gitserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"

	"nutshell/roles/api"
)

// receiveCaps is what we can when a client pushes. no-thin: every pack must
// hold the bases of its deltas, so that it can be looked at on its own.
const receiveCaps = "report-status delete-refs side-band-64k quiet atomic ofs-delta no-thin object-format=sha1 agent=nutshell"

// hearOut is how long the rest of a refused push is still read. A client that
// cannot go on sending shows a broken connection, not why.
const hearOut = 20 * time.Second

// command is one reference that a client wants changed.
type command struct {
	name     string
	old, new plumbing.Hash
	problem  string // why not
}

// receive is one push, the server's side of git-receive-pack.
type receive struct {
	ctx   context.Context
	s     *Server
	repo  *repository
	in    *bufio.Reader
	w     *bufio.Writer
	out   *pktline.Encoder
	band  *band // nil if the client cannot
	caps  map[string]bool
	list  []command
	taken *indexer

	checked int64 // state of the packs with which everything was there
}

// receivePack serves one push and returns what it has changed.
func (s *Server) receivePack(ctx context.Context, r *repository, stream io.ReadWriter, pushed func(changes []Change, out io.Writer)) error {
	w := bufio.NewWriterSize(stream, 64<<10)
	p := &receive{ctx: ctx, s: s, repo: r, in: bufio.NewReaderSize(stream, 64<<10), w: w, out: pktline.NewEncoder(w)}
	all, err := r.refs()
	if err != nil {
		return err
	}
	if err := p.advertise(all); err != nil {
		return err
	}
	if err := p.readCommands(); err != nil || len(p.list) == 0 {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(r.dir, "incoming"), "push-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	problem := p.takeIn(dir)
	if p.taken != nil {
		defer p.taken.close()
	}
	if errors.Is(problem, io.ErrUnexpectedEOF) || ctx.Err() != nil {
		return errors.Join(problem, ctx.Err()) // nobody is left to hear it
	}
	var changes []Change
	if problem == nil {
		changes, problem = p.update()
	}
	if problem != nil {
		p.tell(problem)
	}
	if len(changes) > 0 {
		// What the push leads to is told before the report, because git shows no more behind it.
		pushed(changes, p.progress())
	}
	return p.report(problem)
}

func (p *receive) advertise(all refs) error {
	caps := "\x00" + receiveCaps
	for _, name := range all.names() {
		_ = p.out.Encodef("%s %s%s\n", all[name].id, name, caps) // the flush tells
		caps = ""
	}
	if caps != "" {
		_ = p.out.Encodef("%s capabilities^{}%s\n", plumbing.ZeroHash, caps)
	}
	_ = p.out.Flush()
	return p.w.Flush()
}

// readCommands reads what is to be changed. Nothing means that everything is
// up to date.
func (p *receive) readCommands() error {
	lines := pktline.NewScanner(p.in)
	named := map[string]bool{}
	for n := 0; lines.Scan(); n++ {
		if len(lines.Bytes()) == 0 {
			p.band = newBand(p.w, p.caps)
			return nil
		}
		line, caps, first := strings.Cut(strings.TrimSuffix(string(lines.Bytes()), "\n"), "\x00")
		if first && p.caps == nil {
			p.caps = map[string]bool{}
			for _, c := range strings.Fields(caps) {
				p.caps[c] = true
			}
		}
		if strings.HasPrefix(line, "shallow ") {
			continue // what its history needs and we have not is found out later
		}
		if len(line) < 83 || line[40] != ' ' || line[81] != ' ' {
			return wrongLine(line)
		}
		c := command{name: strings.TrimSuffix(line[82:], "\n")}
		var ok, ok2 bool
		c.old, ok = hashOf(line[:40], true)
		c.new, ok2 = hashOf(line[41:81], true)
		switch {
		case !ok || !ok2 || named[c.name]:
			return wrongLine(line)
		case n >= maxRefs:
			return api.Invalidf("the push changes more than %d references at once", maxRefs)
		}
		named[c.name] = true
		p.list = append(p.list, c)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(p.list) > 0 {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// takeIn reads the pack that follows, unless everything is to be deleted.
func (p *receive) takeIn(dir string) error {
	needed := false
	for _, c := range p.list {
		needed = needed || !c.new.IsZero()
	}
	if !needed {
		return nil
	}
	have, err := p.repo.bytes()
	if err != nil {
		return err
	}
	p.taken = &indexer{dir: dir, limits: p.s.c.Limits, inflate: &inflaters{}}
	err = p.taken.takeIn(p.ctx, p.in)
	if err == nil && have > 0 && have+p.taken.size() > p.s.c.Limits.Repository {
		err = tooLarge("with it the repository would be larger than %s", bytesText(p.s.c.Limits.Repository), "git.max_repository_bytes")
	}
	if err == nil {
		p.checked = p.repo.tidied.Load()
		var o *objects
		if o, err = p.repo.objects(p.ctx); err != nil {
			return err
		}
		defer o.close()
		return p.connected(o)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) && p.ctx.Err() == nil {
		p.tell(err)
		p.drain()
	}
	return err
}

// drain reads for a while what still comes of a refused push.
func (p *receive) drain() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, p.in)
	}()
	select {
	case <-ended:
	case <-p.ctx.Done():
	case <-time.After(hearOut):
	}
}

// connected makes sure that everything that the push speaks of is there.
func (p *receive) connected(o *objects) error {
	kindOf := func(h plumbing.Hash) (plumbing.ObjectType, bool, error) {
		if i, ok := p.taken.byHash[h]; ok {
			return p.taken.entries[i].kind, true, nil
		}
		return o.kindOf(h)
	}
	for h, want := range p.taken.needs {
		switch got, ok, err := kindOf(h); {
		case err != nil:
			return err
		case !ok:
			return damaged("it speaks of the %s %s, which is not there", want, h)
		case got != want:
			return damaged("it speaks of %s as a %s, which is a %s", h, want, got)
		}
	}
	for i := range p.list {
		c := &p.list[i]
		if c.new.IsZero() {
			continue
		}
		switch got, ok, err := kindOf(c.new); {
		case err != nil:
			return err
		case !ok:
			c.problem = "the object " + shortID(c.new) + " was not sent"
		case strings.HasPrefix(c.name, "refs/heads/") && got != plumbing.CommitObject:
			c.problem = "a branch must show a commit, not a " + got.String()
		}
	}
	return nil
}

// tell shows an error to the person who pushes.
func (p *receive) tell(err error) {
	if p.band == nil {
		return
	}
	text := err.Error()
	var e *api.Error
	if !errors.As(err, &e) && !errors.Is(err, errDamaged) {
		text = "the director could not take the push; its log says why"
	}
	_, _ = fmt.Fprintf(p.progress(), "ERROR: %s\n", text)
}

// progress writes lines that the client shows.
func (p *receive) progress() io.Writer {
	if p.band == nil {
		return io.Discard
	}
	return progress{p}
}

type progress struct{ p *receive }

// Write shows a piece of text at once.
func (w progress) Write(b []byte) (int, error) {
	if _, err := w.p.band.send(bandProgress, b); err != nil {
		return 0, err
	}
	return len(b), w.p.w.Flush()
}

// report tells how each reference fared.
func (p *receive) report(problem error) error {
	if !p.caps["report-status"] {
		return p.w.Flush()
	}
	var lines strings.Builder
	e := pktline.NewEncoder(&lines)
	unpack := "ok"
	if problem != nil {
		unpack = "refused"
	}
	_ = e.Encodef("unpack %s\n", unpack) // into memory
	for _, c := range p.list {
		switch {
		case problem != nil:
			_ = e.Encodef("ng %s refused\n", c.name)
		case c.problem != "":
			_ = e.Encodef("ng %s %s\n", c.name, c.problem)
		default:
			_ = e.Encodef("ok %s\n", c.name)
		}
	}
	_ = e.Flush()
	if p.band == nil {
		_, _ = p.w.WriteString(lines.String())
		return p.w.Flush()
	}
	_, _ = p.band.Write([]byte(lines.String()))
	_ = p.out.Flush()
	return p.w.Flush()
}
