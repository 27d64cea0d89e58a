package talos

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
	Modified     *time.Time `json:"modified,omitempty"` // When the content changed last.
	UID          uint32     `json:"uid"`                // The owner's user ID.
	GID          uint32     `json:"gid"`                // The owner's group ID.
	Link         string     `json:"link,omitempty"`     // What a symbolic link points to.
	Error        string     `json:"error,omitempty"`    // Why the node could not look at the file.
}

// ListRequest says what to list.
type ListRequest struct {
	Path  string
	Depth int      // How many levels below Path: 1 for its own content, negative for all.
	Types []string // File types, all when empty.
}

// ListFiles lists a directory, or the one file that Path names, in the node's order. A file that the node
// cannot look at is a row with its error. Roles: reader, operator, admin.
func (n *Node) ListFiles(ctx context.Context, r ListRequest) ([]File, error) {
	req := &machine.ListRequest{Root: r.Path}

	// A depth without Recurse is ignored by the server, and a depth of 0 with it means no limit.
	if r.Depth != 1 {
		req.Recurse, req.RecursionDepth = true, int32(max(r.Depth, 0))
	}

	types := map[string]machine.ListRequest_Type{
		FileRegular: machine.ListRequest_REGULAR, FileDirectory: machine.ListRequest_DIRECTORY, FileSymlink: machine.ListRequest_SYMLINK,
	}
	for _, t := range r.Types {
		req.Types = append(req.Types, types[t])
	}

	out := []File{}

	err := list(ctx, n, "list "+r.Path, func(ctx context.Context) (grpc.ServerStreamingClient[machine.FileInfo], error) {
		return n.machine().List(ctx, req)
	}, func(f *machine.FileInfo) error {
		out = append(out, fileOf(f))

		return nil
	})

	return out, err
}

func fileOf(f *machine.FileInfo) File {
	mode := fs.FileMode(f.GetMode()) // Talos sends Go's own bits
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

// modeText shows type and permissions as ls does.
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

// IsDirectory says whether a path is a directory. Roles: reader, operator, admin.
func (n *Node) IsDirectory(ctx context.Context, path string) (bool, error) {
	req := &machine.ListRequest{Root: path}
	is := false

	err := pull(ctx, n, "look at "+path, n.cluster.Idle(), func(ctx context.Context) (grpc.ServerStreamingClient[machine.FileInfo], error) {
		return n.machine().List(ctx, req)
	}, func(f *machine.FileInfo) error {
		is = f.GetIsDir() // the first entry is the path itself

		return ErrStop
	})

	return is, err
}

// StreamFile streams a file's bytes. Role: admin.
func (n *Node) StreamFile(ctx context.Context, path string, fn func([]byte) error) error {
	return pull(ctx, n, "read "+path, n.cluster.Idle(), func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Read(ctx, &machine.ReadRequest{Path: path})
	}, n.bytes("read "+path, fn))
}

// CopyOut streams a file or tree as a gzip-compressed tar. The names in it are relative to path; a single
// file has its base name. What the node could not read is left out of a complete archive: the error is then an
// *Unread. Role: admin.
func (n *Node) CopyOut(ctx context.Context, path string, fn func([]byte) error) error {
	op := "copy " + path

	err := pull(ctx, n, op, n.cluster.Idle(), func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
		return n.machine().Copy(ctx, &machine.CopyRequest{RootPath: path})
	}, n.bytes(op, fn))

	if left := unread(err); left != nil {
		return n.fail(op, left)
	}

	return err
}

// bytes hands on what a message of a stream holds, or makes the error in it the stream's: Talos before 1.14 ends
// copies that way, with a status that says all is well.
func (n *Node) bytes(op string, fn func([]byte) error) func(*common.Data) error {
	return func(d *common.Data) error {
		if text := d.GetMetadata().GetError(); text != "" { //nolint:staticcheck // see above
			return n.fail(op, translate(status.Error(codes.Unknown, text), n.cluster.circumstances(n.conn.label, true)))
		}

		return fn(d.GetBytes())
	}
}

// Unread are the files that a node left out of a copy.
type Unread struct {
	Files []UnreadFile
}

// UnreadFile is a file that a node could not read, and why.
type UnreadFile struct{ Path, Reason string }

// Error implements error.
func (u *Unread) Error() string {
	text := fmt.Sprintf("%s was left out: %s", u.Files[0].Path, u.Files[0].Reason)
	if more := len(u.Files) - 1; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}

	return text
}

// unread finds the files in the error of a copy (Talos, pkg/archiver/tar.go), nil when it says something else.
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

// CompletePath lists what may follow a path that is being typed, directories with a slash.
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
