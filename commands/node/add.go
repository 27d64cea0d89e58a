package node

import (
	"fmt"
	"io"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/join"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

// joinOptions are what add and replace have in common.
type joinOptions struct {
	join.Options

	file, fingerprint string
}

func (o *joinOptions) flags(fs *cmdutil.Flags) {
	fs.StringVarP(&o.file, "file", "f", "", "the machine configuration `file`, - for stdin")
	fs.StringVar(&o.fingerprint, "cert-fingerprint", "", "SHA-256 fingerprint that the machine's certificate must have in maintenance mode")
	fs.Positive(&o.RebootTimeout, "reboot-timeout", rebootTimeout, "how long the machine may take to install and boot")
	fs.Renamed("boot-timeout", "reboot-timeout")
	fs.Positive(&o.ReadyTimeout, "ready-timeout", readyTimeout, "how long it may take to be healthy after that, each of etcd, Talos and Kubernetes")
}

// text reads the configuration, before anything is dialled.
func (o *joinOptions) text(c *cmdutil.Call) ([]byte, error) {
	if o.file == "" {
		return nil, errs.Usagef("--file is missing").WithHint("%s", c.Again("-f", "FILE"))
	}

	return c.Input(o.file, "the machine configuration")
}

func newCmdAdd(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &joinOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "add", Short: "Take a machine in maintenance mode into the cluster",
		Long: "Give a machine in maintenance mode its full configuration, and wait until it has joined: it answers with the\n" +
			"cluster's certificate, runs with nothing unmet, its etcd member votes (control plane), and Kubernetes calls\n" +
			"its node Ready (where it is to be one).\n\n" +
			"Before anything is sent the configuration is judged by Talos's own validator and by the machine itself, and\n" +
			"checked against the cluster: another cluster's configuration is refused (TM153), and so are a fragment (TM152),\n" +
			"the name of a node that is there, and a control plane while etcd has a dead member (TM121). The machine is\n" +
			"dialled directly by the address given with -n.",
		Example: "  talosmate node add -n 10.0.0.23 -f worker.yaml\n" +
			"  talosmate node add -n 10.0.0.14 -f controlplane.yaml --cert-fingerprint 5d:… -o json --query '.result.voters[-1].voters'",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Roles: cmdutil.Admins(), OneNode: true},
		Flags: func(fs *cmdutil.Flags) {
			o.flags(fs)
			fs.BoolVar(&o.Wait, "wait", true, "wait until the machine has joined")
		},
	}, cmdutil.ResultOf[join.Result]("NodeAddResult"), o.add)
}

func (o *joinOptions) add(c *cmdutil.Call) error {
	text, err := o.text(c)
	if err != nil {
		return err
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	machine, err := o.machine(c, targets.Nodes[0])
	if err != nil {
		return err
	}

	o.DryRun, o.Overrides, o.BeforeChange = c.DryRun, c.Overrides, c.BeginChange

	res, err := join.Add(c.Context(), machine, text, o.Options)

	if errs.ExitCode(err) == errs.Usage {
		return err
	}

	return cmdutil.PrintResult(c, res, err, res.NodeName(), showAdded)
}

func (o *joinOptions) machine(c *cmdutil.Call, t talos.Target) (join.Candidate, error) {
	cluster, err := c.Cluster()
	if err != nil {
		return join.Candidate{}, err
	}

	return join.New(c.Context(), cluster, t, o.fingerprint, c.ConnectKubernetes, c.Progress())
}

func showAdded(w io.Writer, r join.Result) error {
	_, err := fmt.Fprintf(w, "Node:        %s\nStatus:      %s\nType:        %s\nTalos:       %s\nEtcd:        %s\nKubernetes:  %s\nTook:        %s\n",
		output.Line(r.NodeName()), r.Status, r.MachineType, output.Cell(r.RunningTag), describeVoters(r.Voters), output.Cell(r.K8sNodeName), output.Seconds(r.ElapsedSeconds))

	return err
}

// describeVoters shows the way of etcd's membership: 3 voters -> 2 -> 3.
func describeVoters(all []join.Voters) string {
	steps := []string{}
	last := join.Voters{}

	for _, v := range all {
		if len(steps) == 0 || v.Voters != last.Voters || v.Healthy != last.Healthy {
			steps = append(steps, fmt.Sprintf("%d of %d voters healthy", v.Healthy, v.Voters))
		}

		last = v
	}

	if len(steps) == 0 {
		return "-"
	}

	return strings.Join(steps, " -> ")
}
