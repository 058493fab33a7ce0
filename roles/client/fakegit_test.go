package client

import (
	"fmt"
	"net/http"
	"strings"

	"nutshell/roles/api"
)

// This part of the fake director answers for keys and repositories.

func (f *fake) answerKeys(r *http.Request, p []string, read func(any)) (int, any, error) {
	switch r.Method {
	case http.MethodPost:
		var in api.AddKey
		read(&in)
		added := []api.Key{}
		for line := range strings.Lines(in.Text) {
			words := strings.Fields(line)
			if len(words) < 2 {
				continue
			}
			name := in.Name
			if name == "" && len(words) > 2 {
				name = words[2]
			}
			added = append(added, api.Key{ID: fmt.Sprintf("key%d", f.nextKey+len(added)+1), Name: name, Type: words[0], Fingerprint: "SHA256:" + words[1], Created: fakeTime})
		}
		f.keys, f.nextKey = append(f.keys, added...), f.nextKey+len(added)
		return 201, added, nil
	case http.MethodDelete:
		for i, k := range f.keys {
			if k.ID == p[1] {
				f.keys = append(f.keys[:i:i], f.keys[i+1:]...)
				return 204, nil, nil
			}
		}
		return 0, nil, &api.Error{Code: api.CodeNotFound, Object: "key " + p[1], Message: "you have no such key"}
	}
	return 200, append([]api.Key{}, f.keys...), nil
}

func fakeRepository(a *api.Application) api.Repository {
	url := "ssh://git@127.0.0.1:5522/admin/" + a.Name
	return api.Repository{Clone: "git clone " + url, URL: url, HostKey: "SHA256:host", Branch: "main", Commit: "0123456789abcdef0123456789abcdef01234567", Subject: "new look",
		Bytes: 4096, Branches: []string{"main", "next"}, Folders: []api.Folder{{Service: 1, Names: []string{"1", "php"}, Found: "php", Version: "git-0123456"}, {Service: 2, Names: []string{"2", "generic"}}}}
}
