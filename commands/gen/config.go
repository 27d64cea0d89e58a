package gen

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/ops/generate"
	"github.com/talosmate/talosmate/internal/output"
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

func newCmdConfig(f *cmdutil.Factory) *cobra.Command {
	o := &configOptions{}
	spec := cmdutil.Spec{Kind: cmdutil.Read, Offline: true, Schema: "GenConfig", Document: output.Single[Config]{}}

	cmd := &cobra.Command{
		Use: "config NAME ENDPOINT", Short: "Make the machine configurations of a cluster",
		Long: "Make controlplane.yaml, worker.yaml and a talosconfig for the cluster NAME, whose Kubernetes API is at the URL\n" +
			"ENDPOINT, with Talos's own generator. Files are readable by their owner only and never replaced unasked.",
		Example: "  talosmate gen config prod https://10.0.0.1:6443 --with-secrets secrets.yaml --output-dir prod\n" +
			"  talosmate gen config prod https://10.0.0.1:6443 --talos-version v1.12 --config-patch @cni.yaml --output-types worker --output-dir -",
		Args: cmdutil.ExactArgs("NAME", "ENDPOINT"), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: f.RunE(spec, o.run),
	}

	f.Declare(cmd, spec)

	flags := cmd.Flags()
	flags.StringVar(&o.Secrets, "with-secrets", "", "a secrets `file` of `gen secrets` (default: new secrets)")
	flags.StringVar(&o.TalosVersion, "talos-version", "", "the Talos version to make them for (default: the newest that is known)")
	flags.StringVar(&o.KubernetesVersion, "kubernetes-version", generate.DefaultKubernetesVersion(), "the Kubernetes version to run")
	flags.StringVar(&o.InstallDisk, "install-disk", "/dev/sda", "the disk to install to")
	flags.StringVar(&o.InstallImage, "install-image", "", "the installer `image` (default: the release's own)")
	flags.StringSliceVar(&o.SANs, "additional-sans", nil, "further names in the API servers' certificates")
	flags.StringVar(&o.DNSDomain, "dns-domain", "cluster.local", "the cluster's DNS domain")
	flags.StringSliceVar(&o.RegistryMirrors, "registry-mirror", nil, "registry mirrors, HOST=URL")
	flags.BoolVar(&o.Discovery, "with-cluster-discovery", true, "enable cluster discovery")
	flags.BoolVar(&o.KubeSpan, "with-kubespan", false, "enable KubeSpan")
	flags.BoolVar(&o.Docs, "with-docs", true, "explain each field in comments")
	flags.BoolVar(&o.Examples, "with-examples", true, "show examples in comments")
	flags.StringArrayVar(&o.Patches, "config-patch", nil, "a patch of all configurations, @FILE reads one (repeatable)")
	flags.StringArrayVar(&o.ControlPlanePatches, "config-patch-control-plane", nil, "a patch of the control planes' configuration (repeatable)")
	flags.StringArrayVar(&o.WorkerPatches, "config-patch-worker", nil, "a patch of the workers' configuration (repeatable)")
	flags.StringVar(&o.dir, "output-dir", ".", "the `directory` to write to, - writes one type to stdout")
	flags.StringSliceVar(&o.types, "output-types", generate.Types(), "what to make: controlplane, worker, talosconfig")
	flags.BoolVar(&o.overwrite, "overwrite", false, "replace files that are there")
	cmdutil.RegisterFlagCompletion(f, cmd, "output-types", func(context.Context, *cmdutil.Call, []string) []string { return generate.Types() })

	return cmd
}

func (o *configOptions) run(c *cmdutil.Call) error {
	o.Cluster, o.Endpoint = c.Args[0], c.Args[1]

	result := Config{
		Cluster: o.Cluster, Endpoint: o.Endpoint, TalosVersion: o.TalosVersion, KubernetesVersion: o.KubernetesVersion, Files: []File{},
	}

	if o.dir == "-" {
		c.RawOutput()

		if len(o.types) != 1 {
			return errs.Usagef("stdout takes one type").WithHint("choose it with --output-types")
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

	for _, t := range o.types {
		if o.dir == "-" {
			_, err = c.IO.Out.Write(files[t])

			return err
		}

		if err = fsutil.WriteBytes(paths[t], 0o600, files[t]); err != nil {
			return err
		}

		result.Files = append(result.Files, File{Type: t, Path: paths[t], SizeBytes: len(files[t])})
	}

	return cmdutil.PrintResult(c, result, nil, o.Cluster, func(w io.Writer, r Config) error {
		for _, file := range r.Files {
			if _, err := fmt.Fprintln(w, file.Path); err != nil {
				return err
			}
		}

		return nil
	})
}
