package logs

import (
	"testing"
	"time"

	"nutshell/roles/api"
)

func TestRecognise(t *testing.T) {
	amsterdam, err := time.LoadLocation("Europe/Amsterdam")
	if err != nil {
		t.Fatal(err)
	}
	const none = ""
	for _, c := range []struct {
		name, line, at string
		level          api.LogLevel
	}{
		{"slog-text", `time=2026-11-22T15:04:05.123Z level=WARN msg="ERROR is a word" service=1`, "2026-11-22T15:04:05.123Z", api.LogWarn},
		{"slog-text-zone", `time=2026-11-22T16:04:05.123+01:00 level=DEBUG msg=x`, "2026-11-22T15:04:05.123Z", api.LogDebug},
		{"slog-json", `{"time":"2026-11-22T15:04:05.123456789Z","level":"ERROR","msg":"x"}`, "2026-11-22T15:04:05.123456789Z", api.LogError},
		{"json-severity", `{"severity":"warning","timestamp":"2026-11-22 15:04:05","msg":"level error"}`, "2026-11-22T15:04:05Z", api.LogWarn},
		{"nginx-access", `127.0.0.1 - - [22/Nov/2026:15:04:05 +0000] "GET /?a=" 500 HTTP/1.1" 200 12 "-" "curl" 0.001 - -`, "2026-11-22T15:04:05Z", api.LogError},
		{"nginx-access-ok", `127.0.0.1 - bob [22/Nov/2026:15:04:05 +0000] "GET / HTTP/1.1" 200 12 "-" "curl"`, "2026-11-22T15:04:05Z", api.LogInfo},
		{"nginx-access-404", `::1 - - [22/Nov/2026:16:04:05 +0100] "GET /x/y/z HTTP/1.1" 404 12`, "2026-11-22T15:04:05Z", api.LogWarn},
		{"nginx-access-502", `10.0.0.1 - - [22/Nov/2026:15:04:05 +0000] "POST /api HTTP/2.0" 502 157 "-" "-"`, "2026-11-22T15:04:05Z", api.LogError},
		{"nginx-error", `2026/11/22 15:04:05 [error] 7#7: *1 connect() failed (111: Connection refused)`, "2026-11-22T15:04:05Z", api.LogError},
		{"nginx-warn", `2026/11/22 15:04:05 [warn] 7#7: an upstream response is buffered`, "2026-11-22T15:04:05Z", api.LogWarn},
		{"fpm-access", `127.0.0.1 - 22/Nov/2026:15:04:05 +0000 "GET /index.php" 200 3.1ms`, "2026-11-22T15:04:05Z", api.LogInfo},
		{"fpm", `[22-Nov-2026 15:04:05] NOTICE: ready to handle connections`, "2026-11-22T15:04:05Z", api.LogInfo},
		{"fpm-warning", `[22-Nov-2026 15:04:05] WARNING: [pool www] child 4 exited on signal 9`, "2026-11-22T15:04:05Z", api.LogWarn},
		{"php-fatal", `[22-Nov-2026 15:04:05 UTC] PHP Fatal error:  Uncaught Error: no in /x.php:3`, "2026-11-22T15:04:05Z", api.LogError},
		{"php-warning-zone", `[22-Nov-2026 16:04:05 Europe/Amsterdam] PHP Warning:  Undefined variable $x`, "2026-11-22T15:04:05Z", api.LogWarn},
		{"php-deprecated", `[22-Nov-2026 15:04:05 UTC] PHP Deprecated:  strlen()`, "2026-11-22T15:04:05Z", api.LogWarn},
		{"php-parse", `[22-Nov-2026 15:04:05 UTC] PHP Parse error:  syntax error`, "2026-11-22T15:04:05Z", api.LogError},
		{"tomcat", `22-Nov-2026 15:04:05.123 SEVERE [main] org.apache.catalina.core.StandardContext.startInternal One or more listeners failed`, "2026-11-22T15:04:05.123Z", api.LogError},
		{"tomcat-info", `22-Nov-2026 15:04:05.123 INFO [main] org.apache.coyote.AbstractProtocol.start Starting`, "2026-11-22T15:04:05.123Z", api.LogInfo},
		{"jul-first-line", `Nov 22, 2026 3:04:05 PM org.example.Main run`, "2026-11-22T15:04:05Z", none},
		{"jul-second-line", `SEVERE: it broke`, none, api.LogError},
		{"logback", `2026-11-22 15:04:05,123 ERROR [http-1] o.e.Shop - no stock`, "2026-11-22T15:04:05.123Z", api.LogError},
		{"mariadb-note", `2026-11-22 15:04:05 0 [Note] mariadbd: ready for connections.`, "2026-11-22T15:04:05Z", api.LogInfo},
		{"mariadb-error", `2026-11-22 15:04:05 0 [ERROR] Can't start server`, "2026-11-22T15:04:05Z", api.LogError},
		{"galera", `2026-11-22  5:04:05 2 [Warning] WSREP: access file failed(No such file or directory)`, "2026-11-22T05:04:05Z", api.LogWarn},
		{"mysqld-safe", `261122 15:04:05 mysqld_safe Starting mariadbd daemon`, "2026-11-22T15:04:05Z", none},
		{"slow-log", `# Time: 261122 15:04:05`, "2026-11-22T15:04:05Z", api.LogWarn},
		{"mariabackup", `[00] 2026-11-22 15:04:05 completed OK!`, "2026-11-22T15:04:05Z", none},
		{"haproxy-http", `127.0.0.1:4242 [22/Nov/2026:15:04:05.123] front back/one 0/0/1/2/3 503 212 - - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`, "2026-11-22T15:04:05.123Z", api.LogError},
		{"haproxy-tcp", `127.0.0.1:4242 [22/Nov/2026:15:04:05.123] front back/one 1/0/9 212 -- 1/1/0/0/0 0/0`, "2026-11-22T15:04:05.123Z", api.LogInfo},
		{"haproxy-alert", `[ALERT]    (123) : Binding failed`, none, api.LogError},
		{"haproxy-notice", `[NOTICE]   (123) : New worker (125) forked`, none, api.LogInfo},
		{"xtreemfs", `[ E | MRC | main | 1 | Nov 22, 2026 15:04:05 ] cannot start`, "2026-11-22T15:04:05Z", api.LogError},
		{"apache", `[Sun Nov 22 15:04:05.123456 2026] [core:error] [pid 3] AH00037: x`, "2026-11-22T15:04:05.123456Z", api.LogError},
		{"monolog", `[2026-11-22T15:04:05.123+00:00] app.CRITICAL: it broke`, "2026-11-22T15:04:05.123Z", api.LogError},
		{"python", `2026-11-22 15:04:05,123 - shop - WARNING - slow`, "2026-11-22T15:04:05.123Z", api.LogWarn},
		{"python-root", `ERROR:root:it broke`, none, api.LogError},
		{"go-log", `2026/11/22 15:04:05 listening`, "2026-11-22T15:04:05Z", none},
		{"plain", `no errors were found`, none, none},
		{"plain-error", `error: cannot read file`, none, api.LogError},
		{"traceback", `Traceback (most recent call last):`, none, api.LogError},
		{"indented", `    at org.example.Main.run(Main.java:3) ERROR`, none, none},
		{"empty", ``, none, none},
		{"impossible-date", `2026-99-99 15:04:05 ERROR x`, none, api.LogError},
		{"short", `2026-11-22`, none, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := recogniser{zone: time.UTC, now: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}
			got := r.head([]byte(c.line))
			at := none
			if got.timed {
				at = time.Unix(0, got.at).UTC().Format(time.RFC3339Nano)
			}
			if at != c.at || got.level != c.level {
				t.Errorf("got %q %q, want %q %q", at, got.level, c.at, c.level)
			}
		})
	}
	r := recogniser{zone: amsterdam, now: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)}
	got := r.head([]byte("Dec 31 23:00:00 host prog[1]: warning: x"))
	if at := time.Unix(0, got.at).UTC(); !at.Equal(time.Date(2025, 12, 31, 22, 0, 0, 0, time.UTC)) || got.level != api.LogWarn {
		t.Errorf("a time without year and zone: got %s %q", at, got.level)
	}
}

func FuzzRecognise(f *testing.F) {
	for _, s := range []string{"[", "<", "{", "# Time: 2", "time=2026-", `"GET /" `, "Jan ", "[ E | ", "1/Jan/2026:1:1:1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r := recogniser{zone: time.UTC, now: time.Unix(1e9, 0)}
		h := r.head(line)
		if h.level.Rank() > 3 {
			t.Errorf("level %q", h.level)
		}
		text, _ := Clean(line, 100)
		for _, c := range text {
			if c != '\t' && dangerous(c) && c != '\ufffd' {
				t.Errorf("%q is left in %q", c, text)
			}
		}
	})
}
