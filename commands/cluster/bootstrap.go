package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/bootstrap"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

type bootstrapOptions struct {
	bootstrap.Options
	wait     cmdutil.WaitFlags
	snapshot string
}

// NewCmdBootstrap makes `talosmate bootstrap`.
func NewCmdBootstrap(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &bootstrapOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "bootstrap", Short: "Start a new cluster's etcd, or recover from a snapshot",
		Long: "Start etcd on exactly one control plane node; the others join automatically. It is refused while any\n" +
			"control plane has an etcd member.\n\n" +
			"--recover-from starts it with the data of a snapshot (`talosmate etcd snapshot`), which is verified before a\n" +
			"byte is sent. After a lost quorum every control plane's EPHEMERAL partition is wiped first:\n" +
			"  talosmate node reset -n NODE --graceful=false --system-labels EPHEMERAL --reboot",
		Example: "  talosmate bootstrap -n cp-1\n" +
			"  talosmate bootstrap -n cp-1 --recover-from backup.db --yes -o json --query .result.status",
		Spec: cmdutil.Spec{Kind: cmdutil.Destructive, Roles: cmdutil.Admins(), OneNode: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&o.snapshot, "recover-from", "", "recover from this snapshot `file`")
			fs.BoolVar(&o.SkipHashCheck, "recover-skip-hash-check", false, "the file is a copy of a database, without etcd's trailing hash")
			o.wait.Add(fs, "etcd is healthy", 5*time.Minute)
		},
	}, cmdutil.ResultOf[bootstrap.Result]("BootstrapResult"), o.run)
}

func (o *bootstrapOptions) run(c *cmdutil.Call) error {
	if o.SkipHashCheck && o.snapshot == "" {
		return errs.Usagef("--recover-skip-hash-check needs --recover-from")
	}

	cluster, err := c.Cluster() // the certificate is judged before a large file is read
	if err != nil {
		return err
	}

	var snap *etcd.Snapshot

	if o.snapshot != "" {
		if snap, err = bootstrap.Verify(c.Context(), o.snapshot, o.SkipHashCheck); err != nil {
			return err
		}
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	peers, err := o.look(c, cluster, targets.Nodes[0])
	if err != nil {
		return err
	}

	node := cluster.ChangingNode(targets.Nodes[0])
	o.Wait, o.Timeout, o.Overrides, o.Tell, o.Begin = o.wait.Wait, o.wait.Timeout, c.Overrides, c.Progress(), c.BeginChange

	res, err := bootstrap.Plan(targets.Nodes[0], peers, snap, o.Options)
	res.DryRun = c.DryRun

	if errs.ExitCode(err) == errs.Usage {
		return err
	}

	if err == nil && !c.DryRun {
		if err = c.ConfirmTargets(describeBootstrap(targets.Nodes[0], snap)); err != nil {
			return err
		}

		res, err = bootstrap.Run(c.Context(), node, res, func() (io.ReadCloser, error) { return os.Open(o.snapshot) }, o.Options)
	}

	return cmdutil.PrintResult(c, res, err, string(res.Status), showBootstrap)
}

// look asks every control plane that is known, and the node itself, for its etcd service.
func (o *bootstrapOptions) look(c *cmdutil.Call, cluster *talos.Cluster, node talos.Target) ([]bootstrap.Peer, error) {
	controlPlanes := []talos.Target{node}

	members, err := cluster.Members(c.Context())
	if err != nil && c.Context().Err() != nil {
		return nil, err
	}

	// Without discovery, before a cluster's first boot is over, the node itself is all that can be asked.
	for _, m := range members {
		if m.Type == target.ControlPlane && !m.Is(node) {
			controlPlanes = append(controlPlanes, m.Target())
		}
	}

	peers := make([]bootstrap.Peer, len(controlPlanes))
	for i, answer := range talos.Each(c.Context(), cluster, controlPlanes, func(ctx context.Context, n *talos.Node) (p bootstrap.Peer, err error) {
		if p.Service, err = n.Service(ctx, "etcd"); err == nil {
			p.Separate, err = n.Separate(ctx)
		}

		return p, err
	}) {
		peers[i] = answer.Value
		peers[i].Target, peers[i].Err = answer.Target, answer.Err
	}

	return peers, context.Cause(c.Context())
}

func describeBootstrap(t talos.Target, snap *etcd.Snapshot) string {
	if snap == nil {
		return fmt.Sprintf("starting a new, empty etcd on %s", t.Name())
	}

	return fmt.Sprintf("starting etcd on %s with the data of %s (revision %d, %d keys)", t.Name(), snap.Path, snap.Revision, snap.TotalKeys)
}

func showBootstrap(w io.Writer, r bootstrap.Result) error {
	recovered := "a new cluster"
	if r.Snapshot != nil {
		recovered = fmt.Sprintf("%s, revision %d, %d keys, %s sent", r.Snapshot.Path, r.Snapshot.Revision, r.Snapshot.TotalKeys, output.Bytes(r.UploadedBytes))
	}

	_, err := fmt.Fprintf(w, "Node:    %s\nStatus:  %s\nFrom:    %s\nMember:  %s\nEtcd:    %s, %s\nTook:    %s\n",
		output.Line(r.NodeName()), r.Status, output.Line(recovered), output.Cell(r.MemberID), r.ServiceState, output.Cell(r.ServiceMessage),
		output.Seconds(r.ElapsedSeconds))

	return err
}
