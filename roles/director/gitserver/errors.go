package gitserver

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

// A push must leave room for the rows of the director, which are on the same
// disk: 64 MiB, or a twentieth of a small disk.
const (
	reserve     = 64 << 20
	reservePart = 20
)

// tooLarge is a limit that a push went beyond; key is where it is configured.
func tooLarge(format, limit, key string) error {
	hint := "leave it out of the repository: git filter-repo or a new commit without it"
	if key != "" {
		hint += "; or raise " + key + " in the director's configuration"
	}
	return &api.Error{Code: api.CodeTooLarge, Message: fmt.Sprintf(format, limit), Hint: hint}
}

func bytesText(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}

// roomLeft fails when the disk is nearly full.
func roomLeft(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &st); err != nil {
		return nil //nolint:nilerr // then the write itself says so
	}
	size := int64(st.Bsize)                                   //nolint:unconvert // it is 32 bits wide on some machines
	free, all := int64(st.Bavail)*size, int64(st.Blocks)*size //nolint:gosec // no disk has 2^63 bytes
	if free < min(reserve, all/reservePart) {
		return &api.Error{Code: api.CodeNoSpace, Message: fmt.Sprintf("the director's disk is full, %s are free", bytesText(free)), Hint: "make room on it, then push again"}
	}
	return nil
}
