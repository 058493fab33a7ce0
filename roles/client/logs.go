package client

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func logFlags(more ...cli.Flag) []cli.Flag {
	return append(more,
		&cli.IntFlag{Name: "tail", Aliases: []string{"n"}, Usage: "the last lines only, so many (0: all)"},
		&cli.BoolFlag{Name: "follow", Usage: "go on with what is added, until Ctrl-C"})
}

// logQuery asks for whole logs, as ConPaaS's commands print them, unless a
// person follows: then the last lines are enough.
func (r *call) logQuery() string {
	q := url.Values{"tail": {strconv.Itoa(r.Int("tail"))}}
	if r.Bool("follow") {
		q.Set("follow", "true")
		if !r.IsSet("tail") {
			q.Set("tail", "20")
		}
	}
	return "?" + q.Encode()
}

// safeOut is stdout; on a terminal, what could steer it is taken out of
// other people's text.
func (r *call) safeOut() io.Writer {
	if isTerminal(r.o.Stdout) {
		return safeWriter{r.o.Stdout}
	}
	return r.o.Stdout
}

type safeWriter struct{ w io.Writer }

// Write replaces control characters, byte by byte, so that text cut in the
// middle of a letter survives.
func (s safeWriter) Write(b []byte) (int, error) {
	clean := slices.Clone(b)
	for i, c := range clean {
		if (c < ' ' && c != '\n' && c != '\t') || c == 0x7f {
			clean[i] = '?'
		}
	}
	return s.w.Write(clean)
}

func (c *Client) logVerbs(kind *api.Kind) []*cli.Command {
	return []*cli.Command{
		c.ofKind(kind, "get-log", "what the manager logged of a service", argApp+" "+argServ, onService(func(r *call, _ api.Application, s api.Service) error {
			return r.stream(servicePath(s)+"/log"+r.logQuery(), r.safeOut())
		}), logFlags()...),
		c.ofKind(kind, "get-history", "states and why", argApp+" "+argServ, onService(func(r *call, _ api.Application, s api.Service) error {
			return r.history(servicePath(s))
		})),
		c.ofKind(kind, "list-agent-logs", "the logs that a node keeps", argApp+" "+argServ+" <agent_id>", onService(listAgentLogs)),
		c.ofKind(kind, "get-agent-log", "one log of a node", argApp+" "+argServ+" <agent_id>", onService(agentLog),
			logFlags(&cli.StringFlag{Name: "filename", Aliases: []string{"f"}, Usage: "which log, as list-agent-logs names it"})...),
	}
}

func logsPath(r *call, s api.Service) string {
	return fmt.Sprintf("%s/instances/%s/logs", servicePath(s), escape(r.arg("agent_id")))
}

func listAgentLogs(r *call, _ api.Application, s api.Service) error {
	var logs []api.Log
	if err := r.agentLogs(s, &logs); err != nil {
		return err
	}
	t := &table{columns: []string{"filename", "description"}, none: "No existing logs."}
	for _, l := range logs {
		t.add(l.Name, l.Description)
	}
	return r.show(logs, t)
}

// agentLogs lists an agent's logs; an unknown agent is answered with those
// that there are.
func (r *call) agentLogs(s api.Service, logs *[]api.Log) error {
	err := r.get(logsPath(r, s), logs)
	if api.CodeOf(err) != api.CodeNotFound {
		return err
	}
	var ids []string
	for _, i := range s.Instances {
		if i.ID == r.arg("agent_id") {
			return err
		}
		ids = append(ids, i.ID)
	}
	return &api.Error{Code: api.CodeNotFound, Message: "Unknown agent_id " + api.Shorten(r.arg("agent_id")) + didYouMean(r.arg("agent_id"), ids), Hint: "there are: " + orDash(shortList(ids))}
}

// agentLog prints one log; without a name it is the agent's own.
func agentLog(r *call, _ api.Application, s api.Service) error {
	name := r.String("filename")
	if name == "" {
		var logs []api.Log
		if err := r.agentLogs(s, &logs); err != nil {
			return err
		}
		for _, l := range logs {
			if name == "" || l.Name == "agent.log" || (l.Name == "agent" && name != "agent.log") {
				name = l.Name
			}
		}
		if name == "" {
			return api.NotFoundf("this node keeps no logs yet")
		}
	}
	return r.stream(logsPath(r, s)+"/"+escape(name)+r.logQuery(), r.safeOut())
}
