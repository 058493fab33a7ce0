package codestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
)

// Version stores an uploaded archive and makes a code version of it. The
// caller adds description, time and by whom. A refused archive never gets
// into the store. With strip, a single directory that holds everything is
// taken off at unpacking; without it, such an archive is refused, because
// what the user meant is the content of that directory.
func (s *Store) Version(ctx context.Context, r io.Reader, filename string, strip bool, limit int64) (api.CodeVersion, error) {
	name, err := CleanFilename(filename)
	if err != nil {
		return api.CodeVersion{}, err
	}
	in, err := s.receive(ctx, r, limit)
	if err != nil {
		return api.CodeVersion{}, about(name, err)
	}
	defer in.discard()
	v, err := versionOf(ctx, in.file.Name(), name, strip)
	if err != nil {
		return v, err
	}
	blob, err := in.keep()
	if err != nil {
		return api.CodeVersion{}, about(name, err)
	}
	v.Bytes, v.SHA256 = blob.Bytes, blob.SHA256
	return v, nil
}

// versionOf says what version an archive makes, or why it is refused.
func versionOf(ctx context.Context, path, name string, strip bool) (api.CodeVersion, error) {
	info, err := archive.Inspect(ctx, path, archive.Limits{})
	if err != nil {
		return api.CodeVersion{}, about(name, err)
	}
	if info.TopDirectory != "" && !strip {
		return api.CodeVersion{}, &api.Error{Code: api.CodeInvalid, Op: "upload code", Object: "file " + name, Fields: []string{"strip"},
			Message: fmt.Sprintf("the archive expands into the sub-directory %s instead of the current directory", api.Shorten(info.TopDirectory)),
			Hint:    "upload it with --strip to take that directory off, or make the archive from inside it"}
	}
	return api.CodeVersion{ID: "code-" + api.NewID(6), Filename: name, Format: string(info.Format), Strip: info.TopDirectory, Files: info.Files}, nil
}

// about puts the user's name of the file in place of ours.
func about(name string, err error) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("upload code %s: %w", name, err)
	}
	named := *e
	named.Op, named.Object = "upload code", "file "+name
	return &named
}
