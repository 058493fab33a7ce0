// Command bench measures Nutshell side by side with what one would do by
// hand, on this machine, in one run, and prints ratios. It starts a Nutshell
// of its own in a scratch directory and talks to it as any client does. What
// is measured against what stands beside each measure in measures.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"nutshell/roles/api"
)

// bench is one run.
type bench struct {
	api      *client
	director *director
	cloud    string // driver: lxc or process
	dir      string // scratch of peers
	duration time.Duration
	services int
	wiki     string // archive of DokuWiki, or empty
}

// measure is one line, or some lines, of the table.
type measure struct {
	name string
	run  func(*bench, context.Context) ([]row, error)
}

var measures = []measure{
	{"application", (*bench).applicationStart},
	{"php", (*bench).phpStart},
	{"scale", (*bench).scale},
	{"pages", (*bench).pages},
	{"push", (*bench).push},
	{"mysql", (*bench).mysql},
	{"wordpress", (*bench).wordpress},
	{"idle", (*bench).idle},
	{"list", (*bench).list},
}

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) == 2 && os.Args[1] == serveArg {
		return serveHTTPS() // we are the process in a peer's container
	}
	binary := flag.String("binary", "./nutshell", "the binary to measure")
	only := flag.String("only", "", "measures to take, separated by commas: "+strings.Join(names(), ", "))
	duration := flag.Duration("duration", 10*time.Second, "of each load")
	services := flag.Int("services", 10000, "services to list")
	data := flag.String("data", "", "keep the data directory here, so that images are not built again")
	port := flag.Int("port", api.DirectorPort, "the director listens on; containers reach no other")
	wiki := flag.String("wiki", "dist/dokuwiki.tar.gz", "archive of DokuWiki (make demo); empty: measure the small page only")
	write := flag.Bool("write", false, "write docs/bench/latest.md")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rows, err := all(ctx, *binary, *data, *only, *port, bench{duration: *duration, services: *services, wiki: *wiki})
	fmt.Print(table(rows))
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	if *write {
		if err := os.WriteFile("docs/bench/latest.md", []byte(markdown(rows, machine(ctx))), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
	}
	for _, r := range rows {
		if r.failed() {
			return 1
		}
	}
	return 0
}

func names() []string {
	list := make([]string, len(measures))
	for i, m := range measures {
		list[i] = m.name
	}
	return list
}

// all starts Nutshell and takes the measures. A measure that fails is a row
// that says so; the others go on.
func all(ctx context.Context, binary, data, only string, port int, b bench) ([]row, error) {
	dir, err := os.MkdirTemp("", "nutshell-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // daemons of instances have accounts of their own
		return nil, err
	}
	if data == "" {
		data = filepath.Join(dir, "data")
	}
	b.dir = filepath.Join(dir, "peers")
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	b.director, err = startDirector(ctx, binary, data, port)
	if err != nil {
		return nil, err
	}
	defer b.director.stop()
	b.api = b.director.client
	b.cloud, err = b.api.defaultCloud(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.api.clear(ctx); err != nil { // of a run before that was killed
		return nil, err
	}
	var rows []row
	for _, m := range measures {
		if only != "" && !strings.Contains(","+only+",", ","+m.name+",") {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring: %s\n", m.name)
		got, err := m.run(&b, ctx)
		rows = append(rows, got...)
		if ctx.Err() != nil {
			return rows, ctx.Err()
		}
		if err != nil {
			rows = append(rows, row{what: m.name, err: err})
		}
	}
	return rows, b.api.clear(ctx)
}
