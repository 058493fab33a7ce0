package web

import (
	"bytes"
	"context"
	"embed"
	"net"
	"strconv"
	"text/template"
)

//go:embed *.tmpl
var files embed.FS

// Templates are those of this package; a kind parses its own into them, which
// can use "frame", "trust" and "hidden".
func Templates() (*template.Template, error) {
	return template.New("").ParseFS(files, "*.tmpl")
}

// Peer is a web or backend node as a proxy reaches it.
type Peer struct {
	Instance string `json:"instance"`
	Address  string `json:"address"`
	Port     int    `json:"port"`
	Weight   int    `json:"weight,omitempty"` // share of the requests, DefaultWeight where nothing was said
}

// DefaultWeight is the weight of a node of which nothing was said.
const DefaultWeight = 100

// Root is where this instance keeps a code version.
type Root struct {
	Version, Dir string
	Site         string   // the directory that web servers show: Dir, or what a Publisher made of it
	Denied       []string // directories that visitors must not see
}

// Pages says how paths become pages, in nginx's words.
type Pages struct {
	Index   string // dynamic index file of a directory
	Dynamic string // pattern of the paths that are pages
	Local   string // locations that make pages on this instance, one of them named @app
	Outside string // what these need outside of the server, such as upstreams
}

// proxyData is what proxy.tmpl gets.
type proxyData struct {
	Frame
	Pages
	Root           string // link to the version that is served
	Webs, Backends []string
	BodyMax        string
	ReadTimeout    int
}

// TierData is what the templates of nodes behind proxies get.
type TierData struct {
	Frame
	Proxies []string // addresses; nobody else is answered
	Roots   []Root
}

// Tier makes the data of a node behind proxies.
func Tier(f Frame, proxies []string, roots []Root) TierData {
	f.Denied = deniedPattern(roots)
	return TierData{Frame: f, Proxies: proxies, Roots: roots}
}

func execute(t *template.Template, name string, data any) (string, error) {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, data); err != nil {
		return "", err
	}
	return b.String(), nil
}

// ServeTemplate runs nginx with a template; fill gets the frame.
func (n *Nginx) ServeTemplate(ctx context.Context, t *template.Template, name string, fill func(Frame) any) error {
	return n.Serve(ctx, func(revision string) (string, error) {
		f := n.Frame()
		f.Revision = revision
		return execute(t, name, fill(f))
	})
}

func addresses(peers []Peer) []string {
	var list []string
	for _, p := range peers {
		list = append(list, net.JoinHostPort(p.Address, strconv.Itoa(p.Port)))
	}
	return list
}
