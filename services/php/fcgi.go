package php

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
)

// FastCGI record types and the one role we ask for, by its specification 1.0.
const (
	fcgiBegin     = 1
	fcgiEnd       = 3
	fcgiParams    = 4
	fcgiStdin     = 5
	fcgiStdout    = 6
	fcgiStderr    = 7
	fcgiResponder = 1
	fcgiPiece     = 60 << 10
)

// answer is what PHP made of a request.
type answer struct {
	status int
	body   []byte
	stderr string
}

// ask makes one GET request to PHP-FPM, past any web server.
func ask(ctx context.Context, socket string, params map[string]string) (answer, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return answer{}, fmt.Errorf("php-fpm: %w", err)
	}
	defer func() { _ = conn.Close() }()
	// Not by a deadline of the connection: it may fire before the context's, and the error would not tell that time was up.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var b bytes.Buffer
	record(&b, fcgiBegin, []byte{0, fcgiResponder, 0, 0, 0, 0, 0, 0})
	var pairs []byte
	for k, v := range params {
		pairs = binary.BigEndian.AppendUint32(pairs, uint32(len(k))|1<<31) //nolint:gosec // names and values are short
		pairs = binary.BigEndian.AppendUint32(pairs, uint32(len(v))|1<<31) //nolint:gosec // names and values are short
		pairs = append(append(pairs, k...), v...)
	}
	for len(pairs) > 0 {
		n := min(len(pairs), fcgiPiece)
		record(&b, fcgiParams, pairs[:n])
		pairs = pairs[n:]
	}
	record(&b, fcgiParams, nil)
	record(&b, fcgiStdin, nil)
	if _, err := conn.Write(b.Bytes()); err != nil {
		return answer{}, fmt.Errorf("php-fpm: %w", err)
	}
	out, stderr, err := receive(bufio.NewReader(conn))
	if err != nil {
		return answer{stderr: stderr}, fmt.Errorf("php-fpm ended the request: %w", err)
	}
	return parseAnswer(out, stderr)
}

func record(b *bytes.Buffer, kind byte, content []byte) {
	b.Write([]byte{1, kind, 0, 1, byte(len(content) >> 8), byte(len(content)), 0, 0}) //nolint:gosec // a piece is at most fcgiPiece
	b.Write(content)
}

func receive(r io.Reader) (out []byte, stderr string, err error) {
	const most = 4 << 20 // of a page; the rest does not matter
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return out, stderr, err
		}
		content := make([]byte, int(binary.BigEndian.Uint16(head[4:6]))+int(head[6]))
		if _, err := io.ReadFull(r, content); err != nil {
			return out, stderr, err
		}
		content = content[:len(content)-int(head[6])]
		switch head[1] {
		case fcgiStdout:
			if len(out) < most {
				out = append(out, content...)
			}
		case fcgiStderr:
			if len(stderr) < 64<<10 {
				stderr += string(content)
			}
		case fcgiEnd:
			return out, stderr, nil
		}
	}
}

func parseAnswer(out []byte, stderr string) (answer, error) {
	a := answer{status: 200, stderr: stderr}
	r := bufio.NewReader(bytes.NewReader(out))
	head, err := textproto.NewReader(r).ReadMIMEHeader()
	if err != nil && !errors.Is(err, io.EOF) {
		return a, fmt.Errorf("php-fpm answers without a header: %w", err)
	}
	if s := head.Get("Status"); s != "" {
		code, _, _ := strings.Cut(s, " ")
		if a.status, err = strconv.Atoi(code); err != nil {
			return a, fmt.Errorf("php-fpm answers with status %q", s)
		}
	}
	a.body, err = io.ReadAll(r)
	return a, err
}
