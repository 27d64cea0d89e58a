package talos

import (
	"context"
	"math"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
)

// Usage is the disk usage of a path or a mounted file system.
type Usage struct {
	NodeRef

	Kind           string  `json:"kind"`                      // path, or mount for a whole file system.
	Path           string  `json:"path"`                      // The path, or where it is mounted.
	SizeBytes      int64   `json:"size_bytes"`                // The bytes in use, with everything below it.
	TotalBytes     uint64  `json:"total_bytes,omitempty"`     // Of a mount: its size.
	AvailableBytes uint64  `json:"available_bytes,omitempty"` // Of a mount: the free space.
	UsedRatio      float64 `json:"used_ratio,omitempty"`      // Of a mount: the used part, 0 to 1.
	Filesystem     string  `json:"filesystem,omitempty"`      // Of a mount: the device or pseudo file system.
	Error          string  `json:"error,omitempty"`           // Why it could not be measured.
}

// Kinds of usage.
const (
	UsagePath  = "path"
	UsageMount = "mount"
)

// UsageOptions are options as du has them.
type UsageOptions struct {
	Depth     int32 // How many levels below each path get a row; 0 for the path alone.
	Files     bool  // Rows for files too, not only for folders.
	Threshold int64 // Omit smaller ones; if negative, omit greater ones; bytes.
}

// DiskUsage measures a path on the node. Files that could not be read are rows with an error from the node, not an
// error of the call. Roles: reader, operator, admin.
func (n *Node) DiskUsage(ctx context.Context, path string, o UsageOptions) ([]Usage, error) {
	req := &machine.DiskUsageRequest{
		// The server counts the path itself as a level and takes 0 for no limit; it measures one path only (Talos,
		// v1alpha1_server.go).
		Paths: []string{path}, RecursionDepth: min(o.Depth, math.MaxInt32-1) + 1, All: o.Files, Threshold: o.Threshold,
	}

	out := []Usage{}

	err := list(ctx, n, "measure "+path, func(ctx context.Context) (grpc.ServerStreamingClient[machine.DiskUsageInfo], error) {
		return n.machine().DiskUsage(ctx, req)
	}, func(m *machine.DiskUsageInfo) error {
		out = append(out, Usage{Kind: UsagePath, Path: m.GetName(), SizeBytes: m.GetSize(), Error: m.GetError()})

		return nil
	})

	return out, err
}

// MountUsage returns the usage of every mounted file system that has a size.
func (n *Node) MountUsage(ctx context.Context) ([]Usage, error) {
	mounts, err := n.Mounts(ctx)
	if err != nil {
		return nil, err
	}

	out := []Usage{}

	for _, m := range mounts {
		if m.SizeBytes == 0 {
			continue
		}

		out = append(out, Usage{
			Kind: UsageMount, Path: m.MountedOn, Filesystem: m.Filesystem, TotalBytes: m.SizeBytes, AvailableBytes: m.AvailableBytes,
			SizeBytes: int64(m.SizeBytes - min(m.AvailableBytes, m.SizeBytes)), UsedRatio: m.UsedRatio,
		})
	}

	return out, nil
}
