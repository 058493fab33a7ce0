package client

import (
	"net/http"
	"strings"
	"time"

	"nutshell/roles/api"
)

// This part of the fake director answers for host names.

func (f *fake) answerSites(r *http.Request, p []string, read func(any)) (int, any, error) {
	switch r.Method {
	case http.MethodPost:
		var in api.AddSite
		read(&in)
		if !strings.Contains(in.Name, ".") {
			return 0, nil, &api.Error{Code: api.CodeInvalid, Op: "add", Object: "site " + api.Shorten(in.Name), Message: "this is not a host name", Hint: "give the name alone, such as www.example.org", Fields: []string{"name"}}
		}
		s := api.Site{Name: in.Name, Certificate: in.Certificate, URL: "https://" + in.Name + "/"}
		if s.Certificate == "" {
			s.Certificate = "own"
		}
		if s.Certificate == "file" {
			s.Expires = fakeTime.Add(24 * time.Hour)
			s.Problem = "its certificate ends on 2026-03-05 (add the name again with a new one)"
		}
		f.sites = append(f.sites, s)
		return 201, s, nil
	case http.MethodDelete:
		for i, s := range f.sites {
			if s.Name == p[5] {
				f.sites = append(f.sites[:i:i], f.sites[i+1:]...)
				return 204, nil, nil
			}
		}
		return 0, nil, &api.Error{Code: api.CodeNotFound, Op: "remove", Object: "site " + api.Shorten(p[5]), Message: "the service has no such name"}
	}
	return 200, append([]api.Site{}, f.sites...), nil
}
