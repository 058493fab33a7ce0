package archive

import (
	"archive/zip"
	"encoding/binary"
	"hash/crc32"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// Where a name of a zip file was made, by the upper byte of its version.
const (
	madeByDOS  = 0
	madeByNTFS = 10
	madeByVFAT = 14

	unicodePath = 0x7075 // extra field with the name in UTF-8
)

// zipName is the name of a file in UTF-8 where that can be known: zip programs
// on Windows write names in the old code page unless it lacks a letter, and
// browsers would not find the files. Names of Unix are bytes and stay so.
func zipName(h *zip.FileHeader) string {
	if !h.NonUTF8 || utf8.ValidString(h.Name) {
		return h.Name
	}
	for rest := h.Extra; len(rest) >= 4; {
		id, n := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if rest = rest[4:]; n > len(rest) {
			break
		}
		field := rest[:n]
		rest = rest[n:]
		// Version 1, the checksum of the name that it goes with, the name.
		if id == unicodePath && n > 5 && field[0] == 1 && binary.LittleEndian.Uint32(field[1:]) == crc32.ChecksumIEEE([]byte(h.Name)) && utf8.Valid(field[5:]) {
			return string(field[5:])
		}
	}
	switch h.CreatorVersion >> 8 {
	case madeByDOS, madeByNTFS, madeByVFAT:
		if name, err := charmap.CodePage437.NewDecoder().String(h.Name); err == nil {
			return name
		}
	}
	return h.Name
}
