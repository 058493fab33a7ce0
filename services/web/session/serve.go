package session

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
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
		for _, e := range list {
			c.seen(e)
		}
		return nil, c.disk.put(list...)
	})
	handle("/touch", func(list []entry) ([]entry, error) {
		for _, e := range list {
			if err := c.disk.touch(e.Key, e.Expires); err != nil {
				return nil, err
			}
		}
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
		for _, e := range list {
			if !c.locks.take(e.Key, string(e.Value), c.now(), time.UnixMilli(e.Expires)) {
				return nil, errHeld
			}
		}
		return nil, nil
	})
	handle("/unlock", func(list []entry) ([]entry, error) {
		for _, e := range list {
			c.locks.release(e.Key, string(e.Value))
		}
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

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // who has gone does not need it
}
