package machineconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/clusterlock"
	"github.com/talosmate/talosmate/internal/ops/migrate"
	"github.com/talosmate/talosmate/internal/ops/migration"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Migration is a machine configuration that was converted, of a file or of a node.
type Migration struct {
	talos.NodeRef
	migrate.Result

	Source  string             `json:"source"`            // The file, or the node's name.
	Written string             `json:"written,omitempty"` // The file that the configuration was written to.
	Patch   string             `json:"patch,omitempty"`   // The file with the patch that makes the migrated configuration of the former one.
	Apply   *migration.Applied `json:"apply,omitempty"`   // What became of it on the node; with --apply or --dry-run.
}

type migrateOptions struct {
	migrate.Options

	file, dir string
	overwrite bool

	backups       string
	ready, settle time.Duration
}

func newCmdMigrate(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &migrateOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "migrate", Short: "Convert configurations to a newer release's documents",
		Long: "Convert v1alpha1 configurations to the documents of Talos --to, of a file or of nodes. A subsystem moves as a\n" +
			"whole, with everything that v1alpha1 implied and the documents do not; what cannot move stays in v1alpha1, with\n" +
			"the reason. Nothing is sent to nodes without --apply.\n\n" +
			"Every migration is proved: all accessors with which Talos reads a configuration answer the same for both, or are\n" +
			"compared as Talos uses them. A migration that cannot be proved is an error, and nothing is written. Interfaces\n" +
			"move only if the physical links of the machine are known, from the node or from --links: Talos runs DHCP on the\n" +
			"links that v1alpha1 does not name, and on none once a document names one.\n\n" +
			"--output-dir writes the configurations, with their secrets, readable by their owner only; - is stdout. Beside each\n" +
			"is NAME.patch.yaml, of which Talos's own patcher makes the same; where it does not, a warning says so.\n\n" +
			"--apply gives the nodes their migrated configurations, without a reboot: one node after another, the control planes\n" +
			"first, each behind the quorum gates. The former configuration is written to --backup-dir before. Then what the node\n" +
			"makes of both is compared by content: static pods, kubelet, kernel parameters, encryption of etcd, network, and the\n" +
			"Kubernetes objects that the node renders (kube-proxy, CoreDNS, flannel). A control plane's API server must be ready\n" +
			"again. A node that is not as before gets its former configuration back, the run stops, and the exit code is 8. Run\n" +
			"the same command again after an interruption: what is done is `unchanged`, and what was sent is verified. --dry-run\n" +
			"with nodes checks the gates, and sends nothing.",
		Example: "  talosmate machineconfig migrate --to v1.14 -f controlplane.yaml --links eth0 --output-dir new\n" +
			"  talosmate machineconfig migrate --to v1.14 -A -o json --query '.items[] | [.source, .fields[] | select(.status == \"impossible\") | .path]'\n" +
			"  talosmate machineconfig migrate --to v1.14 -n cp-1 --apply",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVarP(&o.file, "file", "f", "", "the configuration `file`, - for stdin; without it those of the nodes")
			fs.Choice(&o.To, "to", "v1.14", "the release whose documents to write", migrate.Releases()...)
			fs.StringSliceVar(&o.Only, "only", nil, "write only documents of these kinds")
			fs.StringSliceVar(&o.Links, "links", nil, "with --file: the physical links of the machine")
			fs.StringVar(&o.dir, "output-dir", "", "the `directory` to write the configurations to, - writes one to stdout")
			fs.BoolVar(&o.overwrite, "overwrite", false, "replace files that are there")
			fs.Words("only", migrate.Kinds("v1.14")...)
			fs.Bool("apply", false, "give the nodes their migrated configurations")
			fs.Exclusive("apply", "file")
			fs.Exclusive("output-dir", "apply")
			fs.StringVar(&o.backups, "backup-dir", "", "with --apply: the `directory` for the former configurations (default: in the state directory)")
			fs.Positive(&o.ready, "ready-timeout", 5*time.Minute, "with --apply: how long a node may take to be ready and the same as before")
			fs.Positive(&o.settle, "settle-time", 10*time.Second, "with --apply: how long a node must stay the same")
		},
	}, cmdutil.ListOf[Migration]("MachineConfigMigrationList"), o.run)
}

