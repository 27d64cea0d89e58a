// Command talosmate-lab runs a simulated Talos Linux cluster on loopback addresses: the real API over real mutual TLS,
// without machines.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/talosmate/talosmate/lab/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)

	stop()
	os.Exit(code)
}
