package web

import (
	"bytes"
	"context"
	"embed"
	"text/template"
)

//go:embed *.tmpl
var files embed.FS

// Templates are those of this package; a kind parses its own into them, which
// can use "frame", "trust", "version", "hidden", "pass" and "here".
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
	Here         string   // socket where its pages are made, see Maker
}

// Pages says how paths become pages, in nginx's words.
type Pages struct {
	Index   string // dynamic index file of a directory; empty: what makes pages makes those of directories, too
	Dynamic string // pattern of the paths that are pages; empty: those that are no files
	Local   string // locations that make pages on this instance, one of them named @app; empty: backends are asked over the network, also the one here
	Outside string // what these need outside of the server, such as {{template "here"}}
	Socket  string // of what makes all pages here, waited for when it is being started again; empty: see Maker
	Sticky  string // cookie that ends in a dot and the id of the instance whose session it is; empty: none
}

// Maker is a Pager that makes the pages of each version apart, at a socket of
// its own. Its templates pass them to the upstream "here".
type Maker interface {
	// Here is the path of the socket; empty: none, the version is not live.
	Here(version string) string
}

// proxyData is what proxy.tmpl gets.
type proxyData struct {
	Frame
	Pages
	BodyMax     string
	ReadTimeout int
	Front       []string // trusted fronts
	Snippets    Snippets
}

// TierData is what the templates of nodes behind proxies get.
type TierData struct {
	Frame
}

// ServeTemplate runs nginx with a template and a state; fill gets the frame.
func (n *Nginx) ServeTemplate(ctx context.Context, t *template.Template, name string, s State, fill func(Frame) any) error {
	return n.Serve(ctx, s, func(revision string) (string, error) {
		f := n.Frame()
		f.Revision = revision
		return execute(t, name, fill(f))
	})
}

func execute(t *template.Template, name string, data any) (string, error) {
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, data); err != nil {
		return "", err
	}
	return b.String(), nil
}
