package roles

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"
)

// underSystemd reports whether this is a service of systemd's, whose output is
// its journal.
func underSystemd() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// journal is a writer of log lines that tells systemd how bad each is.
type journal struct{ io.Writer }

func (j journal) Write(line []byte) (int, error) {
	prefix := "<4>" // warning, as syslog counts
	if bytes.HasPrefix(line, []byte("level="+slog.LevelError.String())) {
		prefix = "<3>"
	}
	if _, err := j.Writer.Write(append([]byte(prefix), line...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// untimed leaves the time to the journal, which has its own.
func untimed(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// notify tells systemd something about this service, such as READY=1. Where
// nobody asked for that it does nothing.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] == '@' {
		name = "\x00" + name[1:] // an abstract socket
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = c.Write([]byte(state))
	return err
}

// watched tells systemd that we live as often as it wants to hear that, until
// ctx ends. alive is asked before; a director that answers nobody in all that
// time is silent, and is started again. One that only is busy is not: it is
// asked until it answers, as each single question has limits of its own.
func watched(ctx context.Context, alive func(context.Context) error) {
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err != nil || us <= 0 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return
	}
	every := time.Duration(us) * time.Microsecond / 3
	next := time.NewTimer(every)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		ask, cancel := context.WithTimeout(ctx, every)
		err := alive(ask)
		cancel()
		if err != nil {
			next.Reset(every / 60)
			continue
		}
		_ = notify("WATCHDOG=1") // nobody to tell it to is no reason to stop
		next.Reset(every)
	}
}
