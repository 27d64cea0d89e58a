package talos

import (
	"context"
	"io"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Install writes an installer image to the other boot slot and makes it the default. It does not reboot. The image must
// be in the system instance already. line is called for every whole line that the installer prints. The exit code is
// the installer's: not zero is a failure without an error. Role: admin. From 1.13 (LifecycleService).
func (n *Node) Install(ctx context.Context, image string, line func(string)) (int, error) {
	code := 0

	err := n.whileAlive(ctx, "install "+image, func(ctx context.Context) (err error) {
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

	err := read(ctx, n, "install "+image, terms{}, func(ctx context.Context) (grpc.ServerStreamingClient[machine.LifecycleServiceUpgradeResponse], error) {
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
		return 0, n.fail("install "+image, io.ErrUnexpectedEOF)
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

	return n.whileAlive(ctx, op, func(ctx context.Context) error {
		_, err := n.machine().Upgrade(ctx, &machine.UpgradeRequest{Image: image, RebootMode: mode}) //nolint:staticcheck // nodes before 1.13 have no other

		return n.fail(op, err)
	})
}

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

// Mount is a mounted file system.
type Mount struct {
	NodeRef

	Filesystem     string  `json:"filesystem"`      // The device or pseudo file system.
	MountedOn      string  `json:"mounted_on"`      // The path.
	SizeBytes      uint64  `json:"size_bytes"`      // Its size.
	AvailableBytes uint64  `json:"available_bytes"` // The free space.
	UsedRatio      float64 `json:"used_ratio"`      // The used part, 0 to 1.
}

// Mounts lists mounted file systems. Roles: reader, operator, admin.
func (n *Node) Mounts(ctx context.Context) ([]Mount, error) {
	resp, err := n.machine().Mounts(ctx, &emptypb.Empty{})

	m, err := first(n, "list mounts", resp.GetMessages(), err)
	if err != nil {
		return nil, err
	}

	out := make([]Mount, 0, len(m.GetStats()))

	for _, s := range m.GetStats() {
		mount := Mount{Filesystem: s.GetFilesystem(), MountedOn: s.GetMountedOn(), SizeBytes: s.GetSize(), AvailableBytes: s.GetAvailable()}
		if s.GetSize() > 0 {
			mount.UsedRatio = ratio(float64(s.GetSize())-float64(s.GetAvailable()), float64(s.GetSize()))
		}

		out = append(out, mount)
	}

	return out, nil
}
