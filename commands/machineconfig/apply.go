package machineconfig

import (
	"context"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/talos"
)

func changed() cmdutil.Document {
	return cmdutil.ListOf[machineconfig.Applied]("MachineConfigChangeList")
}

func newCmdApply(f *cmdutil.Factory) *cmdutil.Cmd {
	var (
		o    changeOptions
		file string
	)

	return cmdutil.New(f, cmdutil.Command{
		Use: "apply", Short: "Give nodes a machine configuration",
		Long: "Give nodes a whole machine configuration.\n\n" + modesLong + "\n\n" +
			"A file without the v1alpha1 document would remove everything else from a configured node and is refused\n" +
			"(TM152); `machineconfig patch` changes a part. --insecure configures a node in maintenance mode\n" +
			"and waits until it runs with the configuration; with a talosconfig of the same cluster also until it is healthy.\n" +
			"`node add` does more: it checks the configuration against the cluster first.",
		Example: "  talosmate machineconfig apply -f worker.yaml -n worker-1 --dry-run\n" +
			"  talosmate machineconfig apply -f controlplane.yaml -n 10.0.0.11 --insecure --cert-fingerprint 5d:…",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), Insecure: true},
		Flags: func(fs *cmdutil.Flags) {
			o.flags(fs)
			fs.StringVarP(&file, "file", "f", "", "the configuration `file`, - for stdin")
		},
	}, changed(), func(c *cmdutil.Call) error {
		if file == "" {
			return errs.Usagef("--file is missing").WithHint("%s", c.Again("-f", "FILE"))
		}

		text, err := c.Input(file, "the machine configuration")
		if err != nil {
			return err
		}

		if _, err = machineconfig.Parse(text); err != nil {
			return err
		}

		return o.change(c, func(context.Context, *talos.Node) ([]byte, error) { return text, nil })
	})
}
