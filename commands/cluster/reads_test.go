package cluster_test

import (
	"archive/zip"
	"bytes"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/talosmate/talosmate/internal/testing/clitest"
	"github.com/talosmate/talosmate/internal/testing/hostile"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

func TestVersion(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "version.short", Args: []string{"version", "-n", "10.5.0.2", "--short", "-o", "wide", "--query", ".items[].tag"}},
		{Name: "version.json", Version: "talos-v1.13.9", Args: []string{"version", "-n", "10.5.0.2,10.5.0.5", "-o", "json"}},
		{
			Name: "version.partial", Args: []string{"version", "-o", "json", "--query", ".items | length"}, Code: 4,
			Stderr: []string{"cannot read the version on 10.5.0.4 (n3)"},
		},
	})
}

// TestSupportRefuses refuses what cannot be encrypted or read before anything is asked.
func TestSupportRefuses(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{
			Name: "support.recipient", Args: []string{"support", "-n", "10.5.0.2", "--encrypt-to", "age1nonsense"}, Code: 2,
			Stderr: []string{"bad recipient", "recipients are age1"},
		},
		{Name: "support.recipients-file", Args: []string{"support", "-n", "10.5.0.2", "--encrypt-to", "nosuch.txt"}, Code: 2, Stderr: []string{"nosuch.txt"}},
		{Name: "support.tail", Args: []string{"support", "-n", "10.5.0.2", "--tail", "-1"}, Code: 2, Stderr: []string{"--tail"}},
	})
}

// TestSupportOfHostileNodes gives a bundle a node whose log never ends, whose names are paths and whose text is for terminals.
func TestSupportOfHostileNodes(t *testing.T) {
	t.Parallel()

	server := replay.Start(t, "talos-v1.13.8", nil)
	h := hostile.Start(t, server.Talosconfig(t, "os:admin"), server.Authority(t))
	h.Endless(machine.MachineService_Dmesg_FullMethodName, bytes.Repeat([]byte("x"), 1<<20))
	hostile.Rewrite(h, machine.MachineService_LogsContainers_FullMethodName, func(_ string, m *machine.LogsContainersResponse) {
		for _, part := range m.GetMessages() {
			part.Ids = []string{"../../../etc/passwd", "/etc/passwd", "..", "\x1b[31mred"}
		}
	})
	hostile.Rewrite(h, machine.MachineService_ServiceList_FullMethodName, func(_ string, m *machine.ServiceListResponse) {
		for _, part := range m.GetMessages() {
			part.Services[0].Id = "\x1b]0;title\x07\u202eevil"
		}
	})

	file := filepath.Join(t.TempDir(), "bundle.zip")

	got := clitest.Run(t, []string{"TALOSCONFIG=" + h.Talosconfig, "TALOSMATE_TIMEOUT=5m"}, "support", "-n", "10.5.0.2", "-O", file, "-o", "json")
	if got.Code != 4 {
		t.Fatalf("exit code %d\n%s", got.Code, got.Stderr)
	}

	archive, err := zip.OpenReader(file)
	if err != nil {
		t.Fatal(err)
	}

	defer archive.Close()

	for _, f := range archive.File {
		if !regexp.MustCompile(`^(manifest\.json|(nodes|cluster|etcd|kubernetes)/[A-Za-z0-9._/-]+)$`).MatchString(f.Name) || !filepath.IsLocal(f.Name) {
			t.Errorf("bad name %q", f.Name)
		}

		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}

		if text, err := io.ReadAll(r); err != nil || bytes.ContainsAny(text, "\x1b\u202e") {
			t.Errorf("%s: %v, or something for a terminal", f.Name, err)
		}
	}

	if !strings.Contains(got.Stdout, "the node sends more than") {
		t.Errorf("the endless log is not in the result:\n%.2000s", got.Stdout)
	}
}

func TestMembers(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "members.table", Args: []string{"members"}},
		{Name: "members.wide", Version: "talos-v1.13.9", Args: []string{"members", "-o", "wide", "--sort-by", "hostname"}},
		{Name: "members.json", Args: []string{"members", "-o", "json"}},
		{Name: "members.name", Args: []string{"members", "-o", "name"}},
		{
			Name: "members.probe", Args: []string{"members", "--probe"}, Code: 4,
			Stderr: []string{"cannot read the version on 10.5.0.6 (n5)"},
		},
	})
}