func (o *migrateOptions) run(c *cmdutil.Call) error {
	var (
		rows []Migration
		err  error
	)

	apply, _ := c.Cmd.Flags().GetBool("apply")
	if dryRun, _ := c.Cmd.Flags().GetBool("dry-run"); apply || dryRun && o.file == "" && o.dir == "" {
		return o.apply(c)
	}

	switch {
	case o.file != "":
		rows, err = o.fromFile(c)
	case len(o.Links) > 0:
		return errs.Usagef("--links is for --file: a node knows its links")
	default:
		rows, err = cmdutil.FetchRows(c, func(ctx context.Context, n *talos.Node) ([]Migration, error) {
			result, err := migrate.Node(ctx, n, o.Options)
			if err != nil {
				return nil, err
			}

			return []Migration{{Result: result, Source: n.Name()}}, nil
		})
	}

	if err != nil && len(rows) == 0 {
		return err
	}

	if o.dir == "-" {
		if len(rows) != 1 {
			return errs.Usagef("stdout takes one configuration").WithHint("%s", c.Again("--output-dir", "DIRECTORY"))
		}

		_, writeErr := c.Bytes().Write(rows[0].Text)

		return errors.Join(err, writeErr)
	}

	if o.dir != "" {
		err = errors.Join(err, o.write(rows))
	}

	return printMigrations(c, rows, err)
}

func printMigrations(c *cmdutil.Call, rows []Migration, err error) error {
	return cmdutil.ListReading[Migration]{Rows: rows, Err: err, Name: func(m Migration) string { return m.Source }, Human: writeMigrations}.Print(c)
}

