package session

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// peerHandler answers other stores of the service; TLS has let in nobody else.
func (c *cluster) peerHandler() http.Handler {
	m := http.NewServeMux()
	handle := func(path string, f func([]entry) ([]entry, error)) {
		m.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bulkBytes+2*maxValue))
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			list, err := decode(b)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			answer, err := f(list)
			switch {
			case errors.Is(err, errHeld):
				http.Error(w, err.Error(), http.StatusConflict)
			case err != nil:
				http.Error(w, err.Error(), http.StatusInsufficientStorage)
			default:
				_, _ = w.Write(encode(answer...)) // who has gone does not need it
			}
		})
	}
	handle("/get", func(list []entry) ([]entry, error) {
		var found []entry
		for _, e := range list {
			have, err := c.disk.get(e.Key)
			if err != nil {
				return nil, err
			}
			if have.Version > 0 {
				found = append(found, have)
			}
		}
		return found, nil
	})
	handle("/put", func(list []entry) ([]entry, error) {
		sessions, locks := apart(list)
		for _, e := range sessions {
			c.seen(e)
		}
		err := c.disk.put(sessions...)
		if err == nil {
			c.give(locks)
		}
		return nil, err
	})
	handle("/touch", func(list []entry) ([]entry, error) {
		sessions, locks := apart(list)
		for _, e := range sessions {
			if err := c.disk.touch(e.Key, e.Expires); err != nil {
				return nil, err
			}
		}
		c.give(locks)
		return nil, nil
	})
	handle("/want", func(list []entry) ([]entry, error) {
		var wanted []entry
		for _, e := range list {
			have, err := c.disk.get(e.Key)
			if err != nil {
				return nil, err
			}
			if e.after(have) {
				wanted = append(wanted, entry{Key: e.Key})
			}
		}
		return wanted, nil
	})
	handle("/lock", func(list []entry) ([]entry, error) {
		var told []entry
		for _, e := range list {
			if !c.locks.take(e.Key, string(e.Value), c.now(), time.UnixMilli(e.Expires)) {
				return nil, errHeld
			}
			have, err := c.disk.get(strings.TrimSuffix(e.Key, lockSuffix))
			if err != nil {
				return nil, nil //nolint:nilerr // the lock is theirs; they ask again for the session
			}
			have.Key = strings.TrimSuffix(e.Key, lockSuffix) // with no version: nothing is here
			told = append(told, have)
		}
		return told, nil
	})
	handle("/unlock", func(list []entry) ([]entry, error) {
		c.give(list)
		return nil, nil
	})
	m.HandleFunc("POST /hello", func(w http.ResponseWriter, r *http.Request) {
		var g greeting
		if err := json.NewDecoder(io.LimitReader(r.Body, 4096)).Decode(&g); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		known := c.known()
		c.greeted(g)
		writeJSON(w, known)
	})
	return m
}

// apart takes locks out of a list, which are to be given back.
func apart(list []entry) (sessions, locks []entry) {
	for _, e := range list {
		if isLock(e.Key) {
			locks = append(locks, e)
		} else {
			sessions = append(sessions, e)
		}
	}
	return sessions, locks
}

func (c *cluster) give(locks []entry) {
	for _, e := range locks {
		c.locks.release(e.Key, string(e.Value))
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who has gone does not need it
}
