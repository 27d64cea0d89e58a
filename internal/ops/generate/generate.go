// Package generate makes cluster secrets and machine configurations with Talos's own generator.
package generate

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/bundle"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/gendata"
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/talos/release"
)

// The files of a cluster.
const (
	ControlPlane = "controlplane"
	Worker       = "worker"
	Talosconfig  = "talosconfig"
)

// Types lists the files in the order in which they are made.
func Types() []string { return []string{ControlPlane, Worker, Talosconfig} }

// Input is the input for a cluster's configuration.
type Input struct {
	Cluster           string
	Endpoint          string // The Kubernetes API's URL.
	Secrets           string // A secrets file, empty for new secrets.
	TalosVersion      string // The version contract, empty for the newest that is known.
	KubernetesVersion string
	InstallDisk       string
	InstallImage      string // Empty for the release's default.
	SANs              []string
	DNSDomain         string
	Discovery         bool
	KubeSpan          bool
	RegistryMirrors   []string // HOST=URL.
	Docs, Examples    bool     // Comments in the files.

	Patches, ControlPlanePatches, WorkerPatches []string // Patches, or @FILE.
}

// DefaultKubernetesVersion is the default version of the known Talos release.
func DefaultKubernetesVersion() string { return constants.DefaultKubernetesVersion }

// Secrets makes a secrets file.
func Secrets(talosVersion string, now time.Time) ([]byte, error) {
	contract, err := contractOf(talosVersion)
	if err != nil {
		return nil, err
	}

	made, err := secrets.NewBundle(secrets.NewFixedClock(now), contract)
	if err != nil {
		return nil, fmt.Errorf("cannot make secrets: %w", err)
	}

	return yaml.Marshal(made)
}

// contractOf reads a version contract; the newest is nil.
func contractOf(version string) (*config.VersionContract, error) {
	if version == "" {
		return config.TalosVersionCurrent, nil
	}

	contract, err := config.ParseContractFromVersion(version)
	if err != nil {
		return nil, errs.Usagef("bad --talos-version %q: want v1.14 or v1.14.1", version)
	}

	return contract, nil
}

// Files makes the configurations of a cluster, by type.
func Files(in Input, types []string) (map[string][]byte, error) {
	contract, err := contractOf(in.TalosVersion)
	if err != nil {
		return nil, err
	}

	if err = checkEndpoint(in.Endpoint); err != nil {
		return nil, err
	}

	options, err := in.options(contract)
	if err != nil {
		return nil, err
	}

	made, err := bundle.NewBundle(options...)
	if err != nil {
		return nil, errs.Usagef("cannot make the configurations: %s", redact.Message(err.Error()))
	}

	comments := encoder.CommentsDisabled
	if in.Docs {
		comments |= encoder.CommentsDocs
	}

	if in.Examples {
		comments |= encoder.CommentsExamples
	}

	out := map[string][]byte{}

	for _, t := range types {
		switch t {
		case ControlPlane:
			out[t], err = made.Serialize(comments, machine.TypeControlPlane)
		case Worker:
			out[t], err = made.Serialize(comments, machine.TypeWorker)
		case Talosconfig:
			out[t], err = yaml.Marshal(made.TalosConfig())
		default:
			err = errs.Usagef("unknown output type %q", t).WithHint("types: %s", strings.Join(Types(), ", "))
		}

		if err != nil {
			return nil, err
		}
	}

	return out, nil
}

func (in Input) options(contract *config.VersionContract) ([]bundle.Option, error) {
	gen := []generate.Option{generate.WithVersionContract(contract)}

	for _, m := range in.RegistryMirrors {
		host, mirror, ok := strings.Cut(m, "=")
		if !ok {
			return nil, errs.Usagef("bad --registry-mirror %q: want HOST=URL", m)
		}

		gen = append(gen, generate.WithRegistryMirror(host, mirror))
	}

	if in.KubeSpan {
		gen = append(gen, generate.WithKubeSpanEnabled(true))
	}

	if in.Secrets != "" {
		var loaded *secrets.Bundle

		err := checkFile(in.Secrets)
		if err == nil {
			loaded, err = secrets.LoadBundle(in.Secrets)
		}

		if err == nil {
			err = loaded.Validate(contract)
		}

		if err != nil {
			return nil, errs.Usagef("cannot use the secrets of %s: %s", in.Secrets, redact.Message(err.Error()))
		}

		gen = append(gen, generate.WithSecretsBundle(loaded))
	}

	gen = append(gen,
		generate.WithInstallDisk(in.InstallDisk), generate.WithInstallImage(in.installImage()),
		generate.WithAdditionalSubjectAltNames(in.SANs), generate.WithDNSDomain(in.DNSDomain), generate.WithClusterDiscovery(in.Discovery),
	)

	options := []bundle.Option{
		bundle.WithVerbose(false),
		bundle.WithInputOptions(&bundle.InputOptions{
			ClusterName: in.Cluster, Endpoint: in.Endpoint, KubeVersion: strings.TrimPrefix(in.KubernetesVersion, "v"), GenOptions: gen,
		}),
	}

	for _, p := range []struct {
		patches []string
		option  func([]configpatcher.Patch) bundle.Option
	}{
		{in.Patches, bundle.WithPatch}, {in.ControlPlanePatches, bundle.WithPatchControlPlane}, {in.WorkerPatches, bundle.WithPatchWorker},
	} {
		loaded, err := knownPatches(p.patches)
		if err != nil {
			return nil, err
		}

		options = append(options, p.option(loaded))
	}

	return options, nil
}

// knownPatches reads patches: text, or the name of a file.
func knownPatches(list []string) ([]configpatcher.Patch, error) {
	texts := make([][]byte, len(list))

	for i, text := range list {
		texts[i] = []byte(text)

		if file, named := machineconfig.PatchFile(text); named {
			var err error
			if texts[i], err = fsutil.ReadFile(file, fsutil.MaxText); err != nil {
				return nil, errs.Usagef("cannot read patch %d: %w", i+1, err)
			}
		}
	}

	patches, err := machineconfig.LoadPatches(texts)
	if err != nil {
		return nil, err
	}

	return patches.Known()
}

func checkFile(path string) error {
	text, err := fsutil.ReadFile(path, fsutil.MaxText)

	switch {
	case err != nil:
		return err
	case foreign.Encrypted(text):
		return errors.New("the file is encrypted with SOPS: decrypt it first")
	default:
		return foreign.Check(text)
	}
}

// installImage is the installer of the release that --talos-version names, else of the known release. From 1.14 on it
// comes from the Image Factory; the schematic is the empty one.
func (in Input) installImage() string {
	if in.InstallImage != "" {
		return in.InstallImage
	}

	tag := gendata.VersionTag
	if in.TalosVersion != "" {
		tag = release.Latest(in.TalosVersion)
	}

	if v, err := semver.ParseTolerant(tag); err == nil && (v.Major > 1 || v.Minor >= 14) {
		return "factory.talos.dev/metal-installer/376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba:" + tag
	}

	return "ghcr.io/siderolabs/installer:" + tag
}

func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err == nil && u.Scheme == "https" && u.Host != "" {
		return nil
	}

	host := strings.TrimPrefix(endpoint, "http://")
	if !strings.ContainsAny(host, "/:") {
		host += ":6443"
	}

	return errs.Usagef("the endpoint %q is not an https:// URL", endpoint).WithHint("try https://%s", host)
}
