package roles

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"testing"

	"nutshell/roles/internal/config"
)

// systemd's journal gets what is bad, with how bad it is, and the file all.
func TestJournalGetsWarnings(t *testing.T) {
	for _, tc := range []struct{ name, socket, want string }{
		{"systemd", "/run/notify", "<4>level=WARN msg=odd machine=web-1\n<3>level=ERROR msg=bad\n"},
		{"terminal", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", tc.socket)
			var out bytes.Buffer
			c := &config.Config{DataDir: filepath.Join(t.TempDir(), "data")}
			c.Log.Level = "info"
			log, done, err := (&Program{Stderr: &out}).openLog(c)
			if err != nil {
				t.Fatal(err)
			}
			defer done()
			log.Info("usual")
			log.Log(t.Context(), slog.LevelWarn, "odd", "machine", "web-1")
			log.Error("bad")
			if got := out.String(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
