package upgrade

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/ops/snapshot"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// registryTimeout is short: the node's own pull decides, ours only warns early.
const registryTimeout = 5 * time.Second

// addRequestFlags puts the flags on a command that say what is wanted of the cluster.
func addRequestFlags(fs *cmdutil.Flags, r *rollout.Request) {
	fs.StringVar(&r.To, "to", "", "Talos `version`; each node keeps its own schematic, platform and registry")
	fs.StringVar(&r.Image, "image", "", "one installer image for all nodes, in place of --to")
	fs.StringSliceVar(&r.Via, "via", nil, "`version` to upgrade through where the path needs it (default: the latest patch of each minor)")
	fs.StringVar(&r.MaxParallel, "max-parallel", "1", "how many workers at once: a number or a percentage; control planes are upgraded one at a time")
	fs.StringVar(&r.Canary, "canary", "", "the `node` that is upgraded first")
	drainFlag(fs, &r.SkipDrain)
	fs.BoolVar(&r.InstallOnly, "install-only", false, "install now and do not reboot (Talos 1.13 and newer)")
	fs.BoolVar(&r.RebootOnly, "reboot-only", false, "only reboot what --install-only installed")
	fs.Bool("check-images", true, "ask the registries whether the images exist")
	fs.Complete("canary", cmdutil.CompleteNodes)
	fs.Complete("to", cmdutil.CompleteTalosVersions)
	fs.Complete("via", cmdutil.CompleteTalosVersions)
}

// Fleet makes the cluster as the operations see it.
func Fleet(c *cmdutil.Call, command string) (*rollout.Cluster, kube.Holder, error) {
	holder := kube.ThisHolder(command)

	cluster, err := c.Cluster()
	if err != nil {
		return nil, holder, err
	}

	connect := c.Kubernetes

	f, err := rollout.New(c.Context(), cluster, cluster.Context.Name, c.ConnectKubernetes)
	if err != nil {
		return nil, holder, err
	}

	node, local := f.Node, notes(c)
	f.Node = func(t talos.Target) *probe.Node {
		n := node(t)
		n.Notes, n.Locks = local, local

		return n
	}

	f.Lock, f.Holder = locker(c, connect, holder), holder
	f.Health = healthOf(cluster, f.Members, connect)
	f.Snapshot = snapshotOf(c, cluster, f)
	f.BootAudit = func(ctx context.Context, t talos.Target) (talos.BootAudit, error) {
		ctx, cancel := context.WithTimeout(ctx, cluster.Options.Timeout)
		defer cancel()

		return cluster.Node(t).BootAudit(ctx)
	}
	f.Releases = releases

	if f.Image, err = digests(c); err != nil {
		return nil, holder, err
	}

	if f.Image != nil {
		f.Extensions = extensionsOf
	}

	f.Impact = impactOf(c, cluster, f.Image != nil)

	return f, holder, nil
}

// digests asks registries for images' digests; nil where --check-images says no.
func digests(c *cmdutil.Call) (upgrade.Digest, error) {
	if check, err := c.Cmd.Flags().GetBool("check-images"); err != nil || !check {
		return nil, nil //nolint:nilnil,nilerr // a command without the flag asks no registry
	}

	client, err := registry.New(registry.Options{Env: c.IO.Env, Timeout: registryTimeout})
	if err != nil {
		return nil, err
	}

	return func(ctx context.Context, ref string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, registryTimeout)
		defer cancel()

		image, err := client.Resolve(ctx, ref)

		return image.Digest, err
	}, nil
}

// extensionsOf asks the factory whose registry the image is in.
func extensionsOf(ctx context.Context, image registry.Installer) ([]string, error) {
	client, err := factory.New(image.FactoryURL(), registryTimeout)
	if err != nil {
		return nil, err
	}

	s, err := client.Schematic(ctx, image.Schematic)

	return s.Extensions, err
}

// releases asks the public Image Factory, which builds them all.
func releases(ctx context.Context) ([]string, error) {
	client, err := factory.New(factory.DefaultURL, registryTimeout)
	if err != nil {
		return nil, err
	}

	versions, err := client.Versions(ctx)
	stable := lists.Filter(versions, func(v factory.Version) bool { return !v.Prerelease })

	return lists.Map(stable, func(v factory.Version) string { return v.Version }), err
}

