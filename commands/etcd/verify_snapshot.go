package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/snapshot"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/target"
)

type verifyOptions struct {
	config string
	live   bool
}

func newCmdVerifySnapshot(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &verifyOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "verify-snapshot FILE", Short: "Prove that a snapshot restores, down to every Secret",
		Long: "Read a snapshot without running etcd: its hash, every page, every key, and what of Kubernetes is in it. With the\n" +
			"encryption keys of the cluster, from a control plane's configuration (--config) or from a node (-n), every\n" +
			"encrypted object is decrypted. No value and no key is shown. The exit code is 3 if the snapshot would not\n" +
			"restore. The file is not written to, and a large one needs little memory: about 40 bytes a key.\n\n" +
			"Without --config, -n or --live nothing is dialled. --live shows how far the cluster is ahead of the snapshot.",
		Example: "  talosmate etcd verify-snapshot backup.db --config controlplane.yaml\n" +
			"  talosmate etcd verify-snapshot backup.db -n cp-1 --live -o json --query .result.problems",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.EtcdReaders(), Default: target.DefaultControlPlanes, Question: true},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringVar(&o.config, "config", "", "`file` with a control plane's machine configuration, for the keys (- for stdin)")
			fs.BoolVar(&o.live, "live", false, "compare with the cluster by revision and age")
		},
		Check: func(c *cmdutil.Call) error {
			if o.config != "" && c.Selection().Explicit() {
				return errs.Usagef("--config and -n both name where the keys are: choose one")
			}

			return nil
		},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[snapshot.Report]("EtcdSnapshotVerification"), o.run)
}

func (o *verifyOptions) run(c *cmdutil.Call) error {
	keys, from, err := o.keys(c)
	if err != nil {
		return err
	}

	r, err := snapshot.Verify(c.Context(), c.Args[0], keys, from)
	if err != nil && r.Problems != nil && len(r.Problems) == 0 {
		return err // it was not read
	}

	if r.HashState == snapshot.HashNone {
		c.Warn("%s has no trailing hash: it is a copy of a database; recovering from it needs --recover-skip-hash-check", r.Path)
	}

	if n := r.Unchecked(); n > 0 && keys == nil {
		c.Warn("no keys were given, %s not decrypted: use --config or -n", output.Count(n, "encrypted object"))
	}

	if o.live && r.Contents != nil {
		if liveErr := compare(c, &r); liveErr != nil {
			return cmdutil.PrintResult(c, r, errors.Join(err, liveErr), r.SHA256, showReport)
		}
	}

	return cmdutil.PrintResult(c, r, err, r.SHA256, showReport)
}

// keys are from the file or the node that was named; nil for none.
func (o *verifyOptions) keys(c *cmdutil.Call) (keys *snapshot.Keys, from string, err error) {
	if o.config != "" {
		_, keys, err = configKeys(c, o.config)

		return keys, o.config, err
	}

	if !c.Selection().Explicit() {
		return nil, "", nil
	}

	targets, err := c.Targets()
	if err != nil {
		return nil, "", err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return nil, "", err
	}

	ctx, cancel := context.WithTimeout(c.Context(), c.Timeout())
	defer cancel()

	keys, err = snapshot.KeysFrom(ctx, cluster.Node(targets.Nodes[0]))

	return keys, targets.Nodes[0].Name(), err
}

// configKeys reads a machine configuration, and the keys in it.
func configKeys(c *cmdutil.Call, path string) (text []byte, keys *snapshot.Keys, err error) {
	if text, err = c.Input(path, "the machine configuration"); err == nil {
		keys, err = snapshot.KeysOf(text)
	}

	return text, keys, err
}

func compare(c *cmdutil.Call, r *snapshot.Report) error {
	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	v, err := etcd.LookFor(c.Context(), cluster, cluster.Options.Timeout)
	if err != nil {
		return err
	}

	revision, err := revisionOf(c, cluster.Options.Timeout)
	if errs.IsUntrusted(err) || c.Context().Err() != nil {
		return errors.Join(err, context.Cause(c.Context()))
	}

	if err != nil {
		c.Warn("the cluster's revision is unknown: %v", err)
	}

	r.Compare(v, revision, c.Printer.Now())

	return nil
}

func revisionOf(c *cmdutil.Call, timeout time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()

	k, err := c.Kubernetes(ctx)
	if err != nil {
		return 0, err
	}

	return k.Revision(ctx)
}

