package machined

import (
	"fmt"
	"path"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	node "github.com/talosmate/talosmate/lab/internal/machine"
)

// DiskUsage implements machine.MachineService. As in Talos, only the first path is measured, the path itself is a level
// of the depth, 0 means no limit, a folder follows its content, and a path that cannot be read is a message with an
// error.
func (s *Service) DiskUsage(req *machine.DiskUsageRequest, srv grpc.ServerStreamingServer[machine.DiskUsageInfo]) error {
	if len(req.Paths) == 0 {
		return nil
	}

	root := "/" + strings.Trim(req.Paths[0], "/")

	files, err := s.node.Files().Walk(root, -1)
	if err != nil {
		return srv.Send(&machine.DiskUsageInfo{Name: root, RelativeName: root, Error: fmt.Sprintf("lstat %s: no such file or directory", root)})
	}

	m := &measure{req: req, root: root, send: srv.Send}
	for _, f := range files {
		if err = m.visit(f); err != nil {
			return err
		}
	}

	return m.leave("")
}

// measure adds up the files of a walk in order of names.
type measure struct {
	req  *machine.DiskUsageRequest
	root string
	send func(*machine.DiskUsageInfo) error
	open []folder // The folders around the present file, outermost first.
}

type folder struct {
	path string
	size int64
}

func (m *measure) visit(f node.File) error {
	if err := m.leave(f.Path); err != nil {
		return err
	}

	if f.Mode.IsDir() {
		m.open = append(m.open, folder{f.Path, f.Size})

		return nil
	}

	return m.report(f.Path, f.Size, false)
}

// leave closes the folders that do not contain next; all of them for an empty next.
func (m *measure) leave(next string) error {
	for len(m.open) > 0 {
		last := m.open[len(m.open)-1]
		if next != "" && strings.HasPrefix(next, strings.TrimSuffix(last.path, "/")+"/") {
			return nil
		}

		m.open = m.open[:len(m.open)-1]

		if err := m.report(last.path, last.size, true); err != nil {
			return err
		}
	}

	return nil
}

func (m *measure) report(name string, size int64, dir bool) error {
	if n := len(m.open); n > 0 && m.open[n-1].path == path.Dir(name) {
		m.open[n-1].size += size
	}

	depth := 0
	if rel := relative(m.root, name); rel != "." {
		depth = strings.Count(rel, "/") + 1
	}

	switch {
	case m.req.RecursionDepth > 0 && depth >= int(m.req.RecursionDepth),
		!dir && !m.req.All,
		m.req.Threshold > 0 && size < m.req.Threshold,
		m.req.Threshold < 0 && size > -m.req.Threshold:
		return nil
	}

	return m.send(&machine.DiskUsageInfo{Name: name, RelativeName: relative(m.root, name), Size: size})
}
