// Package rpc is JSON over HTTPS between roles: the calling end and the
// answering end, with api.Error crossing the wire as problem+json. It knows
// nothing of who may call whom; TLS settings come from outside.
package rpc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"nutshell/roles/api"
)

// maxAnswer bounds what a peer can make us hold in memory.
const maxAnswer = 64 << 20

// Client calls one peer.
type Client struct {
	Base string // https://host:port, no slash behind
	HTTP *http.Client
	Most int64 // bytes of an answer to Do; 0: 64 MiB
}

// NewClient makes a client that keeps few connections open, for peers of
// which there may be thousands.
func NewClient(base string, config *tls.Config) *Client {
	return &Client{Base: base, HTTP: &http.Client{Transport: &http.Transport{
		TLSClientConfig:     config,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     60 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		// A machine that lost its power says nothing, not even that it is gone.
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		ResponseHeaderTimeout: 0, // the caller's context bounds it: long polls are longer than any guess
	}}}
}

// Do sends in as JSON (nothing for nil) and decodes the answer into out
// (ignored for nil). Errors are *api.Error; a peer that cannot be reached is
// unavailable.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request to %s: %w", path, err)
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.Stream(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // so that the connection can be used again
		return nil
	}
	bounded := &io.LimitedReader{R: resp.Body, N: cmp.Or(c.Most, maxAnswer)}
	if err := json.NewDecoder(bounded).Decode(out); err != nil {
		if bounded.N <= 0 {
			err = fmt.Errorf("it has more than %d MiB", cmp.Or(c.Most, maxAnswer)>>20)
		}
		return &api.Error{Code: api.CodeInternal, Op: "read the answer of", Object: c.Base + path, Err: err}
	}
	return nil
}

// Stream sends body and returns the open answer, whose status is below 400.
// The caller closes its body.
func (c *Client) Stream(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, body)
	if err != nil {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "call", Object: c.Base + path, Err: err}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, unreachable(c.Base, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer func() { _ = resp.Body.Close() }()
		return nil, readProblem(resp)
	}
	return resp, nil
}

// Upgrading is an HTTP client of the same peer for one connection that becomes
// a WebSocket, which HTTP/2 cannot.
func (c *Client) Upgrading() *http.Client {
	t, ok := c.HTTP.Transport.(*http.Transport)
	if !ok {
		return c.HTTP
	}
	t = t.Clone()
	t.ForceAttemptHTTP2, t.DisableKeepAlives = false, true
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	if t.TLSClientConfig != nil {
		t.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	return &http.Client{Transport: t}
}

// Refusal is the error in an answer whose status is 400 or above.
func Refusal(resp *http.Response) error { return readProblem(resp) }

func unreachable(base string, err error) error {
	code, message := api.CodeUnavailable, "does not answer"
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code, message = api.CodeDeadline, "did not answer in time"
	case errors.Is(err, context.Canceled):
		code, message = api.CodeCancelled, "the call was given up"
	case errors.Is(err, syscall.ECONNREFUSED):
		message = "refuses connections"
	}
	return &api.Error{Code: code, Object: base, Message: message, Err: err}
}

func readProblem(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var e api.Error
	if json.Unmarshal(b, &e) == nil && e.Code != "" {
		return &e
	}
	return &api.Error{Code: codeOfStatus(resp.StatusCode), Object: resp.Request.URL.Path, Message: resp.Status + " " + strings.TrimSpace(string(b[:min(len(b), 200)]))}
}

func codeOfStatus(status int) api.Code {
	for _, c := range []api.Code{api.CodeInvalid, api.CodeUnauthorized, api.CodeForbidden, api.CodeNotFound, api.CodeConflict, api.CodeTooLarge,
		api.CodeTooMany, api.CodeQuota, api.CodeUnavailable, api.CodeDeadline, api.CodeNoSpace} {
		if c.Status() == status {
			return c
		}
	}
	if status == http.StatusBadRequest {
		return api.CodeInvalid
	}
	return api.CodeInternal
}
