package machined

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	node "github.com/talosmate/talosmate/lab/internal/machine"
)

// Copy implements machine.MachineService: a gzip-compressed tar whose names are relative to the path, which itself is
// omitted if it is a directory. Files that cannot be opened are omitted and reported at the end: in a last message
// before 1.14, as the stream's status from then on.
func (s *Service) Copy(req *machine.CopyRequest, srv grpc.ServerStreamingServer[common.Data]) error {
	root := path.Clean(req.RootPath)
	if !path.IsAbs(root) {
		return fmt.Errorf("path is not absolute %v", root)
	}

	err := s.archive(root, srv.Send)
	if err == nil || srv.Context().Err() != nil || s.node.AtLeast(14) {
		return err
	}

	return srv.Send(&common.Data{Metadata: &common.Metadata{Error: err.Error()}}) //nolint:staticcheck // as Talos does it
}

func (s *Service) archive(root string, send func(*common.Data) error) error {
	files, err := s.node.Files().Walk(root, -1)
	if err != nil {
		return fmt.Errorf("lstat %s: no such file or directory", root)
	}

	r, w := io.Pipe()
	told := make(chan error, 1)

	go func() {
		zw := gzip.NewWriter(w)
		tw := tar.NewWriter(zw)

		skipped, err := addFiles(tw, root, files)
		if err == nil {
			err = tw.Close()
		}

		if err == nil {
			err = zw.Close()
		}

		w.CloseWithError(err) //nolint:errcheck // never fails

		told <- skipped
	}()

	defer r.Close() //nolint:errcheck // ends the writer, too

	if err := sendBytes(r, send); err != nil {
		return err
	}

	return <-told
}

// addFiles writes the files; skipped names those that could not be opened, in Talos's words.
func addFiles(tw *tar.Writer, root string, files []node.File) (skipped, err error) {
	var left []string

	for _, f := range files {
		if f.Unreadable {
			left = append(left, fmt.Sprintf("\t* skipping %q: open %s: no such file or directory\n", f.Path, f.Path))

			continue
		}

		if err := addFile(tw, root, f); err != nil {
			return nil, err
		}
	}

	switch len(left) {
	case 0:
		return nil, nil
	case 1:
		return errors.New("1 error occurred:\n" + left[0] + "\n"), nil
	default:
		return fmt.Errorf("%d errors occurred:\n%s\n", len(left), strings.Join(left, "")), nil
	}
}

func addFile(tw *tar.Writer, root string, f node.File) error {
	name := relative(root, f.Path)

	if name == "." {
		if f.Mode.IsDir() {
			return nil
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
		return nil
	}

	if err := tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}

	// a file whose size changed since it was listed must not break the archive
	n, err := io.Copy(tw, io.LimitReader(f.Open(), f.Size))
	if err != nil {
		return err
	}

	_, err = io.CopyN(tw, zeros{}, f.Size-n)

	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)

	return len(p), nil
}
