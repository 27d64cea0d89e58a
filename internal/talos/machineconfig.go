package talos

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"maps"
	"slices"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// MachineConfig reads the active machine configuration as the node holds it: YAML, one or more documents.
// Role: admin.
func (n *Node) MachineConfig(ctx context.Context) ([]byte, error) {
	return n.machineConfig(ctx, "v1alpha1")
}

// PersistedConfig reads the machine configuration of the node's next boot, which differs from the active one while
// another is staged or on trial. known is false on nodes that do not have the resource. Role: admin.
func (n *Node) PersistedConfig(ctx context.Context) (text []byte, known bool, err error) {
	text, err = n.machineConfig(ctx, "persistent")
	if conn.KindOf(err) == errs.KindNotFound {
		return nil, false, nil
	}

	return text, err == nil, err
}

func (n *Node) machineConfig(ctx context.Context, id string) ([]byte, error) {
	resp, err := n.state().Get(ctx, &cosi.GetRequest{Namespace: "config", Type: "MachineConfigs.config.talos.dev", Id: id})
	if err != nil {
		return nil, n.Fail("read the machine configuration", err)
	}

	spec := resp.GetResource().GetSpec().GetYamlSpec()

	// Talos wraps the configuration into a YAML string, since it may have several documents; older nodes do not.
	var wrapped string
	if err := foreign.YAML([]byte(spec), &wrapped); err == nil {
		return []byte(wrapped), nil
	} else if errors.Is(err, foreign.ErrTooLarge) {
		return nil, n.Fail("read the machine configuration", err)
	}

	return []byte(spec), nil
}

// ConfigFacts is what an upgrade needs from a machine configuration.
type ConfigFacts struct {
	// InstallImage is machine.install.image, or installer.image of the UnattendedInstallConfig document that replaces
	// it in Talos 1.14; empty when the configuration names none. The node was installed with it first, perhaps long
	// ago, so only its registry is still meaningful.
	InstallImage string
	// DroppedKernelArgs are the kernel arguments that LifecycleService does not pass on to an installer: those of
	// machine.install.extraKernelArgs unless machine.install.grubUseUKICmdline is set.
	DroppedKernelArgs []string
	// NoInstall is set where the configuration has a machine section, and neither machine.install nor an
	// UnattendedInstallConfig document. An installer of Talos 1.14 or newer then has GRUB boot arguments of its own in
	// place of the image's (Talos, cmd/installer/cmd/installer/install.go).
	NoInstall bool
	// Mirrors are the registries that the node pulls through a mirror, "*" for all: the keys of machine.registries.mirrors,
	// and the names of RegistryMirrorConfig documents.
	Mirrors []string
	// Authorities are the certificate authorities that issue the node's certificates.
	Authorities []Authority
}

// Authority is a certificate authority of a cluster.
type Authority struct {
	Name     string    // Its key in the machine configuration, such as cluster.etcd.ca.
	NotAfter time.Time // When it expires, and with it every certificate that it has signed.
}

// ConfigFacts reads the active machine configuration. Role: admin.
func (n *Node) ConfigFacts(ctx context.Context) (ConfigFacts, error) {
	text, err := n.MachineConfigText(ctx)
	if err != nil {
		return ConfigFacts{}, err
	}

	facts, err := configFacts(text)

	return facts, n.Fail("read the machine configuration", err)
}

// pki is a certificate with its key, PEM in base64. Only the certificate is read.
type pki struct {
	Crt string `yaml:"crt"`
}

// pem is the certificate, empty when it does not decode.
func (p pki) pem() []byte {
	raw, err := base64.StdEncoding.DecodeString(p.Crt)
	if err != nil {
		return nil
	}

	return raw
}

// documentFacts are the relevant fields of a document: of the v1alpha1 configuration, or of the documents that replace
// its fields from Talos 1.14 on.
type documentFacts struct {
	Kind      string `yaml:"kind"`
	Name      string `yaml:"name"`
	Installer struct {
		Image string `yaml:"image"`
	} `yaml:"installer"`
	IssuingCA struct {
		Cert string `yaml:"cert"` // PEM.
	} `yaml:"issuingCA"`
	Machine *struct {
		CA         pki           `yaml:"ca"`
		Install    *installFacts `yaml:"install"`
		Registries struct {
			Mirrors map[string]any `yaml:"mirrors"`
		} `yaml:"registries"`
	} `yaml:"machine"`
	Cluster struct {
		CA           pki `yaml:"ca"`
		AggregatorCA pki `yaml:"aggregatorCA"`
		Etcd         struct {
			CA pki `yaml:"ca"`
		} `yaml:"etcd"`
	} `yaml:"cluster"`
}

// unattendedInstall is the document that replaces machine.install in Talos 1.14.
const unattendedInstall = "UnattendedInstallConfig"

type installFacts struct {
	Image             string   `yaml:"image"`
	ExtraKernelArgs   []string `yaml:"extraKernelArgs"`
	GrubUseUKICmdline bool     `yaml:"grubUseUKICmdline"`
}

func configFacts(text string) (ConfigFacts, error) {
	var out ConfigFacts

	documents, err := foreign.Documents([]byte(text))
	if err != nil {
		return out, err
	}

	machine, installs := false, false

	for _, one := range documents {
		var doc documentFacts
		if err = foreign.Decode(one, &doc); err != nil {
			return out, err
		}

		var (
			install   installFacts
			machineCA []byte
		)

		if doc.Machine != nil {
			machine, machineCA = true, doc.Machine.CA.pem()
			out.Mirrors = slices.AppendSeq(out.Mirrors, maps.Keys(doc.Machine.Registries.Mirrors))

			if doc.Machine.Install != nil {
				install, installs = *doc.Machine.Install, true
			}
		}

		installs = installs || doc.Kind == unattendedInstall

		if doc.Kind == "RegistryMirrorConfig" {
			out.Mirrors = append(out.Mirrors, doc.Name)
		}

		if install.Image != "" {
			out.InstallImage = install.Image
		} else if doc.Kind == unattendedInstall {
			out.InstallImage = doc.Installer.Image
		}

		if !install.GrubUseUKICmdline {
			out.DroppedKernelArgs = append(out.DroppedKernelArgs, install.ExtraKernelArgs...)
		}

		for _, ca := range []struct {
			name string
			pem  []byte
		}{
			{"machine.ca", machineCA},
			{"cluster.ca", doc.Cluster.CA.pem()},
			{"cluster.aggregatorCA", doc.Cluster.AggregatorCA.pem()},
			{"cluster.etcd.ca", doc.Cluster.Etcd.CA.pem()},
			{doc.Kind + ".issuingCA", []byte(doc.IssuingCA.Cert)},
		} {
			if at, ok := notAfter(ca.pem); ok {
				out.Authorities = append(out.Authorities, Authority{Name: ca.name, NotAfter: at})
			}
		}
	}

	slices.Sort(out.Mirrors)

	out.NoInstall = machine && !installs

	return out, nil
}

// notAfter is when a certificate expires; ok is false when it cannot be read.
func notAfter(text []byte) (time.Time, bool) {
	block, _ := pem.Decode(text)
	if block == nil {
		return time.Time{}, false
	}

	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, false
	}

	return cert.NotAfter, true
}
