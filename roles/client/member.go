package client

import (
	"net/http"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

// argAccess is what somebody can be to an application, in usages.
const argAccess = "viewer|developer|owner"

// memberVerbs are the verbs of the object member: who may use an application.
func (c *Client) memberVerbs() []*cli.Command {
	set := func(r *call, a api.Application) error {
		access := r.arg(argAccess)
		if access == "" {
			access = string(api.AccessViewer)
		}
		var m api.Member
		if err := r.send(http.MethodPut, memberPath(a, r.arg("username")), api.SetMember{Access: api.Access(access)}, &m); err != nil {
			return err
		}
		return r.made(m, m.User, "User '%s' is %s of application '%s'.", m.User, oneOf(m.Access), a.Name)
	}
	return []*cli.Command{
		c.verb("list", "who may use an application, and as what", argApp, onApplication(listMembers)),
		examples(c.verb("add", "let somebody use an application, to look at it unless you say more", argApp+" <username> ["+argAccess+"]", onApplication(set)),
			"nutshell member add shop ann", "nutshell member add shop bob developer"),
		examples(c.verb("change", "make somebody more or less", argApp+" <username> <"+argAccess+">", onApplication(set)),
			"nutshell member change shop ann developer"),
		c.verb("remove", "take an application away from somebody", argApp+" <username>", onApplication(func(r *call, a api.Application) error {
			return removeMember(r, a, r.arg("username"))
		})),
		examples(c.verb("leave", "give up an application that is another's", argApp, onApplication(func(r *call, a api.Application) error {
			me, err := r.self()
			if err != nil {
				return err
			}
			return removeMember(r, a, me.Name)
		})), "nutshell member leave ann/shop"),
	}
}

// ownerVerbs hand an application over.
func (c *Client) ownerVerbs() []*cli.Command {
	return []*cli.Command{
		examples(c.verb("hand-over", "offer an application to a new owner, who pays for it from then on", argApp+" <username>", onApplication(handOver),
			&cli.StringFlag{Name: "stay", Usage: "what you are then: viewer, developer or owner; without it, nothing"}),
			"nutshell application hand-over shop bob --stay developer"),
		examples(c.verb("take-over", "take over an application that was offered to you: its costs are yours from then on", argApp, onApplication(takeOver)),
			"nutshell application take-over ann/shop"),
		c.verb("keep", "take back the offer of an application, or decline one", argApp, onApplication(func(r *call, a api.Application) error {
			if err := r.send(http.MethodDelete, applicationPath(a)+"/owner", nil, nil); err != nil {
				return err
			}
			r.say("Application '%s' stays with '%s'.", a.Name, a.Owner)
			return nil
		})),
	}
}

func oneOf(a api.Access) string {
	if a == api.AccessOwner {
		return "an owner"
	}
	return "a " + string(a)
}

func memberPath(a api.Application, user string) string {
	return applicationPath(a) + "/members/" + escape(user)
}

func listMembers(r *call, a api.Application) error {
	var all []api.Member
	if err := r.get(applicationPath(a)+"/members", &all); err != nil {
		return err
	}
	t := &table{columns: []string{"user", "name", "is", "since", "let in by", "note"}}
	for _, m := range all {
		note := ""
		switch {
		case m.Pays:
			note = "pays for it"
		case m.Offered:
			note = "may take it over"
		}
		t.add(m.User, orDash(m.Name), string(m.Access), m.Since.Local().Format(time.DateTime), orDash(m.By), note)
	}
	return r.show(all, t)
}

func removeMember(r *call, a api.Application, user string) error {
	if err := r.send(http.MethodDelete, memberPath(a, user), nil, nil); err != nil {
		return err
	}
	r.say("User '%s' has nothing to do with application '%s' any more.", user, a.Name)
	return nil
}

func handOver(r *call, a api.Application) error {
	user := r.arg("username")
	var m api.Member
	if err := r.send(http.MethodPut, applicationPath(a)+"/owner", api.HandOver{User: user, Stay: api.Access(r.String("stay"))}, &m); err != nil {
		return err
	}
	if m.Pays {
		return r.made(m, m.User, "Application '%s' with id %d belongs to '%s' now.", a.Name, a.ID, m.User)
	}
	return r.made(m, m.User, "Application '%s' with id %d is offered to '%s', who takes it with: nutshell application take-over %d", a.Name, a.ID, m.User, a.ID)
}

func takeOver(r *call, a api.Application) error {
	var now api.Application
	if err := r.send(http.MethodPost, applicationPath(a)+"/owner", nil, &now); err != nil {
		return err
	}
	return r.made(now, strconv.FormatInt(now.ID, 10), "Application '%s' with id %d is yours.", now.Name, now.ID)
}
