package client

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// maxEvent bounds one line of the stream.
const maxEvent = 4 << 20

func (c *Client) eventVerbs() []*cli.Command {
	return []*cli.Command{c.verb("follow", "show what changes until Ctrl-C", "", followEvents,
		&cli.StringFlag{Name: "application", Aliases: []string{"a"}, Usage: "of this application only"})}
}

// followEvents prints events, one line each; with -o json each line is one
// api.Event. A stream that breaks is taken up again where it ended.
func followEvents(r *call) error {
	var only int64
	if name := r.String("application"); name != "" {
		a, err := r.findApplication(name)
		if err != nil {
			return err
		}
		only = a.ID
	}
	var last int64
	for began := time.Now(); ; {
		resp, err := r.openEvents(last)
		switch {
		case r.ctx().Err() != nil:
			return r.ctx().Err()
		case err != nil && (api.CodeOf(err) != api.CodeUnavailable || last == 0 || time.Since(began) > patience):
			return err
		case err == nil:
			began = time.Now()
			readEvents(resp, func(e api.Event) {
				last = max(last, e.ID)
				if only == 0 || e.Application == only {
					r.printEvent(e)
				}
			})
			_ = resp.Close()
		}
		sleep(r.ctx(), time.Second)
	}
}

func (r *call) openEvents(last int64) (io.ReadCloser, error) {
	if err := r.connect(); err != nil {
		return nil, err
	}
	c := r.rpc(*r.conn)
	if last > 0 {
		c.HTTP.Transport = &header{next: c.HTTP.Transport, name: "Last-Event-ID", value: strconv.FormatInt(last, 10)}
	}
	resp, err := c.Stream(r.ctx(), "GET", "/api/v1/events", nil)
	if err != nil {
		return nil, r.explain(err)
	}
	return resp.Body, nil
}

// readEvents calls show for each event of a stream of server-sent events
// until the stream ends.
func readEvents(from io.Reader, show func(api.Event)) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxEvent)
	var data strings.Builder
	for lines.Scan() {
		line := lines.Text()
		if d, ok := strings.CutPrefix(line, "data:"); ok {
			data.WriteString(d)
			continue
		}
		if line != "" || data.Len() == 0 {
			continue
		}
		var e api.Event
		if json.Unmarshal([]byte(data.String()), &e) == nil && e.Type != "" && e.Type != "hello" {
			show(e)
		}
		data.Reset()
	}
}

func (r *call) printEvent(e api.Event) {
	if r.g.output == "json" {
		_ = json.NewEncoder(r.o.Stdout).Encode(e)
		return
	}
	if r.g.output == "yaml" {
		fmt.Fprintln(r.o.Stdout, "---")
		_ = writeYAML(r.o.Stdout, e)
		return
	}
	// Most things have a state and say why or what.
	var thing struct{ State, Reason, Title, Name string }
	_ = json.Unmarshal(e.Data, &thing)
	said := strings.Join(strings.Fields(strings.Join([]string{thing.Name, thing.Title, thing.State, thing.Reason}, " ")), " ")
	fmt.Fprintf(r.o.Stdout, "%s %-12s %s %s\n", e.Time.Local().Format(time.DateTime), printable(e.Type), printable(e.Object), printable(said))
}