func TestGet(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "get.table", Args: []string{"get", "members", "-n", "n1"}},
		{Name: "get.json", Args: []string{"get", "machinestatus", "machine", "-n", "10.5.0.5", "-o", "json"}},
		{Name: "get.alias.yaml", Args: []string{"get", "Nodenames.kubernetes.talos", "-n", "n4", "-o", "yaml"}},
		{Name: "get.several-nodes", Args: []string{"get", "addresses", "-n", "n1,n4", "-o", "wide"}},
		{Name: "get.default-namespace", Args: []string{"get", "hostnamestatus", "-n", "n1", "--query", ".items[].metadata.namespace"}},
		{Name: "get.namespace", Args: []string{"get", "hostnamestatus", "-n", "n1", "--namespace", "network-config", "-o", "json", "--query", ".items"}},
		{Name: "get.all-members", Args: []string{"get", "hostnamestatus", "--query", ".items[].hostname"}, Code: 4},
		{Name: "get.rd.count", Args: []string{"get", "rd", "--query", ".items | length"}},
		{
			Name: "get.unknown-type", Args: []string{"get", "nosuch", "-n", "n1", "-o", "json", "--query", ".errors"}, Code: 2,
			Stderr: []string{`no resource type is called "nosuch"`, "talosmate api-resources"},
		},
		{Name: "get.not-found", Args: []string{"get", "members", "n9", "-n", "n1", "-o", "json"}, Code: 1},
		{
			Name: "get.sensitive", Roles: []string{"os:reader"}, Args: []string{"get", "apiserverconfig"}, Code: 6,
			Stderr: []string{"not authorized", "the certificate has os:reader"},
		},
	})
}

func TestAPIResources(t *testing.T) {
	t.Parallel()

	clitest.Test(t, []clitest.Recorded{
		{Name: "api-resources.table", Args: []string{"api-resources"}},
		{Name: "api-resources.json", Args: []string{"api-resources", "-o", "json", "--query", `.items[] | select(.name == "members")`}},
		{Name: "api-resources.wide", Roles: []string{"os:reader"}, Args: []string{"api-resources", "-n", "n1,n4", "-o", "wide", "--sort-by", "namespace"}},
		{Name: "api-resources.dead", Args: []string{"api-resources", "-n", "n1,n3", "-o", "name"}, Code: 4},
	})
}

// TestColumnsOfATypeAreData: a node names the columns of a type, and where their values are.
func TestColumnsOfATypeAreData(t *testing.T) {
	t.Parallel()

	server := replay.Start(t, "talos-v1.13.8", nil)
	node := hostile.Start(t, server.Talosconfig(t, "os:reader"), server.Authority(t))

	node.Resources("ResourceDefinitions.meta.cosi.dev", func(_ string, r *cosi.Resource) {
		spec := strings.Replace(r.GetSpec().GetYamlSpec(), "name: Hostname", `name: "H\e[2J"`, 1)
		spec = strings.Replace(spec, "{.operatingSystem}", "{.operatingSystem[", 1)
		r.Spec.YamlSpec = strings.Replace(spec, "{.addresses}", "{range .addresses}", 1)
	})

	got := clitest.Run(t, []string{"TALOSCONFIG=" + node.Talosconfig}, "get", "members", "-n", "10.5.0.2")

	header, _, _ := strings.Cut(got.Stdout, "\n")
	if got.Code != 0 || strings.Contains(got.Stdout, "\x1b") || !strings.Contains(header, "H\uFFFD[2J   MACHINE TYPE") || strings.Contains(header, "OS") {
		t.Errorf("exit code %d, %q, %s", got.Code, got.Stdout, got.Stderr)
	}

	if rows := strings.Count(got.Stdout, "controlplane"); rows != 3 {
		t.Errorf("%d control planes:\n%s", rows, got.Stdout)
	}
}