// apply migrates the nodes themselves.
func (o *migrateOptions) apply(c *cmdutil.Call) error {
	if len(o.Links) > 0 {
		return errs.Usagef("--links is for --file: a node knows its links")
	}

	if o.settle >= o.ready {
		return errs.Usagef("--settle-time must be shorter than --ready-timeout")
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	state := c.StateDir()

	switch {
	case o.backups != "":
	case state == "":
		return errs.Usagef("there is no state directory for the former configurations").WithHint("%s", c.Again("--backup-dir", "DIRECTORY"))
	default:
		o.backups = filepath.Join(state, "machineconfig")
	}

	if o.backups, err = filepath.Abs(o.backups); err != nil {
		return err
	}

	members, err := cluster.Members(c.Context())
	if err != nil {
		return err
	}

	node := probe.Nodes(c.Context(), cluster, members, c.ConnectKubernetes)
	nodes := lists.Map(targets.Nodes, func(t talos.Target) *probe.Node {
		n := node(t)
		n.Locks = runbook.Notes{Dir: state}

		return n
	})

	done, err := migration.Apply(c.Context(), nodes, migration.Options{
		Options: o.Options, Dir: o.backups, ReadyTimeout: o.ready, SettleTime: o.settle, DryRun: c.DryRun, Overrides: c.Overrides,
		BeforeChange: c.BeginChange,
		Lock:         clusterlock.ByKubernetes(c.Kubernetes, kube.ThisHolder("talosmate machineconfig migrate"), func(err error) { c.Warn("%v", err) }),
	}, journal(c, "").Sink(c.Progress()))

	rows := lists.Map(done, func(d migration.Outcome) Migration {
		m := Migration{Result: d.Result, Source: d.Target.Name(), Apply: &d.Applied}
		m.SetNode(d.Target)

		return m
	})

	if left := migration.NotBegun(done); len(left) > 0 {
		c.Warn("not begun: %s", strings.Join(left, ", "))
	}

	return printMigrations(c, rows, err)
}

// appliedLines say what became of a migration on a node.
func appliedLines(r Migration) []string {
	a := r.Apply
	lines := []string{fmt.Sprintf("%s: %s", output.Line(r.Source), a.Status)}

	if a.RestoreFile != "" {
		lines = append(lines, "  former configuration: "+output.Line(a.RestoreFile))
	}

	if e := a.Equivalence; e != nil {
		lines = append(lines, fmt.Sprintf("  compared on the node: %d values, %d differences, %d explained, %d types unknown",
			e.Values, len(e.Differences), len(e.Explained), len(e.Unknown)))

		for _, path := range e.Differences {
			lines = append(lines, "  differs on the node "+output.Line(path))
		}
	}

	return append(lines, verdictLines("  ", a.Gates)...)
}

func (o *migrateOptions) fromFile(c *cmdutil.Call) ([]Migration, error) {
	if c.Selection().Explicit() {
		return nil, errs.Usagef("--file and nodes exclude each other").WithHint("give a file, or choose nodes")
	}

	text, err := c.Input(o.file, "the machine configuration")
	if err != nil {
		return nil, err
	}

	result, err := migrate.Migrate(text, o.Options)
	if err != nil {
		return nil, err
	}

	return []Migration{{Result: result, Source: o.file}}, nil
}

func (o *migrateOptions) write(rows []Migration) error {
	for i, row := range rows {
		name := filepath.Base(row.Source)

		switch o.file {
		case "-":
			name = "machineconfig.yaml"
		case "":
			var err error
			if name, err = fsutil.Element(row.NodeName() + ".yaml"); err != nil {
				return err
			}
		}

		path := filepath.Join(o.dir, name)
		patch := strings.TrimSuffix(path, filepath.Ext(path)) + ".patch.yaml"

		for _, file := range []string{path, patch} {
			if _, err := os.Lstat(file); err == nil && !o.overwrite {
				return errs.Usagef("%s exists", file).WithHint("choose another directory, or replace it with --overwrite")
			}
		}

		if err := os.MkdirAll(o.dir, 0o700); err != nil {
			return err
		}

		if err := fsutil.WriteBytes(path, 0o600, row.Text); err != nil {
			return err
		}

		rows[i].Written = path

		if err := rows[i].writePatch(patch); err != nil {
			return err
		}
	}

	return nil
}

// writePatch writes the difference as a patch, where Talos's patcher makes exactly the migrated configuration of it.
func (m *Migration) writePatch(path string) error {
	if !m.Changed {
		return nil
	}

	patch, err := migrate.Patch(m.Before, m.Text)
	if err != nil {
		m.Warnings = append(m.Warnings, "no patch was written: "+err.Error())

		return nil
	}

	m.Patch = path

	return fsutil.WriteBytes(path, 0o600, patch)
}

func writeMigrations(w io.Writer, rows []Migration) error {
	for _, r := range rows {
		lines := []string{fmt.Sprintf("%s: to %s, proved by %d values", output.Line(r.Source), r.To, r.Proof.Accessors)}
		if !r.Changed {
			lines[0] = fmt.Sprintf("%s: nothing to migrate to %s", output.Line(r.Source), r.To)
		}

		if r.Apply != nil {
			lines = appliedLines(r)
		}

		fields, exceptions := r.Fields, r.Proof.Exceptions
		if r.Apply != nil && r.Apply.Status != runbook.Planned {
			fields, exceptions = nil, nil // what was converted is over
		}

		for _, f := range fields {
			line := f.Status + " " + f.Path
			if f.Document != "" {
				line += " -> " + strings.TrimSpace(f.Document+" "+f.To)
			}

			if f.Reason != "" {
				line += ": " + f.Reason
			}

			if f.Remedy != "" {
				line += "; " + f.Remedy
			}

			lines = append(lines, "  "+output.Line(strings.Replace(line, "  ->", " ->", 1)))
		}

		for _, e := range exceptions {
			lines = append(lines, "  differs "+output.Line(e.Path+": "+e.Reason))
		}

		for _, warning := range r.Warnings {
			lines = append(lines, "  warning: "+output.Line(warning))
		}

		if r.Written != "" {
			lines = append(lines, "  written to "+output.Line(r.Written))
		}

		if r.Patch != "" {
			lines = append(lines, "  patch "+output.Line(r.Patch))
		}

		if _, err := fmt.Fprintln(w, strings.Join(lines, "\n")); err != nil {
			return err
		}
	}

	return nil
}
