package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/lab/internal/cluster"
	"github.com/talosmate/talosmate/lab/internal/control"
)

// detachedReady is how long up --detach waits for the lab.
const detachedReady = 3 * time.Minute

type upOptions struct {
	*streams

	dir   *string
	opts  cluster.Options
	mixed string
	// partitions is the list of labels.
	partitions string
	detach     bool
}

func newUp(s *streams, dir *string) *cobra.Command {
	o := &upOptions{streams: s, dir: dir, opts: cluster.Defaults()}

	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster and print where it is, as JSON",
		Example: `  talosmate-lab up --detach
  talosmate-lab up --controlplanes 3 --workers 6 --talos-version v1.12.9 --seed 7`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return err
			}

			if o.detach {
				return o.runDetached(cmd)
			}

			return o.run(cmd.Context())
		},
	}

	f := cmd.Flags()
	f.StringVar(&o.opts.Name, "name", o.opts.Name, "name of the cluster")
	f.IntVar(&o.opts.ControlPlanes, "controlplanes", o.opts.ControlPlanes, "control plane nodes")
	f.IntVar(&o.opts.Workers, "workers", o.opts.Workers, "worker nodes")
	f.IntVar(&o.opts.Maintenance, "maintenance", 0, "additional nodes in maintenance mode, without configuration")
	f.StringVar(&o.opts.TalosVersion, "talos-version", o.opts.TalosVersion, "Talos version of the nodes")
	f.StringVar(&o.mixed, "mixed", "", "other versions for some nodes: NODE=VERSION,...")
	f.StringVar(&o.opts.Kubernetes, "kubernetes", o.opts.Kubernetes, "none, or real for a real Kubernetes control plane")
	f.BoolVar(&o.opts.RenderedAPIServer, "rendered-api-server", false, "run the real API server with what the first control plane renders from its configuration")
	f.StringVar(&o.opts.KubeBin, "kube-bin", os.Getenv("TALOSMATE_LAB_KUBE_BIN"), "directory of the Kubernetes binaries")
	f.Int64Var(&o.opts.Seed, "seed", o.opts.Seed, "seed of the random numbers")
	f.StringVar(&o.opts.Subnet, "subnet", "", "addresses to use: a /24 of 127.0.0.0/8 (a free one)")
	f.DurationVar(&o.opts.Install, "install-time", o.opts.Install, "how long an installer runs")
	f.DurationVar(&o.opts.Shutdown, "shutdown-time", o.opts.Shutdown, "how long a node takes to go down")
	f.DurationVar(&o.opts.Boot, "boot-time", o.opts.Boot, "how long a node takes to come up")
	f.DurationVar(&o.opts.Member, "member-wait-time", o.opts.Member, "how long a graceful reset waits for the node's own etcd member to be healthy before it fails (Talos: 3m)")
	f.DurationVar(&o.opts.Learner, "learner-time", o.opts.Learner, "how long a joining etcd member stays a learner (Talos: 35s to 45s)")
	f.DurationVar(&o.opts.Cordon, "cordon-time", o.opts.Cordon, "how long a node waits to be cordoned before its shutdown fails (Talos: 1m)")
	f.DurationVar(&o.opts.Teardown, "teardown-time", o.opts.Teardown, "how long a node waits for volumes that something holds (Talos: 5m)")
	f.DurationVar(&o.opts.Countdown, "countdown-time", o.opts.Countdown, "how long a node waits before it reboots because of a failed sequence (Talos: 10s)")
	f.DurationVar(&o.opts.GCAge, "image-gc-age", o.opts.GCAge, "age at which unused system images are removed")
	f.BoolVar(&o.opts.Etcd, "etcd", o.opts.Etcd, "run real etcd members")
	f.Int64Var(&o.opts.EtcdQuotaBytes, "etcd-quota", 0, "etcd's database quota in bytes (default: etcd's own)")
	f.BoolVar(&o.opts.Unbootstrapped, "unbootstrapped", false, "wait for a bootstrap request before etcd starts")
	f.StringVar(&o.opts.Schematic, "schematic", "", "Image Factory schematic of the installed nodes: an ID, names of extensions, or the word empty for the one without extensions (default: none)")
	f.StringVar(&o.opts.ConfigForm, "config-form", o.opts.ConfigForm, "form of the nodes' configurations: documents, as their Talos generates them, or v1alpha1, as clusters have it that were upgraded from 1.13")
	f.StringVar(&o.opts.Preset, "preset", "", "single, legacy, mixed, factory or load")
	f.StringVar(&o.opts.VIP, "vip", "", "virtual IP of the control planes: an address in 127.0.0.0/8, or auto for one that sorts before all nodes (none)")
	f.DurationVar(&o.opts.VIPLease, "vip-lease-time", o.opts.VIPLease, "how long the virtual IP stays with a holder that lost its power")
	f.StringVar(&o.opts.ExtraAddresses, "extra-addresses", "", "addresses of the nodes that sort before their own: a number for each node (the first is on cilium_host, which nothing can reach, the second on eth1), or NODE=ADDRESS[@LINK],...")
	f.DurationVar(&o.opts.APIDLag, "apid-lag", 0, "how long a node that is back refuses the connections of other nodes' apid, in addition to their own backoff")
	f.StringVar(&o.opts.Bootloader, "bootloader", "", "grub or systemd-boot (systemd-boot for SecureBoot images, else grub)")
	f.BoolVar(&o.opts.LVM, "lvm", false, "LVM devices and a RAID array, on nodes with Talos 1.14 or later")
	f.StringVar(&o.partitions, "partitions", "", "volumes with partitions of their own, on nodes with Talos 1.14 or later: ETCD,CRI,KUBELET,LOG")
	f.BoolVar(&o.opts.PlatformConfig, "platform-config", false, "the platform's user data has the configuration: after a wipe of STATE a node boots with its first one")
	f.StringVar(&o.opts.Discovery, "discovery", "", "off (disabled in the configuration: no members), or alone (the service is unreachable: each node lists only itself)")
	f.BoolVar(&o.opts.DHCP, "dhcp", false, "a node in maintenance mode has another address until it has its configuration")
	f.BoolVar(&o.opts.LoadBalancer, "load-balancer", false, "one more address in front of the machine API of all control planes")
	f.StringVar(&o.opts.Endpoints, "endpoints", o.opts.Endpoints, "endpoints in the talosconfig: nodes (the control planes), load-balancer or vip")
	f.BoolVar(&o.detach, "detach", false, "run in the background and return once the cluster is ready")

	return cmd
}

