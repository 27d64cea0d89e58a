package machined

import (
	"archive/tar"
	"compress/gzip"
	"io"
	"path"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	node "github.com/talosmate/talosmate/lab/internal/machine"
)

// Copy implements machine.MachineService: a gzip-compressed tar whose names are relative to the path, which
// itself is left out unless it is not a directory.
func (s *Service) Copy(req *machine.CopyRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	root := path.Clean("/" + req.RootPath)

	files, err := s.node.Files().Walk(root, -1)
	if err != nil {
		return status.Errorf(codes.Unknown, "stat %s: no such file or directory", root)
	}

	r, w := io.Pipe()

	go func() {
		zw := gzip.NewWriter(w)
		tw := tar.NewWriter(zw)

		err := addFiles(tw, root, files)
		if err == nil {
			err = tw.Close()
		}

		if err == nil {
			err = zw.Close()
		}

		w.CloseWithError(err) //nolint:errcheck // never fails
	}()

	defer r.Close() //nolint:errcheck // ends the writer, too

	return sendBytes(r, srv.Send)
}

func addFiles(tw *tar.Writer, root string, files []node.File) error {
	for _, f := range files {
		name := relative(root, f.Path)

		if name == "." {
			if f.Mode.IsDir() {
				continue
			}

			name = path.Base(root)
		}

		h := &tar.Header{Name: name, Mode: int64(f.Mode.Perm()), ModTime: f.Modified, Uid: int(f.UID), Gid: int(f.GID)}

		switch {
		case f.Mode.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, name+"/"
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		case f.Mode.IsRegular():
			h.Typeflag, h.Size = tar.TypeReg, f.Size
		default:
			continue
		}

		if err := tw.WriteHeader(h); err != nil {
			return err
		}

		if h.Typeflag != tar.TypeReg {
			continue
		}

		// a file that grew or shrank since it was listed must not break the archive
		n, err := io.Copy(tw, io.LimitReader(f.Open(), f.Size))
		if err != nil {
			return err
		}

		if _, err := io.CopyN(tw, zeros{}, f.Size-n); err != nil {
			return err
		}
	}

	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)

	return len(p), nil
}