// healthOf asks the health checks about the members that are not in flight. What an upgrade itself brings
// about for a while (different versions, a cordon, workloads on the move) is not asked.
func healthOf(cluster *talos.Cluster, members []talos.Member, connect func(context.Context) (*kube.Client, error)) func(context.Context, []talos.Target) ([]string, error) {
	return func(ctx context.Context, skip []talos.Target) ([]string, error) {
		staying := slices.DeleteFunc(slices.Clone(members), func(m talos.Member) bool {
			return slices.ContainsFunc(skip, m.Is)
		})

		result := health.Check(ctx, health.Cluster{
			Members: func(context.Context) ([]talos.Member, error) { return staying, nil },
			Node:    func(t talos.Target) health.Node { return cluster.Node(t) },
			Etcd: func(ctx context.Context, targets []talos.Target) etcd.View {
				return etcd.Gather(ctx, etcd.Sources(cluster, targets), cluster.Options.Timeout)
			},
			Kubernetes: func(ctx context.Context) (health.Kubernetes, bool, error) {
				k, err := connect(ctx)
				if err != nil {
					return nil, false, err
				}

				return k, false, nil
			},
			Timeout: cluster.Options.Timeout, Expires: cluster.Context.NotAfter, Now: time.Now,
		}, health.Options{Scope: health.ScopeFull, Skip: []string{
			"talos-discovery", "talos-versions", "talos-certificate", "talos-time", "talos-diagnostics", "kubernetes-schedulable", "kubernetes-workloads",
		}})

		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}

		problems := []string{}

		for _, found := range result.Findings {
			if found.Status == health.Fail || found.Status == health.Unknown {
				problems = append(problems, found.ID+" on "+cmp.Or(found.Hostname, found.Node, "cluster")+": "+found.Message)
			}
		}

		return problems, nil
	}
}

// snapshotOf takes a snapshot of etcd from a healthy follower, and verifies it with the keys of that node.
func snapshotOf(c *cmdutil.Call, cluster *talos.Cluster, f *rollout.Cluster) func(context.Context, string) (etcd.Snapshot, gate.Verdict, error) {
	return func(ctx context.Context, path string) (etcd.Snapshot, gate.Verdict, error) {
		view, err := f.Etcd(ctx)
		if err != nil {
			return etcd.Snapshot{}, gate.Verdict{}, err
		}

		target, err := view.ChooseMember()
		if err != nil {
			return etcd.Snapshot{}, gate.Verdict{}, err
		}

		began := time.Now()

		snap, err := etcd.Save(ctx, cluster.Node(target), path, func(n int64) {
			c.Progress().Emit(progress.Event{Time: time.Now(), Stage: "snapshot", Message: "etcd of " + target.Name(), Current: n})
		})
		snap.Node, snap.Hostname = target.Address, target.Hostname
		if err != nil {
			return snap, gate.Verdict{}, err
		}

		report, err := proved(ctx, cluster.Node(target), path, cluster.Options.Timeout)
		snap.DurationSeconds = time.Since(began).Round(time.Millisecond).Seconds()

		return snap, report.Gate(), err
	}
}

// proved verifies a snapshot with the keys of a node; what is encrypted is not checked where they cannot be read.
func proved(ctx context.Context, n *talos.Node, path string, timeout time.Duration) (snapshot.Report, error) {
	asked, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	from := n.Name()

	keys, err := snapshot.KeysFrom(asked, n)
	if err != nil {
		from = ""
	}

	report, err := snapshot.Verify(ctx, path, keys, from)
	if errs.ExitCode(err) == errs.Negative {
		err = nil // the gate says it
	}

	return report, err
}

func journal(c *cmdutil.Call) runbook.Journal {
	dir := c.StateDir()
	if dir == "" {
		return runbook.Journal{}
	}

	return runbook.Journal{Path: filepath.Join(dir, "upgrade.jsonl")}
}
