package talos

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/talos/conn"
)

// File types, as rows and flags name them.
const (
	FileRegular   = "regular"
	FileDirectory = "directory"
	FileSymlink   = "symlink"
	FileOther     = "other"
)

// File is one file of a node.
type File struct {
	NodeRef

	Path         string     `json:"path"`               // The absolute path on the node.
	RelativePath string     `json:"relative_path"`      // The path relative to what was listed, "." for itself.
	Type         string     `json:"file_type"`          // regular, directory, symlink or other.
	Mode         string     `json:"mode"`               // Type and permissions as ls shows them: drwxr-xr-x.
	Permissions  string     `json:"permissions"`        // The permission bits in octal: 0755.
	SizeBytes    int64      `json:"size_bytes"`         // The size.
	Modified     *time.Time `json:"modified,omitempty"` // When the content was last changed.
	UID          uint32     `json:"uid"`                // The owner's user ID.
	GID          uint32     `json:"gid"`                // The owner's group ID.
	Link         string     `json:"link,omitempty"`     // The target of a symbolic link.
	Error        string     `json:"error,omitempty"`    // Why the node could not read the file's metadata.
}

// ListRequest selects what to list.
type ListRequest struct {
	Path  string
	Depth int      // How many levels below Path: 1 for its direct content, negative for all.
	Types []string // File types, all when empty.
}

// ListFiles lists a directory, or the one file that Path names, in the node's order. A file whose metadata the node
// cannot read is a row with its error. Roles: reader, operator, admin.
func (n *Node) ListFiles(ctx context.Context, r ListRequest) ([]File, error) {
	req := &machine.ListRequest{Root: r.Path}

	// The server ignores a depth without Recurse, and a depth of 0 with it means no limit.
	if r.Depth != 1 {
		req.Recurse, req.RecursionDepth = true, int32(min(max(r.Depth, 0), math.MaxInt32))
	}

	types := map[string]machine.ListRequest_Type{
		FileRegular: machine.ListRequest_REGULAR, FileDirectory: machine.ListRequest_DIRECTORY, FileSymlink: machine.ListRequest_SYMLINK,
	}
	for _, t := range r.Types {
		req.Types = append(req.Types, types[t])
	}

	out := []File{}

	err := conn.List(ctx, n.Conn, "list "+r.Path, func(ctx context.Context) (grpc.ServerStreamingClient[machine.FileInfo], error) {
		return n.machine().List(ctx, req)
	}, func(f *machine.FileInfo) error {
		out = append(out, fileOf(f))

		return nil
	})

	return out, err
}

func fileOf(f *machine.FileInfo) File {
	mode := fs.FileMode(f.GetMode()) // Talos sends the mode bits of Go
	out := File{
		Path: f.GetName(), RelativePath: f.GetRelativeName(), Type: FileOther, Mode: modeText(mode),
		Permissions: fmt.Sprintf("%04o", mode.Perm()), SizeBytes: f.GetSize(), UID: f.GetUid(), GID: f.GetGid(),
		Link: f.GetLink(), Error: f.GetError(),
	}

	switch {
	case mode.IsRegular():
		out.Type = FileRegular
	case mode.IsDir():
		out.Type = FileDirectory
	case mode&fs.ModeSymlink != 0:
		out.Type = FileSymlink
	}

	if at := recordable(time.Unix(f.GetModified(), 0).UTC()); f.GetModified() != 0 && !at.IsZero() {
		out.Modified = &at
	}

	return out
}

// modeText formats type and permissions as ls does.
func modeText(mode fs.FileMode) string {
	kind := "-"

	switch {
	case mode.IsDir():
		kind = "d"
	case mode&fs.ModeSymlink != 0:
		kind = "l"
	case mode&fs.ModeNamedPipe != 0:
		kind = "p"
	case mode&fs.ModeSocket != 0:
		kind = "s"
	case mode&fs.ModeCharDevice != 0:
		kind = "c"
	case mode&fs.ModeDevice != 0:
		kind = "b"
	}

	text := []byte(kind + mode.Perm().String()[1:])
	special := func(bit fs.FileMode, at int, with, without byte) {
		if mode&bit == 0 {
			return
		}

		if text[at] == 'x' {
			text[at] = with
		} else {
			text[at] = without
		}
	}

	special(fs.ModeSetuid, 3, 's', 'S')
	special(fs.ModeSetgid, 6, 's', 'S')
	special(fs.ModeSticky, 9, 't', 'T')

	return string(text)
}

