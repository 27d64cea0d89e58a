package talos

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"time"

	"github.com/talosmate/talosmate/internal/foreign"
)

// ConfigFacts is what an upgrade needs from a machine configuration.
type ConfigFacts struct {
	// InstallImage is machine.install.image, or installer.image of the UnattendedInstallConfig document that replaces
	// it in Talos 1.14; empty when the configuration names none. The node was installed with it first, perhaps long
	// ago, so only its registry is still meaningful.
	InstallImage string
	// DroppedKernelArgs are the kernel arguments that LifecycleService does not pass on to an installer: those of
	// machine.install.extraKernelArgs unless machine.install.grubUseUKICmdline is set.
	DroppedKernelArgs []string
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

	return facts, n.fail("read the machine configuration", err)
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
	Installer struct {
		Image string `yaml:"image"`
	} `yaml:"installer"`
	IssuingCA struct {
		Cert string `yaml:"cert"` // PEM.
	} `yaml:"issuingCA"`
	Machine struct {
		CA      pki `yaml:"ca"`
		Install struct {
			Image             string   `yaml:"image"`
			ExtraKernelArgs   []string `yaml:"extraKernelArgs"`
			GrubUseUKICmdline bool     `yaml:"grubUseUKICmdline"`
		} `yaml:"install"`
	} `yaml:"machine"`
	Cluster struct {
		CA           pki `yaml:"ca"`
		AggregatorCA pki `yaml:"aggregatorCA"`
		Etcd         struct {
			CA pki `yaml:"ca"`
		} `yaml:"etcd"`
	} `yaml:"cluster"`
}

func configFacts(text string) (ConfigFacts, error) {
	var out ConfigFacts

	documents, err := foreign.Documents([]byte(text))
	if err != nil {
		return out, err
	}

	for _, one := range documents {
		var doc documentFacts
		if err = foreign.Decode(one, &doc); err != nil {
			return out, err
		}

		install := doc.Machine.Install

		if install.Image != "" {
			out.InstallImage = install.Image
		} else if doc.Kind == "UnattendedInstallConfig" {
			out.InstallImage = doc.Installer.Image
		}

		if !install.GrubUseUKICmdline {
			out.DroppedKernelArgs = append(out.DroppedKernelArgs, install.ExtraKernelArgs...)
		}

		for _, ca := range []struct {
			name string
			pem  []byte
		}{
			{"machine.ca", doc.Machine.CA.pem()},
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
