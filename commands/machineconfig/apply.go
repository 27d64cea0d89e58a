package machineconfig

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func changeSpec() cmdutil.Spec {
	return cmdutil.Spec{
		Kind: cmdutil.Change, Roles: cmdutil.Admins(), Schema: "MachineConfigChangeList", Document: output.List[machineconfig.Applied]{},
	}
}

func newCmdApply(f *cmdutil.Factory) *cobra.Command {
	var (
		o    changeOptions
		file string
	)

	spec := changeSpec()
	spec.Insecure = true

	cmd := &cobra.Command{
		Use: "apply", Short: "Give nodes a machine configuration",
		Long: "Give nodes a whole machine configuration.\n\n" + modesLong + "\n\n" +
			"A file without the v1alpha1 document would take everything else away from a configured node and is refused\n" +
			"(TM152); `machineconfig patch` changes a part. --insecure configures a node in maintenance mode\n" +
			"and waits until it runs with the configuration; with a talosconfig of the same cluster also until it is well.\n" +
			"`node add` does more: it holds the configuration against the cluster first.",
		Example: "  talosmate machineconfig apply -f worker.yaml -n worker-1 --dry-run\n" +
			"  talosmate machineconfig apply -f controlplane.yaml -n 10.0.0.11 --insecure --cert-fingerprint 5d:…",
		Args: cmdutil.ExactArgs(), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: f.RunE(spec, func(c *cmdutil.Call) error {
			if file == "" {
				return errs.Usagef("--file is missing").WithHint("name the configuration with -f, - for stdin")
			}

			if err := o.check(); err != nil {
				return err
			}

			text, err := readInput(c, file, "machine configuration")
			if err != nil {
				return err
			}

			if _, err = machineconfig.Parse(text); err != nil {
				return err
			}

			return o.change(c, func(context.Context, *talos.Node) ([]byte, error) { return text, nil })
		}),
	}

	f.Declare(cmd, spec)
	o.flags(cmd.Flags())
	cmd.Flags().StringVarP(&file, "file", "f", "", "the configuration `file`, - for stdin")
	cmdutil.CompleteChoices(cmd)

	return cmd
}
