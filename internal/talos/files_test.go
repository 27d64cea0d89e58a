package talos

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// copier ends a copy as Talos does: before 1.14 with the error in a last message, from 1.14 as the stream's status.
type copier struct {
	machine.UnimplementedMachineServiceServer

	inBand string
	status error
}

func (c *copier) Copy(_ *machine.CopyRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	if err := srv.Send(&common.Data{Bytes: []byte("archive")}); err != nil {
		return err
	}

	if c.inBand == "" {
		return c.status
	}

	return srv.Send(&common.Data{Metadata: &common.Metadata{Error: c.inBand}}) //nolint:staticcheck // how Talos before 1.14 says it
}

func TestCopyOutTellsWhatTheNodeCouldNotRead(t *testing.T) {
	t.Parallel()

	const skipped = "2 errors occurred:\n\t* skipping \"/var/log/a\": open /var/log/a: no such file or directory\n\t* skipping \"/var/log/b\": permission denied\n\n"

	for _, c := range []struct {
		name    string
		node    copier
		want    string
		skipped []string
	}{
		{name: "all is well"},
		{name: "in the last message", node: copier{inBand: "lstat /nosuch: no such file or directory"}, want: "lstat /nosuch"},
		{name: "in the status", node: copier{status: status.Error(codes.Unknown, "lstat /nosuch: no such file or directory")}, want: "lstat /nosuch"},
		{name: "files were skipped", node: copier{inBand: skipped}, want: "/var/log/a", skipped: []string{"/var/log/a", "/var/log/b"}},
		{name: "files were skipped, 1.14", node: copier{status: errors.New(skipped)}, want: "/var/log/a", skipped: []string{"/var/log/a", "/var/log/b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			n := fakeNode(t, func(s *grpc.Server) { machine.RegisterMachineServiceServer(s, &c.node) })
			got := ""

			err := n.CopyOut(t.Context(), "/var/log", func(b []byte) error {
				got += string(b)

				return nil
			})
			if got != "archive" {
				t.Errorf("got %q", got)
			}

			if (err != nil) != (c.want != "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("error %v, want %q", err, c.want)
			}

			var left *Unread
			if errors.As(err, &left) != (c.skipped != nil) {
				t.Fatalf("error %v, want files %v", err, c.skipped)
			}

			if left != nil {
				paths := []string{}
				for _, f := range left.Files {
					paths = append(paths, f.Path)
				}

				if !slices.Equal(paths, c.skipped) || left.Files[1].Reason != "permission denied" {
					t.Errorf("files %v, want %v", left.Files, c.skipped)
				}
			}
		})
	}
}
