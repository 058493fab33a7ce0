// Package archive reads what users upload: tar archives in the usual
// compressions, and zip. All of it is taken for hostile. Inspect reads an
// archive once and says what is in it or why it is refused; Unpack makes the
// same checks again while it writes, below a directory that nothing can leave.
//
// It does not keep archives and does not know what they are for.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"nutshell/roles/api"
)

// Limits bound what an archive may unpack to. Zero fields have defaults.
type Limits struct {
	Files int   // files, links and directories; 100,000
	Bytes int64 // of all files together; 4 GiB
	Names int   // how many names Inspect returns; 1,000
}

// Bounds that are not a matter of taste: nothing that people make by hand or
// by a build goes beyond them, and bombs do.
const (
	maxDepth  = 100      // of directories
	maxPath   = 4096     // PATH_MAX of Linux
	maxPart   = 255      // NAME_MAX
	meanName  = 320      // bytes of a name with its header, for all files together
	maxRatio  = 250      // of unpacked to packed bytes; text reaches 30, gzip of zeros 1030, bzip2 of zeros 1,400,000
	ratioFrom = 64 << 20 // small archives of zeros do no harm
)

func (l Limits) withDefaults() Limits {
	if l.Files <= 0 {
		l.Files = 100_000
	}
	if l.Bytes <= 0 {
		l.Bytes = 4 << 30
	}
	if l.Names <= 0 {
		l.Names = 1000
	}
	return l
}

// Info is what an archive holds.
type Info struct {
	Format Format
	Files  int   // regular files and links
	Bytes  int64 // of all files together
	// TopDirectory is the one directory that holds everything, or empty. An
	// archive made of an application's folder instead of its content has one.
	TopDirectory string
	Names        []string // of files and links, up to Limits.Names of them, in the archive's order
}

// Inspect reads the whole archive once and refuses what Unpack would refuse.
func Inspect(ctx context.Context, path string, limits Limits) (Info, error) {
	limits = limits.withDefaults()
	a, err := open(path, limits)
	if err != nil {
		return Info{}, readError(path, err)
	}
	defer a.file.Close()
	info := Info{Format: a.format}
	t := newTree(limits, a.size)
	err = a.walk(ctx, func(e entry, body io.Reader) error {
		if _, _, err := t.add(e); err != nil {
			return err
		}
		if e.kind == kindDir {
			return nil
		}
		info.Files++
		if len(info.Names) < limits.Names {
			info.Names = append(info.Names, strings.ToValidUTF8(e.name, "\uFFFD"))
		}
		if body == nil {
			return nil
		}
		return copyBody(io.Discard, body, e.size)
	})
	if err == nil {
		err = t.finish()
	}
	if ctx.Err() != nil {
		return Info{}, fmt.Errorf("read archive %s: %w", filepath.Base(path), ctx.Err())
	}
	if err != nil {
		return Info{}, readError(path, err)
	}
	info.Bytes, info.TopDirectory = t.bytes, t.top()
	return info, nil
}

// copyBody copies exactly what the header promised.
func copyBody(w io.Writer, body io.Reader, size int64) error {
	n, err := io.Copy(w, io.LimitReader(body, size+1))
	if err == nil && n != size {
		return refuse("a file in it has another size than its header says", "the archive is damaged, make it again")
	}
	return err
}

// kind is what an entry is.
type kind int

const (
	kindFile kind = iota
	kindDir
	kindSymlink
	kindHardLink
)

// refuse is an archive that breaks a rule.
func refuse(message, hint string) error {
	return &api.Error{Code: api.CodeInvalid, Message: message, Hint: hint}
}

func refusef(hint, format string, args ...any) error {
	return refuse(fmt.Sprintf(format, args...), hint)
}

func tooLarge(format string, args ...any) error {
	return &api.Error{Code: api.CodeTooLarge, Message: fmt.Sprintf(format, args...), Hint: "leave out what the application does not need"}
}

// readError turns what went wrong into an error for people.
func readError(path string, err error) error {
	var e *api.Error
	if errors.As(err, &e) {
		named := *e
		named.Op, named.Object = "read archive", filepath.Base(path)
		return &named
	}
	var p *fs.PathError
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &api.Error{Code: api.CodeNoSpace, Op: "unpack archive", Object: filepath.Base(path), Message: "the disk is full", Hint: "free some space and try again", Err: err}
	case errors.As(err, &p), errors.As(err, new(*os.LinkError)):
		return fmt.Errorf("read archive %s: %w", filepath.Base(path), err) // our disk, not their archive
	default:
		return &api.Error{Code: api.CodeInvalid, Op: "read archive", Object: filepath.Base(path), Message: "it is damaged or cut off",
			Hint: "make the archive again and send it again", Err: err}
	}
}

// quote shows a name of the archive in a message.
func quote(name string) string { return api.Shorten(name) }
