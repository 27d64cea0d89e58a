package fs_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/hostile"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// TestCpStaysBelowTheDestination copies from two nodes of which one has a hostname that is a path.
func TestCpStaysBelowTheDestination(t *testing.T) {
	t.Parallel()

	var packed bytes.Buffer

	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	_ = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "hosts", Mode: 0o644, Size: 1})
	_, _ = archive.Write([]byte("x"))
	_ = archive.Close()
	_ = zipped.Close()

	for _, hostname := range []string{"../../escaped", "/escaped", `""`, `"a\0b"`, "..", "n1"} {
		server := replay.Start(t, "talos-v1.13.8", nil)
		h := hostile.Start(t, server.Talosconfig(t, "os:admin"), server.Authority(t))
		h.Resources("Members.cluster.talos.dev", func(_ string, r *cosi.Resource) {
			if strings.Contains(r.GetSpec().GetYamlSpec(), "10.5.0.5") {
				lines := strings.Split(r.GetSpec().GetYamlSpec(), "\n")
				for i := range lines {
					if strings.HasPrefix(lines[i], "hostname:") {
						lines[i] = "hostname: " + hostname
					}
				}

				r.Spec.YamlSpec = strings.Join(lines, "\n")
			}
		})
		h.Serve(machine.MachineService_List_FullMethodName, func(_ string, stream grpc.ServerStream) error {
			return stream.SendMsg(&machine.FileInfo{Name: "/etc/hosts", RelativeName: "hosts", Size: 1})
		})
		h.Serve(machine.MachineService_Copy_FullMethodName, func(_ string, stream grpc.ServerStream) error {
			return stream.SendMsg(&common.Data{Bytes: packed.Bytes()})
		})

		outer := t.TempDir()
		dest := filepath.Join(outer, "a", "dest")

		got := clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig}, "fs", "cp", "/etc/hosts", dest, "-n", "10.5.0.2,10.5.0.5")
		if got.Code != 0 {
			t.Errorf("hostname %q: %+v", hostname, got)
		}

		if in, _ := filepath.Glob(filepath.Join(dest, "*", "hosts")); len(in) != 2 {
			t.Errorf("hostname %q: below the destination are %v", hostname, in)
		}

		for _, dir := range []string{outer, filepath.Join(outer, "a")} {
			if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
				t.Errorf("hostname %q: outside of the destination are %v, %v", hostname, all, err)
			}
		}

		if _, err := os.Lstat("/escaped"); err == nil {
			t.Errorf("hostname %q wrote /escaped", hostname)
		}
	}
}
