package wire

import (
	"context"

	"nutshell/cloud"
)

type serveFunc func(order string, do func(ctx context.Context, a ask) (answer, error))

func (s *server) serveVolumes(serve serveFunc) {
	with := func(order string, do func(ctx context.Context, v cloud.Volumes, a ask) (answer, error)) {
		serve("volume/"+order, func(ctx context.Context, a ask) (answer, error) {
			if v, ok := s.d.(cloud.Volumes); ok {
				return do(ctx, v, a)
			}
			return answer{}, lacks("keep volumes")
		})
	}
	with("create", func(ctx context.Context, v cloud.Volumes, a ask) (answer, error) {
		got, err := v.CreateVolume(ctx, a.Spec)
		if err != nil {
			return answer{}, err
		}
		return answer{Volumes: []cloud.Volume{got}}, nil
	})
	with("list", func(ctx context.Context, v cloud.Volumes, _ ask) (answer, error) {
		list, err := v.ListVolumes(ctx)
		return answer{Volumes: list}, err
	})
	with("delete", func(ctx context.Context, v cloud.Volumes, a ask) (answer, error) {
		return answer{}, v.DeleteVolume(ctx, a.Volume)
	})
	with("attach", func(ctx context.Context, v cloud.Volumes, a ask) (answer, error) {
		return answer{}, v.Attach(ctx, a.Volume, a.Instance, a.Name)
	})
	with("detach", func(ctx context.Context, v cloud.Volumes, a ask) (answer, error) {
		return answer{}, v.Detach(ctx, a.Volume)
	})
	with("grow", func(ctx context.Context, v cloud.Volumes, a ask) (answer, error) {
		return answer{}, v.GrowVolume(ctx, a.Volume, a.Bytes)
	})
}

func (s *server) serveSnapshots(serve serveFunc) {
	with := func(order string, do func(ctx context.Context, k cloud.Snapshots, a ask) (answer, error)) {
		serve("snapshot/"+order, func(ctx context.Context, a ask) (answer, error) {
			if k, ok := s.d.(cloud.Snapshots); ok {
				return do(ctx, k, a)
			}
			return answer{}, lacks("make snapshots")
		})
	}
	with("create", func(ctx context.Context, k cloud.Snapshots, a ask) (answer, error) {
		got, err := k.Snapshot(ctx, a.Volume, a.Name)
		if err != nil {
			return answer{}, err
		}
		return answer{Snapshots: []cloud.Snapshot{got}}, nil
	})
	with("list", func(ctx context.Context, k cloud.Snapshots, a ask) (answer, error) {
		list, err := k.ListSnapshots(ctx, a.Volume)
		return answer{Snapshots: list}, err
	})
	with("restore", func(ctx context.Context, k cloud.Snapshots, a ask) (answer, error) {
		return answer{}, k.RestoreSnapshot(ctx, a.Volume, a.Name)
	})
	with("delete", func(ctx context.Context, k cloud.Snapshots, a ask) (answer, error) {
		return answer{}, k.DeleteSnapshot(ctx, a.Volume, a.Name)
	})
}
