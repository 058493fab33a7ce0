package wire

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"nutshell/cloud"
)

// FuzzAnswer: what another machine answers is instances and errors, each of
// which can be told.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"instances":[{"id":"a","name":"a"}],"faults":[{"instance":"b","kinds":["quota","nonsense"],"text":"full"},{"text":""}]}`))
	f.Add([]byte(`{"faults":[{}]}`)) // was told as no error
	f.Fuzz(func(t *testing.T, b []byte) {
		var a answer
		if json.Unmarshal(b, &a) != nil {
			return
		}
		if err := a.err(); err != nil {
			_ = err.Error()
			if len(faults(err)) == 0 {
				t.Fatalf("%q is told as no error", err)
			}
		}
	})
}

// refusing is a driver that launches nothing.
type refusing struct{ cloud.Driver }

// FuzzRequest: what is sent to a node is an order or a refusal.
func FuzzRequest(f *testing.F) {
	h := Handler(refusing{}, nil)
	f.Add("log", []byte(`{"instance":"x"}`))
	f.Add("stop", []byte(`{"ids":["x"]}`))
	f.Add("volume/create", []byte(`{"spec":{}}`))
	f.Add("snapshot/list", []byte(`{`))
	f.Fuzz(func(t *testing.T, order string, b []byte) {
		switch order {
		case "log", "stop", "volume/create", "volume/grow", "snapshot/list": // what this driver lacks
		default:
			return
		}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, Prefix+order, bytes.NewReader(b))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Result().Body)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest || w.Code == http.StatusOK && !json.Valid(body) {
			t.Fatalf("%d %q", w.Code, body)
		}
	})
}
