package cluster

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/audit"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/support"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

type supportOptions struct {
	file       string
	recipients []string
	workers    int
	tail       int
	build      cmdutil.Build
	now        func() time.Time
}

// NewCmdSupport makes `talosmate support`.
func NewCmdSupport(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &supportOptions{build: f.Build, now: f.Now}

	f.Publish("SupportManifest", output.Single[support.Manifest]{})
	f.Publish("KubernetesNodeList", output.List[kube.NodeReport]{})
	f.Publish("KubernetesPodList", output.List[kube.PodReport]{})
	f.Publish("KubernetesEventList", output.List[kube.EventReport]{})

	return cmdutil.New(f, cmdutil.Command{
		Use: "support", Short: "Collect a bundle for those who help",
		Long: "Collect what others need to understand a cluster into one zip file: the documents of the reads of every\n" +
			"node, its resources, the ends of its logs, its machine configuration, etcd, health and the objects and\n" +
			"events of Kubernetes. manifest.json lists each file with its hash, and what could not be read and why.\n\n" +
			"Secrets are hidden everywhere: those that show by their form, and those of the machine configurations\n" +
			"wherever their values stand. Addresses, names and images are not hidden. --encrypt-to encrypts the bundle\n" +
			"with age; nothing is on the disk unencrypted then.\n\n" +
			"A node that does not answer makes the exit code 4, and the bundle is written without it. What the\n" +
			"certificate may not read, or the node's release does not have, is skipped.",
		Example: "  talosmate support\n" +
			"  talosmate support -n cp-1,worker-1 -O bundle.zip --tail 5000\n" +
			"  talosmate support --encrypt-to age1… -o json --query '.result.missing[] | .path'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVarP(&o.file, "output-file", "O", "", "the `file` to write (default: support-CONTEXT-TIME.zip, with .age when it is encrypted)")
			fs.StringArrayVar(&o.recipients, "encrypt-to", nil, "encrypt to an age or SSH public key, or to those in a `file` (repeatable)")
			fs.IntVarP(&o.workers, "num-workers", "w", 16, "how many reads run at once")
			fs.IntVar(&o.tail, "tail", 2000, "how many of the last lines of each log")
			fs.NotNegative("num-workers", "tail")
			fs.Complete("output-file", cmdutil.CompleteFiles)
			fs.Complete("encrypt-to", cmdutil.CompleteFiles)
		},
	}, cmdutil.ResultOf[support.Bundle]("SupportBundle"), o.run)
}

func (o *supportOptions) run(c *cmdutil.Call) error {
	recipients, err := support.Recipients(o.recipients)
	if err != nil {
		return err
	}

	targets, err := c.Targets()
	if err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	whole, err := clusterReads(c, cluster, o)
	if err != nil {
		return err
	}

	about := support.Manifest{
		Version: o.build.Version, Commit: o.build.Commit, User: audit.User(), Arguments: c.Asked(),
		Cluster: cluster.Context.Name, Roles: append([]string{}, cluster.Context.Roles...),
	}

	nodes := lists.Map(targets.Nodes, func(t talos.Target) support.NodeReads { return o.nodeReads(c, cluster.Node(t)) })

	bundle, err := support.Save(c.Context(), o.path(c, len(recipients) > 0), about, nodes, whole, support.Options{
		Timeout: cluster.Options.Timeout, Workers: o.workers, Recipients: recipients, Now: o.now, Sink: c.Progress(),
		Manifest: func(m support.Manifest, err error) any { return output.ResultAs(*c.Printer, "SupportManifest", m, err) },
	})
	if bundle.File == "" {
		return err
	}

	return cmdutil.PrintResult(c, bundle, err, bundle.File, showBundle)
}

// path is the file that the user names, else one in the working directory with a name of its own.
func (o *supportOptions) path(c *cmdutil.Call, encrypted bool) string {
	if o.file != "" {
		return o.file
	}

	name := "support-" + support.File(c.Printer.Context) + "-" + o.now().UTC().Format("20060102T150405Z") + ".zip"
	if encrypted {
		name += ".age"
	}

	return name
}

func showBundle(w io.Writer, b support.Bundle) error {
	encrypted := "no"
	if b.Encrypted {
		encrypted = "with age: age -d -i KEYFILE -o bundle.zip " + filepath.Base(b.File)
	}

	silent := lists.Filter(b.Nodes, func(n support.Node) bool { return !n.Answered })

	lines := [][2]string{
		{"Bundle", b.File},
		{"Size", fmt.Sprintf("%s (%d bytes)", output.Bytes(b.SizeBytes), b.SizeBytes)},
		{"SHA-256", b.SHA256},
		{"Encrypted", encrypted},
		{"Files", fmt.Sprintf("%d, from %s", b.Read, output.Count(len(b.Nodes)-len(silent), "node"))},
		{"No answer", lists.Join(silent, ", ", support.Node.NodeName)},
	}

	if err := output.Facts(w, lines); err != nil {
		return err
	}

	// What silent nodes miss is said above.
	for _, e := range b.Missing {
		silentToo := slices.ContainsFunc(silent, func(n support.Node) bool { return n.Node == e.Node })
		if e.Status == support.Failed && !silentToo {
			fmt.Fprintf(w, "not read: %s: %s\n", output.Cell(e.Path), output.Cell(e.Error.Message))
		}
	}

	if b.Skipped > 0 {
		fmt.Fprintf(w, "%s skipped: what this certificate may not read, or the nodes do not have\n", output.Count(b.Skipped, "file"))
	}

	_, err := fmt.Fprintln(w, "Secrets are hidden; addresses, names and images are not. Look at it before you send it.")

	return err
}
