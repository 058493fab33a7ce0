// Package hidden asks at a terminal for what must not be seen on it. It does
// not decide whether there is a terminal.
package hidden

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

const longest = 64 << 10 // as much as anybody can type or paste

// Ask shows nothing of what is typed from before it calls question until the
// line ends: whoever types as soon as the question appears must not be seen,
// however busy the machine is.
func Ask(fd int, question func()) (string, error) {
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("read the terminal's state: %w", err)
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return "", fmt.Errorf("keep the terminal from showing what is typed: %w", err)
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) }()
	question()
	var b strings.Builder
	for one := make([]byte, 1); b.Len() < longest; { // nothing behind the line is taken
		n, err := unix.Read(fd, one)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return "", fmt.Errorf("read from the terminal: %w", err)
		case n == 0 && b.Len() == 0:
			return "", io.EOF
		case n == 0 || one[0] == '\n':
			return b.String(), nil
		default:
			b.WriteByte(one[0])
		}
	}
	return "", errors.New("the line is too long")
}
