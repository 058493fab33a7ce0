package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"nutshell/roles/api"
)

// Handle makes a handler of a function: it decodes the body strictly into In
// (skipped for GET and for an empty body), bounds the time, and encodes what
// comes back.
func Handle[In, Out any](limit time.Duration, f func(ctx context.Context, r *http.Request, in In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		var in In
		if r.Method != http.MethodGet {
			d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAnswer))
			d.DisallowUnknownFields()
			if err := d.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
				WriteError(w, &api.Error{Code: api.CodeInvalid, Message: "the request is not the JSON expected", Err: err})
				return
			}
		}
		out, err := f(ctx, r, in)
		if err != nil {
			WriteError(w, err)
			return
		}
		WriteJSON(w, out)
	})
}

// WriteJSON answers with out.
func WriteJSON(w http.ResponseWriter, out any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the peer went away: nobody to tell
}

// WriteError answers with problem+json.
func WriteError(w http.ResponseWriter, err error) {
	e := api.AsError(err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(e.Code.Status())
	_ = json.NewEncoder(w).Encode(struct {
		Status int    `json:"status"`
		Title  string `json:"title"`
		*api.Error
	}{e.Code.Status(), http.StatusText(e.Code.Status()), e})
}

// Serve answers on a listener until the context ends, then lets requests
// finish for a second.
func Serve(ctx context.Context, s *http.Server, listen func() error) error {
	done := make(chan error, 1)
	go func() { done <- listen() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := s.Shutdown(end); err != nil {
			return s.Close()
		}
		return nil
	}
}
