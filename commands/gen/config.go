package gen

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/generate"
	"github.com/talosmate/talosmate/internal/ops/validate"
)

// Config is a set of configurations that was made.
type Config struct {
	Cluster           string `json:"cluster"`            // The cluster's name.
	Endpoint          string `json:"endpoint"`           // The Kubernetes API's URL.
	TalosVersion      string `json:"talos_version"`      // The version contract, empty for the newest that is known.
	KubernetesVersion string `json:"kubernetes_version"` // The Kubernetes version.
	Files             []File `json:"files"`              // What was written.
}

type configOptions struct {
	generate.Input

	dir       string
	types     []string
	overwrite bool
}

func newCmdConfig(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &configOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "config NAME ENDPOINT", Short: "Make the machine configurations of a cluster",
		Long: "Make controlplane.yaml, worker.yaml and a talosconfig for the cluster NAME, whose Kubernetes API is at the URL\n" +
			"ENDPOINT, with Talos's own generator. Files are readable by their owner only and never replaced unasked. Patches\n" +
			"can make configurations that Talos rejects: those are written, and exit code 3 says so.",
		Example: "  talosmate gen config prod https://10.0.0.1:6443 --with-secrets secrets.yaml --output-dir prod\n" +
			"  talosmate gen config prod https://10.0.0.1:6443 --talos-version v1.12 --config-patch @cni.yaml --output-types worker --output-dir -",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&o.Secrets, "with-secrets", "", "a secrets `file` of `gen secrets` (default: new secrets)")
			fs.StringVar(&o.TalosVersion, "talos-version", "", "the Talos version to make them for (default: the newest that is known)")
			fs.Complete("talos-version", cmdutil.CompleteTalosVersions)
			fs.StringVar(&o.KubernetesVersion, "kubernetes-version", generate.DefaultKubernetesVersion(), "the Kubernetes version to run")
			fs.StringVar(&o.InstallDisk, "install-disk", "/dev/sda", "the disk to install to")
			fs.StringVar(&o.InstallImage, "install-image", "", "the installer `image` (default: the release's own)")
			fs.StringSliceVar(&o.SANs, "additional-sans", nil, "further names in the API servers' certificates")
			fs.StringVar(&o.DNSDomain, "dns-domain", "cluster.local", "the cluster's DNS domain")
			fs.StringSliceVar(&o.RegistryMirrors, "registry-mirror", nil, "registry mirrors, HOST=URL")
			fs.BoolVar(&o.Discovery, "with-cluster-discovery", true, "enable cluster discovery")
			fs.BoolVar(&o.KubeSpan, "with-kubespan", false, "enable KubeSpan")
			fs.BoolVar(&o.Docs, "with-docs", true, "explain each field in comments")
			fs.BoolVar(&o.Examples, "with-examples", true, "show examples in comments")
			fs.StringArrayVar(&o.Patches, "config-patch", nil, "a patch of all configurations, @FILE reads one (repeatable)")
			fs.StringArrayVar(&o.ControlPlanePatches, "config-patch-control-plane", nil, "a patch of the control planes' configuration (repeatable)")
			fs.StringArrayVar(&o.WorkerPatches, "config-patch-worker", nil, "a patch of the workers' configuration (repeatable)")
			fs.StringVar(&o.dir, "output-dir", ".", "the `directory` to write to, - writes one type to stdout")
			fs.StringSliceVar(&o.types, "output-types", generate.Types(), "what to make: controlplane, worker, talosconfig")
			fs.BoolVar(&o.overwrite, "overwrite", false, "replace files that are there")
			fs.Words("output-types", generate.Types()...)
		},
	}, cmdutil.ResultOf[Config]("GenConfig"), o.run)
}

func (o *configOptions) run(c *cmdutil.Call) error {
	o.Cluster, o.Endpoint = c.Args[0], c.Args[1]

	result := Config{
		Cluster: o.Cluster, Endpoint: o.Endpoint, TalosVersion: o.TalosVersion, KubernetesVersion: o.KubernetesVersion, Files: []File{},
	}

	if o.dir == "-" {
		c.RawOutput()

		if len(o.types) != 1 {
			return errs.Usagef("stdout takes one type").WithHint("%s", c.Again("--output-types", "controlplane"))
		}
	}

	paths := map[string]string{
		generate.ControlPlane: "controlplane.yaml", generate.Worker: "worker.yaml", generate.Talosconfig: "talosconfig",
	}

	for _, t := range o.types {
		if !slices.Contains(generate.Types(), t) {
			return errs.Usagef("unknown output type %q", t).WithHint("types: %s", strings.Join(generate.Types(), ", "))
		}

		paths[t] = filepath.Join(o.dir, paths[t])

		if err := vacant(o.overwrite || o.dir == "-", paths[t]); err != nil {
			return err
		}
	}

	files, err := generate.Files(o.Input, o.types)
	if err != nil {
		return err
	}

	var invalid error

	for _, t := range o.types {
		if invalid == nil && t != generate.Talosconfig {
			invalid = verdict(paths[t], files[t])
		}

		if o.dir == "-" {
			_, err = c.IO.Out.Write(files[t])

			return errors.Join(err, invalid)
		}

		if err = fsutil.WriteBytes(paths[t], 0o600, files[t]); err != nil {
			return err
		}

		result.Files = append(result.Files, File{Type: t, Path: paths[t], SizeBytes: len(files[t])})
	}

	return cmdutil.PrintResult(c, result, invalid, o.Cluster, func(w io.Writer, r Config) error {
		for _, file := range r.Files {
			if _, err := fmt.Fprintln(w, file.Path); err != nil {
				return err
			}
		}

		return nil
	})
}

// verdict is Talos's verdict about a configuration that was made, as far as it does not depend on the machine.
func verdict(path string, text []byte) error {
	result := validate.Config(text, "cloud", false)
	if result.Valid {
		return nil
	}

	return errs.New(errs.Negative, "%s is not valid: %s", path, lists.Join(result.Errors, "; ", validate.Problem.String)).
		WithHint("correct the patches; `talosmate validate` checks a file")
}
