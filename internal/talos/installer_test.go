package talos

import (
	"strings"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// journal is a node whose log of machined comes in these chunks.
type journal struct {
	machine.UnimplementedMachineServiceServer

	chunks []string
}

func (j journal) Logs(_ *machine.LogsRequest, out grpc.ServerStreamingServer[common.Data]) error {
	for _, c := range j.chunks {
		if err := out.Send(&common.Data{Bytes: []byte(c)}); err != nil {
			return err
		}
	}

	return nil
}

func TestInstallerEnded(t *testing.T) {
	t.Parallel()

	const before, good, bad = "2026/11/26 10:00:00.000001 machined upgrade failed: exit_code=9\n",
		"2026/11/26 10:05:00.000001 machined upgrade completed successfully: exit_code=0\n",
		"2026/11/26 10:06:00.000001 machined upgrade failed: exit_code=3\n"

	for name, c := range map[string]struct {
		chunks []string
		code   int
		found  bool
	}{
		"nothing":               {nil, 0, false},
		"an earlier one":        {[]string{before}, 0, false},
		"well":                  {[]string{before, good}, 0, true},
		"the last one counts":   {[]string{good, bad, "2026/11/26 10:07:00.000001 machined something else\n"}, 3, true},
		"cut in mid-line":       {[]string{before + good[:40], good[40:]}, 0, true},
		"text that quotes it":   {[]string{"upgrade failed: exit_code=1\n"}, 0, false},
		"a number out of range": {[]string{strings.Replace(bad, "=3", "=99999999999999999999", 1)}, 0, false},
	} {
		n := fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, journal{chunks: c.chunks}) })

		code, found, err := n.InstallerEnded(t.Context(), time.Date(2026, 11, 26, 10, 4, 0, 0, time.UTC))
		if err != nil || code != c.code || found != c.found {
			t.Errorf("%s: %d, %t, %v", name, code, found, err)
		}
	}

	n := fakeNode(t, func(s *grpc.Server) {
		machine.RegisterMachineServiceServer(s, journal{chunks: []string{good, strings.Repeat("x", 4096)}})
	})
	n.Pool.Options.MaxBytes = 1024

	if _, _, err := n.InstallerEnded(t.Context(), time.Time{}); conn.KindOf(err) != errs.KindTooMuch {
		t.Errorf("a log without end: %v", err)
	}
}
