package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"nutshell/roles/api"
)

// client is what this program needs of the API.
type client struct {
	base  string
	token string
	http  *http.Client
}

// access is the file that a director writes for the user who started it.
type access struct {
	URL   string `yaml:"url"`
	CA    string `yaml:"ca_sha256"`
	Token string `yaml:"token"`
}

func readAccess(path string) (access, error) {
	var a access
	b, err := os.ReadFile(path)
	if err != nil {
		return a, err
	}
	if err := yaml.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("%s: %w", path, err)
	}
	if a.URL == "" || a.Token == "" {
		return a, fmt.Errorf("%s: no url or no token", path)
	}
	return a, nil
}

func newClient(a access) *client {
	want := strings.ToLower(strings.ReplaceAll(a.CA, ":", ""))
	return &client{base: strings.TrimSuffix(a.URL, "/") + "/api/v1", token: a.Token, http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 16,
		//nolint:gosec // the director is known by the hash of its CA, not by a name
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
			for _, c := range s.PeerCertificates {
				if sum := sha256.Sum256(c.Raw); hex.EncodeToString(sum[:]) == want {
					return nil
				}
			}
			return errors.New("this is not our director's certificate")
		}},
	}}}
}

// do sends in as JSON, or as it is when it is an io.Reader, and decodes into out.
func (c *client) do(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var body io.Reader
	switch v := in.(type) {
	case nil:
	case io.Reader:
		body = v
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if _, raw := in.(io.Reader); raw {
		req.Header.Set("Content-Type", "application/octet-stream")
	} else if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		var e api.Error
		if json.Unmarshal(b, &e) == nil && e.Code != "" {
			return fmt.Errorf("%s %s: %w", method, path, &e)
		}
		return fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, b)
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, out)
}

// operate starts an operation and waits for its end.
func (c *client) operate(ctx context.Context, method, path string, in any) error {
	var answer json.RawMessage
	if err := c.do(ctx, method, path, in, &answer); err != nil {
		return err
	}
	var shape struct {
		ID any `json:"id"`
	}
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &shape); err != nil {
			return err
		}
	}
	if _, isOperation := shape.ID.(string); !isOperation {
		return nil // done at once: the answer is the thing itself, whose id is a number
	}
	var op api.Operation
	if err := json.Unmarshal(answer, &op); err != nil {
		return err
	}
	for !op.State.Final() {
		if err := c.do(ctx, http.MethodGet, "/operations/"+url.PathEscape(op.ID)+"?wait=30s", nil, &op); err != nil {
			return err
		}
	}
	if op.State != api.OperationDone {
		if op.Error != nil {
			return fmt.Errorf("%s: %w", op.Title, op.Error)
		}
		return fmt.Errorf("%s: %s", op.Title, op.State)
	}
	return nil
}

func (c *client) defaultCloud(ctx context.Context) (string, error) {
	var clouds []api.Cloud
	if err := c.do(ctx, http.MethodGet, "/clouds", nil, &clouds); err != nil {
		return "", err
	}
	for _, cl := range clouds {
		if cl.Default {
			if !cl.Ready {
				return "", fmt.Errorf("cloud %s is not ready: %s", cl.Name, cl.Problem)
			}
			return cl.Driver, nil
		}
	}
	return "", errors.New("the director has no default cloud")
}

// clear deletes the applications that this program makes.
func (c *client) clear(ctx context.Context) error {
	var list []api.Application
	if err := c.do(ctx, http.MethodGet, "/applications", nil, &list); err != nil {
		return err
	}
	for _, a := range list {
		if strings.HasPrefix(a.Name, "bench-") {
			if err := c.operate(ctx, http.MethodDelete, appPath(a.Name), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func appPath(name string) string { return "/applications/" + url.PathEscape(name) }

// withApplication makes and starts an application, and deletes it afterwards.
func (c *client) withApplication(ctx context.Context, name string, do func() error) (err error) {
	if err := c.do(ctx, http.MethodPost, "/applications", api.CreateApplication{Name: name}, nil); err != nil {
		return err
	}
	defer func() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
		defer cancel()
		err = errors.Join(err, c.operate(undo, http.MethodDelete, appPath(name), nil))
	}()
	if err := c.operate(ctx, http.MethodPost, appPath(name)+"/start", api.Start{}); err != nil {
		return err
	}
	return do()
}
