package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"nutshell/cloud"
)

// Call sends one request to the machine and decodes what it answers with
// status 200. Its errors mean that the machine was not reached.
type Call func(ctx context.Context, method, path string, in, out any) error

// Client is the driver of another machine. It has all optional interfaces;
// what the driver there lacks is cloud.ErrInvalid.
type Client struct{ call Call }

// NewClient makes a driver that asks by call.
func NewClient(call Call) *Client { return &Client{call} }

var (
	_ cloud.Driver    = (*Client)(nil)
	_ cloud.Stopper   = (*Client)(nil)
	_ cloud.Console   = (*Client)(nil)
	_ cloud.Volumes   = (*Client)(nil)
	_ cloud.Snapshots = (*Client)(nil)
)

// ErrUnreached says that nothing is known of what became of an order: the
// machine was not reached, or its answer was not.
var ErrUnreached = fmt.Errorf("%w: the machine does not answer", cloud.ErrUnavailable)

func (c *Client) do(ctx context.Context, order string, a ask) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, limits[order])
	defer cancel()
	var got answer
	if err := c.call(ctx, http.MethodPost, Prefix+order, a, &got); err != nil {
		if cause := ctx.Err(); cause != nil {
			return answer{}, fmt.Errorf("%w: %w", ErrUnreached, errors.Join(cause, err))
		}
		return answer{}, fmt.Errorf("%w: %w", ErrUnreached, err)
	}
	return got, got.err()
}

// Launch sends specs with digests in place of directories.
func (c *Client) Launch(ctx context.Context, specs []cloud.Spec) ([]cloud.Instance, error) {
	var good []cloud.Spec
	var errs []error
	for _, s := range specs {
		s, err := portable(s)
		if err != nil {
			errs = append(errs, &cloud.LaunchError{Name: s.Name, Err: err})
			continue
		}
		good = append(good, s)
	}
	got, err := c.do(ctx, "launch", ask{Specs: good})
	if errors.Is(err, ErrUnreached) {
		for _, s := range good {
			errs = append(errs, &cloud.LaunchError{Name: s.Name, Err: err})
		}
		return nil, errors.Join(errs...)
	}
	return got.Instances, errors.Join(append(errs, err)...)
}

// portable is a spec that means the same on another machine.
func portable(s cloud.Spec) (cloud.Spec, error) {
	s.Layers = slices.Clone(s.Layers)
	for i, dir := range s.Layers {
		digest, err := Digest(dir)
		if err != nil {
			return s, err
		}
		s.Layers[i] = digest
	}
	return s, nil
}

// Terminate ends instances for good.
func (c *Client) Terminate(ctx context.Context, ids []string) error {
	_, err := c.do(ctx, "terminate", ask{IDs: ids})
	return err
}

// Stop ends instances and keeps what they hold.
func (c *Client) Stop(ctx context.Context, ids []string) error {
	_, err := c.do(ctx, "stop", ask{IDs: ids})
	return err
}

// List returns the machine's instances.
func (c *Client) List(ctx context.Context) ([]cloud.Instance, error) {
	got, err := c.do(ctx, "list", ask{})
	return got.Instances, err
}

// Check says why instances would not run there.
func (c *Client) Check(ctx context.Context) error {
	_, err := c.do(ctx, "check", ask{})
	return err
}

// BootLog is the end of what an instance printed, at most 256 KiB.
func (c *Client) BootLog(ctx context.Context, id string) (io.ReadCloser, error) {
	got, err := c.do(ctx, "log", ask{Instance: id})
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(got.Log[max(0, len(got.Log)-maxLog):])), nil
}

// CreateVolume makes a volume on the machine.
func (c *Client) CreateVolume(ctx context.Context, v cloud.VolumeSpec) (cloud.Volume, error) {
	got, err := c.do(ctx, "volume/create", ask{Spec: v})
	if err != nil || len(got.Volumes) != 1 {
		return cloud.Volume{}, orNothing(err)
	}
	return got.Volumes[0], nil
}

// orNothing is for an answer without the thing that was asked for.
func orNothing(err error) error {
	if err == nil {
		err = fmt.Errorf("%w: its answer is empty", ErrUnreached)
	}
	return err
}

// ListVolumes returns the machine's volumes.
func (c *Client) ListVolumes(ctx context.Context) ([]cloud.Volume, error) {
	got, err := c.do(ctx, "volume/list", ask{})
	return got.Volumes, err
}

// DeleteVolume removes a volume with its snapshots.
func (c *Client) DeleteVolume(ctx context.Context, id string) error {
	_, err := c.do(ctx, "volume/delete", ask{Volume: id})
	return err
}

// Attach gives a volume to an instance of the same machine.
func (c *Client) Attach(ctx context.Context, volume, instance, name string) error {
	_, err := c.do(ctx, "volume/attach", ask{Volume: volume, Instance: instance, Name: name})
	return err
}

// Detach takes it away.
func (c *Client) Detach(ctx context.Context, volume string) error {
	_, err := c.do(ctx, "volume/detach", ask{Volume: volume})
	return err
}

// GrowVolume makes it at least this large.
func (c *Client) GrowVolume(ctx context.Context, id string, bytes int64) error {
	_, err := c.do(ctx, "volume/grow", ask{Volume: id, Bytes: bytes})
	return err
}

// Snapshot keeps what a volume holds now.
func (c *Client) Snapshot(ctx context.Context, volume, name string) (cloud.Snapshot, error) {
	got, err := c.do(ctx, "snapshot/create", ask{Volume: volume, Name: name})
	if err != nil || len(got.Snapshots) != 1 {
		return cloud.Snapshot{}, orNothing(err)
	}
	return got.Snapshots[0], nil
}

// ListSnapshots returns a volume's snapshots.
func (c *Client) ListSnapshots(ctx context.Context, volume string) ([]cloud.Snapshot, error) {
	got, err := c.do(ctx, "snapshot/list", ask{Volume: volume})
	return got.Snapshots, err
}

// RestoreSnapshot puts a volume back.
func (c *Client) RestoreSnapshot(ctx context.Context, volume, name string) error {
	_, err := c.do(ctx, "snapshot/restore", ask{Volume: volume, Name: name})
	return err
}

// DeleteSnapshot forgets one.
func (c *Client) DeleteSnapshot(ctx context.Context, volume, name string) error {
	_, err := c.do(ctx, "snapshot/delete", ask{Volume: volume, Name: name})
	return err
}
