package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Time limits of what stores ask each other. One that does not answer in time
// is not asked any more until it answers a ping.
const (
	callTime = time.Second
	bulkTime = 10 * time.Second
	pingTime = time.Second
)

var (
	errHeld    = errors.New("locked by another request")
	errSuspect = errors.New("does not answer")
)

// remote is another store.
type remote struct {
	Peer
	http    *http.Client
	suspect atomic.Bool
	greeted atomic.Bool

	// Guarded by the cluster's mutex:
	until    time.Time // of a former member; zero: a member
	answered time.Time // a hello
	boot     int64     // of its process
}

func newRemote(p Peer, conf *tls.Config, self string) *remote {
	d := net.Dialer{Timeout: callTime, KeepAlive: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(self)}}
	return &remote{Peer: p, http: &http.Client{Transport: &http.Transport{
		DialContext: d.DialContext, TLSClientConfig: conf.Clone(), ForceAttemptHTTP2: true, TLSHandshakeTimeout: 2 * time.Second, IdleConnTimeout: 5 * time.Minute,
		HTTP2: &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second}, DisableCompression: true,
	}}}
}

func (r *remote) close() { r.http.CloseIdleConnections() }

// call asks something and takes note of whether there was an answer.
func (r *remote) call(ctx context.Context, limit time.Duration, what string, body []byte) ([]byte, error) {
	if r.suspect.Load() {
		return nil, errSuspect
	}
	b, err := r.twice(ctx, limit, what, body)
	if err != nil && !errors.Is(err, errHeld) && ctx.Err() == nil {
		r.suspect.Store(true)
	}
	return b, err
}

// twice asks again when time was up: it may have been this process that stood
// still, and then everybody else would be suspect at once.
func (r *remote) twice(ctx context.Context, limit time.Duration, what string, body []byte) ([]byte, error) {
	b, err := r.try(ctx, limit, what, body)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && !r.suspect.Load() {
		return r.try(ctx, limit, what, body)
	}
	return b, err
}

func (r *remote) try(ctx context.Context, limit time.Duration, what string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+net.JoinHostPort(r.Address, strconv.Itoa(r.Port))+what, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("store of %s: %w", r.Instance, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, bulkBytes+2*maxValue))
	switch {
	case err != nil:
		return nil, fmt.Errorf("store of %s: %w", r.Instance, err)
	case resp.StatusCode == http.StatusConflict:
		return nil, errHeld
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("store of %s: %s: %.200s", r.Instance, resp.Status, b)
	}
	return b, nil
}

func (r *remote) get(ctx context.Context, key string) (entry, error) {
	b, err := r.call(ctx, callTime, "/get", encode(entry{Key: key}))
	if err != nil {
		return entry{}, err
	}
	list, err := decode(b)
	if err != nil || len(list) == 0 {
		return entry{}, err
	}
	return list[0], nil
}

func (r *remote) send(ctx context.Context, what string, list ...entry) error {
	_, err := r.call(ctx, callTime, what, encode(list...))
	return err
}

// lock takes a lock and learns what the store has of the session, if it told:
// no version, if nothing.
func (r *remote) lock(ctx context.Context, e entry) (found entry, told bool, err error) {
	b, err := r.call(ctx, callTime, "/lock", encode(e))
	if err != nil {
		return found, false, err
	}
	list, err := decode(b)
	if err != nil || len(list) != 1 || list[0].Key != strings.TrimSuffix(e.Key, lockSuffix) {
		return found, false, nil //nolint:nilerr // it has the lock all the same, and will be asked
	}
	return list[0], true, nil
}

// greeting is the body of /hello. Fresh: it knows nothing of what happened
// before, and wants to be sent what it shall have.
type greeting struct {
	Peer
	Fresh bool  `json:"fresh"`
	Boot  int64 `json:"boot"`
}

// hello tells a store that we are there and learns whom it knows.
func (r *remote) hello(ctx context.Context, self Peer, boot int64) ([]Peer, error) {
	body, err := json.Marshal(greeting{self, !r.greeted.Load(), boot})
	if err != nil {
		return nil, err
	}
	b, err := r.twice(ctx, pingTime, "/hello", body)
	if err != nil {
		r.greeted.Store(false)
		return nil, err
	}
	r.greeted.Store(true)
	var known []Peer
	return known, json.Unmarshal(b, &known)
}
