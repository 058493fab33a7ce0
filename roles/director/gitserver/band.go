package gitserver

import (
	"io"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
)

// Channels of a side band.
const (
	bandData     = 1
	bandProgress = 2 // for people
	bandError    = 3 // for people, and the end
)

// What one packet of a side band carries, without the channel's number.
const (
	bandMost  = 65515 // side-band-64k; go-git's own multiplexer makes packets that are too long
	bandLeast = 995   // side-band
)

// band sends several streams as one.
type band struct {
	to   *pktline.Encoder
	most int
}

// newBand makes the side band that a client can read, nil if it can none.
func newBand(w io.Writer, caps map[string]bool) *band {
	switch {
	case caps["side-band-64k"]:
		return &band{pktline.NewEncoder(w), bandMost}
	case caps["side-band"]:
		return &band{pktline.NewEncoder(w), bandLeast}
	}
	return nil
}

// Write sends data.
func (b *band) Write(p []byte) (int, error) { return b.send(bandData, p) }

func (b *band) send(channel byte, p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		part := p[sent:min(len(p), sent+b.most)]
		if err := b.to.Encode(append([]byte{channel}, part...)); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}
