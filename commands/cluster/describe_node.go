package cluster

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/fleet"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdDescribeNode(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "node [NODE]", Short: "Describe one node on one page",
		Long: "Describe one node on one page: version, stage, boot, security state, unhealthy services, etcd\n" +
			"member, Kubernetes node, disks, extensions, schematic, image drift and alerts. NODE is an\n" +
			"address, a hostname or a Kubernetes node name.",
		Example: "  talosmate describe node worker-1\n" +
			"  talosmate describe node cp-1 -o json --query '.result.node.boot.id'",
		Spec:     cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers, Named: true},
		Complete: cmdutil.CompleteNodes,
	}, cmdutil.ResultOf[fleet.NodeDescription]("NodeDescription"), func(c *cmdutil.Call) error {
		if err := nameNode(c); err != nil {
			return err
		}

		seen, err := gatherFleet(c, f.Now)
		if len(seen.Nodes) != 1 {
			return err
		}

		d := describeFirst(c, seen)

		return cmdutil.PrintResult(c, d, err, d.Node.NodeName(), showNode)
	})
}

func describeFirst(c *cmdutil.Call, seen fleet.Fleet) fleet.NodeDescription {
	return fleet.DescribeNode(seen, seen.Nodes[0], memberOf(c, seen.Nodes[0]), certificate(c))
}

// WriteNode writes what `describe node` shows of a node.
func WriteNode(c *cmdutil.Call, now func() time.Time, t talos.Target, w io.Writer) error {
	seen, err := gatherNodes(c, now, []talos.Target{t})
	if len(seen.Nodes) != 1 {
		return err
	}

	return errors.Join(showNode(w, describeFirst(c, seen)), err)
}

// nameNode makes the argument the selection. -n means the same.
func nameNode(c *cmdutil.Call) error {
	sel := c.Selection()

	switch {
	case len(c.Args) == 1 && !sel.Explicit():
		return errs.AsUsage(c.Cmd.Flags().Set("nodes", c.Args[0]))
	case len(c.Args) == 0 && len(sel.Nodes) == 1:
		return nil
	default:
		return errs.Usagef("name one node").WithHint("talosmate describe node NODE")
	}
}

// memberOf is what discovery or etcd lists about a node, nil for nothing.
func memberOf(c *cmdutil.Call, n fleet.Node) *talos.Member {
	cluster, err := c.Cluster()
	if err != nil {
		return nil
	}

	members, _ := cluster.Members(c.Context()) // what is not listed is not described

	return target.ByAddress(members, n.Node)
}

// listedLine is what is known of a node that does not answer.
func listedLine(d fleet.NodeDescription) string {
	if d.Member == nil {
		return "not listed by discovery, nor by etcd"
	}

	return strings.TrimSpace(d.Member.OperatingSystem + " at " + strings.Join(d.Member.Addresses, ", ") + ", listed by " + d.Member.Source)
}

// securityOf is the security state in a line; what is switched off by default is named only where it is on.
func securityOf(s talos.SecurityState) string {
	if s.SELinux == "" {
		return ""
	}

	words := []string{"no secure boot", "no UKI", "SELinux " + s.SELinux}
	if s.SecureBoot {
		words[0] = "secure boot"
	}

	if s.BootedUKI {
		words[1] = strings.TrimSpace("UKI " + s.BootEntry)
	}

	if s.FIPS != "disabled" {
		words = append(words, "FIPS "+s.FIPS)
	}

	if s.ModuleSignatures {
		words = append(words, "signed modules only")
	}

	return strings.Join(words, ", ")
}

func showNode(w io.Writer, d fleet.NodeDescription) error {
	n := d.Node
	lines := [][2]string{
		{"Node", n.NodeName()},
		{"Address", n.Node},
		{"Type", n.Type},
		{"Version", n.Version},
		{"Platform", n.Platform + "/" + n.Arch},
		{"Stage", stageOf(n)},
		{"Boot", n.Boot.ID},
		{"Schematic", n.Schematic},
		{"Extensions", extensionsOf(n)},
		{"Security", securityOf(n.Security)},
		{"Install image", output.Short(n.InstallImage)},
		{"Kubelet", n.Kubelet},
		{"Kubernetes", strings.TrimSpace(n.Kubernetes.Name + " " + kubeWord(n.Kubernetes))},
	}

	if !n.Reachable { // what nobody looked at is not shown as empty
		lines = append(lines[:3:3], [2]string{"Stage", stageOf(n)}, [2]string{"Last known", listedLine(d)},
			[2]string{"Kubernetes", strings.TrimSpace(n.Kubernetes.Name + " " + kubeWord(n.Kubernetes))})
	}

	if n.ImageDrift {
		lines = append(lines, [2]string{"Image drift", "the install image has another version than the one that runs"})
	}

	if d.Etcd != nil {
		word := "no answer"
		if d.Etcd.Healthy {
			word = "healthy"
		}

		lines = append(lines, [2]string{"etcd", fmt.Sprintf("member %s, %s", d.Etcd.ID, word)})
	}

	for _, u := range n.Unmet {
		lines = append(lines, [2]string{"Unmet", u.Name + ": " + u.Reason})
	}

	for _, disk := range n.Disks {
		word := ""
		if disk.SystemDisk {
			word = " (system)"
		}

		lines = append(lines, [2]string{"Disk", disk.Device + " " + output.Bytes(disk.SizeBytes) + " " + disk.Model + word})
	}

	for _, s := range n.Services {
		if s.Health == talos.Unhealthy || s.State == "failed" {
			lines = append(lines, [2]string{"Service", s.ID + " is " + s.State + " and " + s.Health})
		}
	}

	for _, a := range n.Alerts {
		lines = append(lines, [2]string{"Alert", a.ID + ": " + a.Message})
	}

	if err := output.Facts(w, append(lines, [2]string{"Certificate", certificateLine(d.Certificate)})); err != nil {
		return err
	}

	return showFindings(w, d.Checks)
}