func (o *upOptions) complete() error {
	dir, err := filepath.Abs(*o.dir)
	if err != nil {
		return err
	}

	o.opts.Dir = dir

	if o.opts.Mixed, err = cluster.ParseMixed(o.mixed); err != nil {
		return err
	}

	if o.partitions != "" {
		o.opts.Partitions = strings.Split(o.partitions, ",")
	}

	if d, err := cluster.ReadDescription(dir); err == nil && alive(d.PIDs) {
		return fmt.Errorf("a lab is already running in %s: stop it with talosmate-lab down, or choose another --dir", dir)
	}

	return os.MkdirAll(dir, 0o755)
}

// run starts the cluster in this process and serves until it is stopped.
func (o *upOptions) run(ctx context.Context) error {
	// files of an earlier lab would be taken for those of this one
	for _, name := range []string{"etcd", cluster.DescriptionFile} {
		if err := os.RemoveAll(filepath.Join(o.opts.Dir, name)); err != nil {
			return err
		}
	}

	c, err := cluster.New(o.opts, func(n cluster.Note) {
		fmt.Fprintf(o.err, "%s %-10s %-16s %s\n", n.Time.Format("15:04:05.000"), n.Node, n.Event, n.Detail) //nolint:errcheck
	})
	if err != nil {
		return err
	}
	defer c.Stop()

	if err := c.StartKubernetes(ctx); err != nil {
		return err
	}

	if err := c.Start(ctx); err != nil {
		return err
	}

	if err := c.WriteFiles(); err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()

	ctl := control.New(c, stop)
	if err := ctl.Start(); err != nil {
		return err
	}
	defer ctl.Close()

	d := c.Describe(ctl.URL(), append([]int{os.Getpid()}, c.KubernetesPIDs()...)...)
	if err := cluster.WriteDescription(d); err != nil {
		return err
	}
	defer os.Remove(filepath.Join(d.Dir, cluster.DescriptionFile)) //nolint:errcheck

	if err := o.json(d); err != nil {
		return err
	}

	<-ctx.Done()

	return nil
}

// runDetached starts this program again in the background.
func (o *upOptions) runDetached(cmd *cobra.Command) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}

	logPath := filepath.Join(o.opts.Dir, "lab.log")

	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck

	if err := os.Remove(filepath.Join(o.opts.Dir, cluster.DescriptionFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}

	args := []string{"up", "--dir", o.opts.Dir}
	for _, f := range changedFlags(cmd) {
		args = append(args, "--"+f[0]+"="+f[1])
	}

	child := exec.Command(self, args...) //nolint:gosec // this program
	child.Stderr = log
	child.Stdout = log
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	if err := child.Start(); err != nil {
		return err
	}

	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()

	deadline := time.NewTimer(detachedReady)
	defer deadline.Stop()

	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()

	for {
		select {
		case err := <-ended:
			return fmt.Errorf("the lab exited during its start (%w): %s", orEnded(err), tail(logPath))
		case <-deadline.C:
			child.Process.Kill() //nolint:errcheck

			return fmt.Errorf("the lab was not ready after %s, see %s", detachedReady, logPath)
		case <-cmd.Context().Done():
			child.Process.Signal(syscall.SIGTERM) //nolint:errcheck

			return cmd.Context().Err()
		case <-poll.C:
			if d, err := cluster.ReadDescription(o.opts.Dir); err == nil {
				return o.json(d)
			}
		}
	}
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}

	return err
}

// tail reads the end of a log.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close() //nolint:errcheck

	if info, err := f.Stat(); err == nil && info.Size() > 2000 {
		_, _ = f.Seek(-2000, io.SeekEnd) //nolint:errcheck // then it is the whole log
	}

	raw, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}

	return string(raw)
}
