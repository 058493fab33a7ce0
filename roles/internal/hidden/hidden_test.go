package hidden

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// TestNothingIsShown types as soon as the question comes.
func TestNothingIsShown(t *testing.T) {
	ptm, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ptm.Close() }()
	got, err := Ask(int(tty.Fd()), func() {
		_, _ = io.WriteString(tty, "Password: ")
		_, _ = io.WriteString(ptm, "correct horse\nnext\n")
	})
	if err != nil || got != "correct horse" {
		t.Errorf("got %q, %v", got, err)
	}
	now, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil || now.Lflag&unix.ECHO == 0 {
		t.Errorf("nothing is shown any more: %v", err)
	}
	next := make([]byte, 100) // what comes behind the line is for whoever asks next
	if n, err := tty.Read(next); err != nil || string(next[:n]) != "next\n" {
		t.Errorf("then %q, %v", next[:n], err)
	}
	_ = tty.Close()
	shown := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(ptm) // ends with the terminal's other end
		shown <- string(b)
	}()
	select {
	case s := <-shown:
		if !strings.HasPrefix(s, "Password: ") || strings.Contains(s, "horse") {
			t.Errorf("the screen shows %q", s)
		}
	case <-time.After(time.Minute):
		t.Fatal("the screen's text does not end")
	}
}

func TestNoTerminal(t *testing.T) {
	if _, err := Ask(-1, func() { t.Error("asked where there is no terminal") }); err == nil {
		t.Error("got no error")
	}
}
