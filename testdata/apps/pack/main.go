// Command pack makes the demo application's archive for `make run`.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"nutshell/testdata/apps/dokuwiki"
)

func main() {
	out := flag.String("o", "dist/dokuwiki.tar.gz", "the archive to write")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := dokuwiki.Save(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
	if info, err := os.Stat(*out); err == nil {
		fmt.Printf("%s: DokuWiki from Debian, %.1f MB\n", *out, float64(info.Size())/1e6)
	}
}