const shownKinds = 15

func verdictOf(r snapshot.Report) string {
	switch n := r.Unchecked(); {
	case !r.Restorable:
		return "NOT RESTORABLE"
	case n > 0:
		return "restorable as far as it was checked: " + output.Count(n, "encrypted object") + " not decrypted"
	default:
		return "restorable"
	}
}

func showProblems(w io.Writer, r snapshot.Report) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "  %s: %s\n", p.Code, output.Line(p.Message))
	}
}

func showReport(w io.Writer, r snapshot.Report) error {
	fmt.Fprintf(w, "%s: %s\n", output.Line(r.Path), verdictOf(r))
	showProblems(w, r)

	fmt.Fprintf(w, "\nSize:       %s (%d bytes)\nHash:       %s\n", output.Bytes(r.SizeBytes), r.SizeBytes, hashText(r.HashState))

	if r.Contents == nil {
		return nil
	}

	k := r.Contents

	fmt.Fprintf(w, "Revision:   %d (%d revisions kept)\nKeys:       %d, of which %d are objects of Kubernetes\nLeases:     %d (%d keys)\nMembers:    %s\n",
		r.Revision, r.Revisions, r.TotalKeys, k.Objects, k.Leases, k.Leased,
		output.Cell(output.Line(lists.Join(r.Members, ", ", func(m etcd.Seat) string { return cmp.Or(m.Name, m.ID) }))))

	if k.Newest != nil {
		fmt.Fprintf(w, "Newest:     %s (%s)\n", k.Newest.Format(time.RFC3339), output.Line(k.NewestOf))
	}

	if r.KeysFrom != "" {
		fmt.Fprintf(w, "Keys from:  %s (%s)\n", output.Line(r.KeysFrom), output.Cell(output.Line(strings.Join(r.KeyNames, ", "))))
	}

	showLive(w, r.Live)

	if len(r.Encryption) > 0 {
		fmt.Fprintln(w, "\nENCRYPTION")

		for _, e := range r.Encryption {
			fmt.Fprintf(w, "  %-10s %6d  %s (%s)%s\n", output.Line(e.Resource), e.Objects, e.Status, output.Line(strings.TrimSuffix(e.Provider+" "+e.Key, " ")), examples(e.Examples))
		}
	}

	if len(k.Kinds) > 0 {
		fmt.Fprintf(w, "\nOBJECTS (%s, %s)\n", output.Count(len(k.Kinds), "kind"), output.Count(len(k.Namespaces), "namespace"))
	}

	for i, kind := range k.Kinds {
		if i == shownKinds {
			fmt.Fprintf(w, "  and %s more: -o json has them all\n", output.Count(len(k.Kinds)-shownKinds, "kind"))

			break
		}

		fmt.Fprintf(w, "  %6d  %9s  %s\n", kind.Objects, output.Bytes(kind.SizeBytes), output.Line(cmp.Or(kind.Kind, kind.Resource)))
	}

	return nil
}

func showLive(w io.Writer, l *snapshot.Live) {
	if l == nil {
		return
	}

	parts := []string{}

	switch l.SameCluster {
	case "no":
		parts = append(parts, "no member of the snapshot is a member now: it is from another cluster, or the cluster was recovered since")
	case "unknown":
		parts = append(parts, "no member of etcd answers")
	}

	if l.BehindEntries > 0 {
		parts = append(parts, fmt.Sprintf("%d entries of raft behind", l.BehindEntries))
	}

	switch {
	case l.Revision == 0:
		parts = append(parts, "the revision is unknown, because Kubernetes does not answer")
	case l.BehindRevisions < 0:
		parts = append(parts, fmt.Sprintf("the cluster has only revision %d", l.Revision))
	default:
		parts = append(parts, fmt.Sprintf("%d revisions behind", l.BehindRevisions))
	}

	if l.AgeSeconds > 0 {
		parts = append(parts, "newest object "+output.Seconds(l.AgeSeconds)+" old")
	}

	fmt.Fprintf(w, "Live:       %s\n", strings.Join(parts, ", "))
}

func hashText(state string) string {
	switch state {
	case snapshot.HashNone:
		return "none in the file, nothing to verify"
	case snapshot.HashUnknown:
		return "unknown"
	default:
		return state
	}
}

func examples(names []string) string {
	if len(names) == 0 {
		return ""
	}

	return ": " + output.Line(strings.Join(names, ", "))
}
