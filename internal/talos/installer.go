package talos

import (
	"bytes"
	"context"
	"regexp"
	"strconv"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// InstallerRuns reports whether an installation is under way. It continues in Talos when its client has vanished, and holds
// the lifecycle lock; a reboot does not wait for it (Talos, internal/app/lifecycle/container.go). Nodes before 1.13, which
// have no such installations, do not have one. Roles: reader, operator, admin.
func (n *Node) InstallerRuns(ctx context.Context) (bool, error) {
	_, err := n.Resource(ctx, "runtime", "ServicePIDs.runtime.talos.dev", "installer")

	switch conn.KindOf(err) { //nolint:exhaustive // the rest is an error
	case errs.KindNotFound, errs.KindPermissionDenied:
		return false, nil
	default:
		return err == nil, err
	}
}

// installerTail is how many lines of machined's log may follow the end of an installation.
const installerTail = 5000

// installerEnd is a line of machined's log about the end of an installation.
func installerEnd() *regexp.Regexp {
	return regexp.MustCompile(`^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+) .*upgrade (?:completed successfully|failed): exit_code=(\d+)`)
}

// InstallerEnded reads the exit code of the last installation that ended after a moment, by the node's clock, from
// machined's log. found is false when the log tells of none. Roles: reader, operator, admin.
func (n *Node) InstallerEnded(ctx context.Context, after time.Time) (code int, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, conn.MaxTime)
	defer cancel()

	var text []byte

	meter := &conn.Meter{Rows: n.Pool.Options.MaxRows, Bytes: n.Pool.Options.MaxBytes}

	err = n.Logs(ctx, LogRequest{ID: "machined", Tail: installerTail, Idle: n.Pool.Idle()}, func(chunk []byte) error {
		if err := meter.Take(len(chunk)); err != nil {
			return n.Exceeds("read the log of machined", err)
		}

		text = append(text, chunk...)

		return nil
	})

	pattern := installerEnd()

	for line := range bytes.Lines(text) {
		m := pattern.FindSubmatch(line)
		if m == nil {
			continue
		}

		at, parseErr := time.Parse("2006/01/02 15:04:05.999999", string(m[1]))
		if exit, convErr := strconv.Atoi(string(m[2])); parseErr == nil && convErr == nil && !at.Before(after) {
			code, found = exit, true
		}
	}

	return code, found, err
}
