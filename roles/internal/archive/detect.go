package archive

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"

	"nutshell/roles/api"
)

// Format is how an archive is packed. war and jar files are zip.
type Format string

// The formats.
const (
	Tar    Format = "tar"
	TarGz  Format = "tar.gz"
	TarBz2 Format = "tar.bz2"
	TarXz  Format = "tar.xz"
	TarZst Format = "tar.zst"
	Zip    Format = "zip"
)

// HeadBytes is how much of a file Detect wants to see.
const HeadBytes = 512

const formats = "use a tar (plain, gz, bz2, xz or zst), zip, war or jar archive"

// Detect tells the format by the first bytes of a file. The name is for the
// message only: it may say anything.
func Detect(filename string, head []byte) (Format, error) {
	for _, m := range []struct {
		magic  string
		format Format
	}{
		{"\x1f\x8b", TarGz},
		{"BZh", TarBz2},
		{"\xfd7zXZ\x00", TarXz},
		{"\x28\xb5\x2f\xfd", TarZst},
		{"PK\x03\x04", Zip},
		{"PK\x05\x06", Zip}, // without files
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.format, nil
		}
	}
	if isTar(head) {
		return Tar, nil
	}
	message := "it is not an archive"
	switch {
	case len(head) == 0:
		message = "the file is empty"
	case bytes.HasPrefix(head, []byte("7z\xbc\xaf\x27\x1c")):
		message = "it is a 7z archive, which is not supported"
	case bytes.HasPrefix(head, []byte("Rar!")):
		message = "it is a RAR archive, which is not supported"
	case bytes.HasPrefix(head, []byte("\x1f\x9d")), bytes.HasPrefix(head, []byte("\x5d\x00\x00")):
		message = "its compression is not supported"
	case bytes.HasPrefix(head, []byte("<?php")), strings.HasSuffix(strings.ToLower(filename), ".php"):
		message = "it is a PHP file, not an archive of the application"
	}
	return "", &api.Error{Code: api.CodeInvalid, Op: "read archive", Object: filepath.Base(filename), Message: message, Hint: formats}
}

// isTar looks at the header's checksum, which old and new tar formats share;
// the oldest have no magic. Zeros are the end mark of an empty archive.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	head = head[:512]
	want, err := strconv.ParseInt(strings.Trim(string(head[148:156]), " \x00"), 8, 64)
	if err != nil {
		return bytes.Equal(head, make([]byte, 512))
	}
	var unsigned, signed int64
	for i, b := range head {
		if i >= 148 && i < 156 {
			b = ' '
		}
		unsigned += int64(b)
		signed += int64(int8(b)) // some old tars summed signed bytes
	}
	return want == unsigned || want == signed
}
