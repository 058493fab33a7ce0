package java_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	wrkRequests = regexp.MustCompile(`([0-9]+) requests in`)
	wrkFailures = regexp.MustCompile(`(?m)^\s*(?:Non-2xx.*|Socket errors.*)$`)
)

// TestNoRequestIsLost: wrk never sees anything but 200 while versions are
// switched and backends come, die and go. NUTSHELL_CHAOS=1 does more of it.
func TestNoRequestIsLost(t *testing.T) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatal("wrk is not installed")
		}
		t.Skip("install wrk to run this test")
	}
	w, base := start(t, `{}`)
	w.Files["code-one111"], w.Files["code-two222"] = version("one"), version("two")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, wrk, "-t1", "-c8", "-d600", "--timeout", "2m", base)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	rounds := 1
	if os.Getenv("NUTSHELL_CHAOS") != "" {
		rounds = 10
	}
	for round := range rounds {
		for _, step := range []struct {
			what string
			do   func() error
		}{
			{"activate one", func() error { return w.Activate(ctx, "code-one111") }},
			{"two backends", func() error { return w.Scale(ctx, map[string]int{"backend": 2}) }},
			{"activate two", func() error { return w.Activate(ctx, "code-two222") }},
			{"kill one Tomcat", func() error { kill(t, w, backends(w)[0], "tomcat"); return w.WaitReady(ctx) }},
			{"one backend", func() error { return w.Scale(ctx, map[string]int{"backend": 1}) }},
		} {
			began := time.Now()
			if err := step.do(); err != nil {
				t.Fatalf("round %d: %s: %v", round, step.what, err)
			}
			t.Logf("round %d: %s: %v", round, step.what, time.Since(began).Round(time.Millisecond))
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil { // wrk tells what it has so far
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	said := wrkRequests.FindStringSubmatch(out.String())
	if said == nil {
		t.Fatalf("wrk: %s", out.String())
	}
	n, err := strconv.Atoi(said[1])
	failed := wrkFailures.FindAllString(out.String(), -1)
	t.Logf("%d requests, failures: %q", n, failed)
	if err != nil || n == 0 || len(failed) > 0 {
		t.Error(fmt.Sprint(failed))
	}
}