// IsDirectory reports whether a path is a directory. Roles: reader, operator, admin.
func (n *Node) IsDirectory(ctx context.Context, path string) (bool, error) {
	req := &machine.ListRequest{Root: path}
	is := false

	err := conn.Pull(ctx, n.Conn, "look at "+path, n.Pool.Idle(), func(ctx context.Context) (grpc.ServerStreamingClient[machine.FileInfo], error) {
		return n.machine().List(ctx, req)
	}, func(f *machine.FileInfo) error {
		is = f.GetIsDir() // the first entry is the path itself

		return conn.ErrStop
	})

	return is, err
}

// StreamFile streams a file's bytes. Role: admin.
func (n *Node) StreamFile(ctx context.Context, path string, fn func([]byte) error) error {
	return conn.Pull(ctx, n.Conn, "read "+path, n.Pool.Idle(), func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Read(ctx, &machine.ReadRequest{Path: path})
	}, n.bytes("read "+path, fn))
}

// CopyOut streams a file or tree as a gzip-compressed tar. The names in it are relative to path; a single file has its
// base name. If the node could not read some files, the archive is complete without them and the error is an *Unread.
// Role: admin.
func (n *Node) CopyOut(ctx context.Context, path string, fn func([]byte) error) error {
	op := "copy " + path

	err := conn.Pull(ctx, n.Conn, op, n.Pool.Idle(), func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Copy(ctx, &machine.CopyRequest{RootPath: path})
	}, n.bytes(op, fn))

	if left := unread(err); left != nil {
		return n.Fail(op, left)
	}

	return err
}

// bytes passes on the bytes of a message, or makes the error in its metadata the stream's error: before 1.14, Talos
// ends copies that way, with the status OK.
func (n *Node) bytes(op string, fn func([]byte) error) func(*common.Data) error {
	return func(d *common.Data) error {
		if text := d.GetMetadata().GetError(); text != "" { //nolint:staticcheck // see above
			return n.Fail(op, n.Translate(status.Error(codes.Unknown, text)))
		}

		return fn(d.GetBytes())
	}
}

// Unread are the files that a node omitted from a copy.
type Unread struct {
	Files []UnreadFile
}

// UnreadFile is a file that a node could not read, and the reason.
type UnreadFile struct{ Path, Reason string }

// Error implements error.
func (u *Unread) Error() string {
	text := fmt.Sprintf("%s was skipped: %s", u.Files[0].Path, u.Files[0].Reason)
	if more := len(u.Files) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}

	return text
}

// unread finds the files in the error of a copy (Talos, pkg/archiver/tar.go), nil for another error.
func unread(err error) *Unread {
	if err == nil {
		return nil
	}

	out := &Unread{}

	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, rest, ok := strings.Cut(line, `* skipping "`)
		path, reason, closed := strings.Cut(rest, `": `)

		if ok && closed {
			out.Files = append(out.Files, UnreadFile{Path: path, Reason: strings.TrimPrefix(reason, "open "+path+": ")})
		}
	}

	if len(out.Files) == 0 {
		return nil
	}

	return out
}

// CompletePath lists completions of a path, directories with a slash.
func (n *Node) CompletePath(ctx context.Context, typed string) ([]string, error) {
	dir := typed[:strings.LastIndex(typed, "/")+1]
	if dir == "" {
		dir = "/"
	}

	files, err := n.ListFiles(ctx, ListRequest{Path: dir, Depth: 1})
	if err != nil {
		return nil, err
	}

	out := []string{}

	for _, f := range files {
		if f.RelativePath == "." {
			continue
		}

		path := dir + f.RelativePath
		if f.Type == FileDirectory {
			path += "/"
		}

		out = append(out, path)
	}

	return out, nil
}

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

	err := conn.List(ctx, n.Conn, "measure "+path, func(ctx context.Context) (grpc.ServerStreamingClient[machine.DiskUsageInfo], error) {
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
			SizeBytes: int64(m.SizeBytes - min(m.AvailableBytes, m.SizeBytes)), UsedRatio: m.UsedRatio, //nolint:gosec // G115: disks are smaller than 8 EiB; a lie is a wrong number, as any
		})
	}

	return out, nil
}

// ReadFile reads up to limit bytes of a file. Role: admin.
func (n *Node) ReadFile(ctx context.Context, path string, limit int) ([]byte, error) {
	op := "read " + path

	var body []byte

	err := conn.Read(ctx, n.Conn, op, conn.Terms{Idle: n.Pool.Idle()}, func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Read(ctx, &machine.ReadRequest{Path: path})
	}, func(chunk *common.Data) error {
		if body = append(body, chunk.GetBytes()...); len(body) >= limit {
			return conn.ErrStop
		}

		return nil
	})
	if err != nil {
		return nil, err
	}

	return body[:min(limit, len(body))], nil
}
