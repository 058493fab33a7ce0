package java_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

const examplesDir = "/usr/share/tomcat10-examples/examples"

// examples are the applications of Debian's package tomcat10-examples: JSP,
// tag files, servlets by web.xml and by annotation, filters, asynchronous
// requests, sessions and WebSocket, by people who do not know Nutshell.
func examples(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(examplesDir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(examplesDir, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		files[rel] = string(b)
		return err
	})
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("tomcat10-examples is needed: ", err)
		}
		t.Skip("install tomcat10-examples to run this test")
	}
	return files
}

func TestExamples(t *testing.T) {
	files := examples(t)
	w, base := start(t, `{}`)
	w.Files["code-samples"] = files
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := w.Activate(ctx, "code-samples"); err != nil {
		t.Fatal(err, api.AsError(err).LogTail)
	}
	visitor := client()
	visitor.Jar = &cookies{}
	run := func(t *testing.T) {
		for _, r := range []struct{ path, want string }{
			{"", "Apache Tomcat Examples"}, {"jsp/", "JSP"}, {"jsp/snp/snoop.jsp", "Request URI: /jsp/snp/snoop.jsp"}, {"jsp/num/numguess.jsp", "Number Guess"},
			{"jsp/jsp2/tagfiles/hello.jsp", "Hello, world!"}, {"jsp/jsp2/el/basic-arithmetic.jsp", "Basic Arithmetic"}, {"servlets/servlet/HelloWorldExample", "Hello World"},
			{"servlets/servlet/RequestInfoExample/path", "/servlets/servlet/RequestInfoExample/path"}, {"servlets/servlet/SessionExample?dataname=color&datavalue=green", "color = green"},
			{"servlets/servlet/SessionExample", "color = green"}, {"servlets/nonblocking/bytecounter.html", "<form"}, {"async/async0", "Async dispatch worked"}, {"jsp/xml/xml.jsp", "Example JSP in XML format"},
			{"websocket/echo.xhtml", "Echo"},
		} {
			status, body, err := fetch(t.Context(), visitor, http.MethodGet, base+r.path, "")
			if err != nil || status != 200 || !strings.Contains(body, r.want) {
				t.Errorf("%s: got %d %.300q %v, want %q", r.path, status, body, err, r.want)
			}
		}
		if status, body, err := fetch(t.Context(), visitor, http.MethodPost, base+"servlets/nonblocking/bytecounter", strings.Repeat("x", 100<<10)); err != nil || status != 200 || !strings.Contains(body, "102400") {
			t.Errorf("bytecounter: got %d %.300q %v", status, body, err)
		}
		if answer, err := echo(base+"websocket/echoProgrammatic", "hello there"); err != nil || answer != "hello there" {
			t.Errorf("WebSocket: got %q %v", answer, err)
		}
	}
	t.Run("packed", run)
	if err := w.Scale(ctx, map[string]int{"web": 2, "backend": 2}); err != nil {
		t.Fatal(err)
	}
	t.Run("spread", run)
}

// echo opens a WebSocket, sends a short text and returns the one that comes.
func echo(address, text string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	conn, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", u.Path, u.Host); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return "", fmt.Errorf("status %s", resp.Status)
	}
	frame := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...) // one text, masked with zeros
	if _, err := conn.Write(frame); err != nil {
		return "", err
	}
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	body := make([]byte, head[1]&0x7f)
	_, err = io.ReadFull(r, body)
	return string(body), err
}
