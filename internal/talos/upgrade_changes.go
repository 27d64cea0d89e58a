package talos

import (
	"context"
	"io"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Install writes an installer image to the other boot slot and makes it the default. It does not reboot. The image must
// be in the system instance already. line is called for every whole line that the installer prints. The exit code is
// the installer's: not zero is a failure without an error. Role: admin. From 1.13 (LifecycleService).
func (n *Node) Install(ctx context.Context, image string, line func(string)) (int, error) {
	code := 0

	err := n.WhileAlive(ctx, "install "+image, n.ping, func(ctx context.Context) (err error) {
		code, err = n.install(ctx, image, line)

		return err
	})

	return code, err
}

func (n *Node) install(ctx context.Context, image string, line func(string)) (int, error) {
	req := &machine.LifecycleServiceUpgradeRequest{
		Containerd: containerd(NamespaceSystem), Source: &machine.InstallArtifactsSource{ImageName: image},
	}

	lines := &lineBuffer{emit: line}
	code, finished := int32(0), false

	err := conn.Read(ctx, n.Conn, "install "+image, conn.Terms{}, func(ctx context.Context) (grpc.ServerStreamingClient[machine.LifecycleServiceUpgradeResponse], error) {
		return n.lifecycle().Upgrade(ctx, req)
	}, func(m *machine.LifecycleServiceUpgradeResponse) error {
		switch p := m.GetProgress().GetResponse().(type) {
		case *machine.LifecycleServiceInstallProgress_Message:
			lines.write(p.Message)
		case *machine.LifecycleServiceInstallProgress_ExitCode:
			code, finished = p.ExitCode, true
		}

		return nil
	})

	lines.flush()

	if err == nil && !finished {
		return 0, n.Fail("install "+image, io.ErrUnexpectedEOF)
	}

	return int(code), err
}

// UpgradeLegacy asks a node before 1.13 to install and reboot in one request. force and preserve are never
// sent: they skip the server's etcd check. Role: admin.
func (n *Node) UpgradeLegacy(ctx context.Context, image, rebootMode string) error {
	mode := machine.UpgradeRequest_DEFAULT
	if rebootMode == RebootPowercycle {
		mode = machine.UpgradeRequest_POWERCYCLE
	}

	op := "upgrade to " + image

	return n.WhileAlive(ctx, op, n.ping, func(ctx context.Context) error {
		_, err := n.machine().Upgrade(ctx, &machine.UpgradeRequest{Image: image, RebootMode: mode}) //nolint:staticcheck // nodes before 1.13 have no other

		return n.Fail(op, err)
	})
}

// maxLine bounds the bytes of a line that an installer prints.
const maxLine = 64 << 10

// lineBuffer assembles lines from chunks of any size.
type lineBuffer struct {
	rest string
	emit func(string)
}

func (b *lineBuffer) write(chunk string) {
	b.rest += chunk

	for {
		line, rest, ok := strings.Cut(b.rest, "\n")
		if !ok && len(b.rest) <= maxLine {
			return
		}

		if len(line) > maxLine {
			line, rest = b.rest[:maxLine], b.rest[maxLine:]
		}

		b.rest = rest
		b.send(line)
	}
}

func (b *lineBuffer) flush() {
	b.send(b.rest)
	b.rest = ""
}

func (b *lineBuffer) send(line string) {
	if line = strings.TrimRight(line, "\r"); line != "" && b.emit != nil {
		b.emit(line)
	}
}

// InstallInProgress reports whether a node refused an install because another one runs there.
func InstallInProgress(err error) bool {
	return conn.KindOf(err) == errs.KindPrecondition && strings.Contains(err.Error(), "already in progress")
}
