// Package talos is the adapter to Talos: it resolves nodes, fans out, and turns every answer into plain types and every
// failure into a typed error. Below it are the talosconfig (config), the connections (conn), the nodes that a command is
// about (target) and the releases (release). Nothing else imports the gRPC stubs.
package talos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/api/storage"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// Node is one Talos node. Its methods are single calls: they do not retry, and they end with their context.
type Node struct{ *conn.Conn }

// ping is a small request that any node answers.
func (n *Node) ping(ctx context.Context) error {
	_, err := n.Version(ctx)

	return err
}

func (n *Node) machine() machine.MachineServiceClient { return machine.NewMachineServiceClient(n.Conn) }

func (n *Node) images() machine.ImageServiceClient { return machine.NewImageServiceClient(n.Conn) }

func (n *Node) lifecycle() machine.LifecycleServiceClient {
	return machine.NewLifecycleServiceClient(n.Conn)
}

func (n *Node) storage() storage.StorageServiceClient { return storage.NewStorageServiceClient(n.Conn) }

func (n *Node) clock() timeapi.TimeServiceClient { return timeapi.NewTimeServiceClient(n.Conn) }

// first returns the answer of the one node that was asked; apid wraps answers in a list of messages. It is given what a
// call returned.
func first[M any, R interface{ GetMessages() []M }](resp R, err error) (M, error) {
	messages := resp.GetMessages()
	if err == nil && len(messages) == 0 {
		err = errors.New("the node sent an empty answer")
	}

	if err != nil {
		var zero M

		return zero, err
	}

	return messages[0], nil
}

func stamp(ts *timestamppb.Timestamp) time.Time {
	if ts == nil || (ts.GetSeconds() == 0 && ts.GetNanos() == 0) {
		return time.Time{}
	}

	return recordable(ts.AsTime())
}

// recordable returns a time that a document can hold, the zero time otherwise.
func recordable(at time.Time) time.Time {
	if at.Year() < 0 || at.Year() > 9999 {
		return time.Time{}
	}

	return at
}

// Version is a node's report of its Talos version.
type Version struct {
	NodeRef

	Tag       string `json:"tag"`            // The Talos version, v1.13.9.
	SHA       string `json:"sha"`            // The commit it was built from.
	Built     string `json:"built"`          // When it was built, as the node reports it; often empty.
	GoVersion string `json:"go_version"`     // The Go release it was built with.
	OS        string `json:"os"`             // The operating system, linux.
	Arch      string `json:"arch"`           // The architecture, amd64 or arm64.
	Platform  string `json:"platform"`       // The Talos platform: metal, aws, container, …
	Mode      string `json:"mode,omitempty"` // The platform's mode.
	API       string `json:"api"`            // The upgrade API: lifecycle (1.13 and newer) or legacy.
	RBAC      bool   `json:"rbac"`           // Whether roles are enforced.
}

// Version asks for the node's version. Roles: any but etcd:backup.
func (n *Node) Version(ctx context.Context) (Version, error) {
	m, err := first(n.machine().Version(ctx, &emptypb.Empty{}))
	if err != nil {
		return Version{}, n.Fail("read the version", err)
	}

	v := m.GetVersion()

	return Version{
		Tag: v.GetTag(), SHA: v.GetSha(), Built: v.GetBuilt(), GoVersion: v.GetGoVersion(), OS: v.GetOs(), Arch: v.GetArch(),
		Platform: m.GetPlatform().GetName(), Mode: m.GetPlatform().GetMode(), API: release.UpgradeAPI(v.GetTag()),
		RBAC: m.GetFeatures().GetRbac(),
	}, nil
}

// Boot identifies one boot of a node.
type Boot struct {
	ID    string `json:"id"`    // The boot ID, or a time stamp that is new at every boot.
	Proof string `json:"proof"` // How it was read: boot_id, machine_status or boot_time.
}

// How a boot is proved.
const (
	ByBootID        = "boot_id"        // The kernel's boot ID: the file (admin), or the resource of Talos 1.14 (reader).
	ByMachineStatus = "machine_status" // When the MachineStatus resource was made (reader).
	ByBootTime      = "boot_time"      // The kernel's boot time in seconds (reader).
)

// Boot reads an identifier that is new at every boot, by the given proof, or by the first one that the node and the
// certificate's roles permit if it is empty. Identifiers compare only within one proof. The answer of another machine is
// an error.
func (n *Node) Boot(ctx context.Context, proof string) (Boot, error) {
	boot, err := n.boot(ctx, proof)
	if err == nil {
		err = confirm(ctx, n.Conn)
	}

	return boot, err
}

func (n *Node) boot(ctx context.Context, proof string) (Boot, error) {
	var all []error

	for _, way := range []struct {
		proof string
		read  func(context.Context) (string, error)
	}{{ByBootID, n.BootID}, {ByBootID, n.bootIDResource}, {ByMachineStatus, n.statusMade}, {ByBootTime, n.bootTime}} {
		if proof != "" && proof != way.proof {
			continue
		}

		id, err := way.read(ctx)
		if err == nil && id != "" {
			return Boot{ID: id, Proof: way.proof}, nil
		}

		all = append(all, err)

		if conn.KindOf(err) == errs.KindUnreachable || ctx.Err() != nil {
			break
		}
	}

	return Boot{}, cmp.Or(errors.Join(all...), fmt.Errorf("the node does not say when it booted (%s)", cmp.Or(proof, "by no proof")))
}

func (n *Node) statusMade(ctx context.Context) (string, error) {
	status, err := n.MachineStatus(ctx)
	if err != nil || status.Created.IsZero() {
		return "", err
	}

	return status.Created.UTC().Format(time.RFC3339Nano), nil
}

func (n *Node) bootTime(ctx context.Context) (string, error) {
	m, err := first(n.machine().SystemStat(ctx, &emptypb.Empty{}))
	if err != nil {
		return "", n.Fail("read the boot time", err)
	}

	return time.Unix(int64(m.GetBootTime()), 0).UTC().Format(time.RFC3339), nil //nolint:gosec // G115: a lie is a wrong time, as any
}

// BootID reads the kernel's boot ID. Role: admin.
func (n *Node) BootID(ctx context.Context) (string, error) {
	body, err := n.ReadFile(ctx, "/proc/sys/kernel/random/boot_id", 64)

	return trimmed(body), err
}

// bootIDResource reads the boot ID from the resource of Talos 1.14; empty where there is none: before 1.14, and in a
// container.
func (n *Node) bootIDResource(ctx context.Context) (string, error) {
	type spec struct {
		BootID string `json:"bootID"`
	}

	ids, err := View[spec, string]{
		Namespace: "runtime", Type: "BootIDs.runtime.talos.dev", Row: func(_ string, s spec) string { return s.BootID },
	}.List(ctx, n)

	return strings.Join(ids, ""), err
}

func containerd(namespace string) *common.ContainerdInstance {
	ns := common.ContainerdNamespace_NS_CRI
	if namespace == NamespaceSystem {
		ns = common.ContainerdNamespace_NS_SYSTEM
	}

	return &common.ContainerdInstance{Driver: common.ContainerDriver_CRI, Namespace: ns}
}

func trimmed(b []byte) string {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == 0) {
		b = b[:len(b)-1]
	}

	return string(b)
}
