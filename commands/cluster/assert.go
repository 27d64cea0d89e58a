package cluster

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/fleet"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// AssertResult is what became of all assertions.
type AssertResult struct {
	Holds      bool              `json:"holds"`      // Whether every assertion holds.
	Assertions []fleet.Assertion `json:"assertions"` // Each in the order given; never null.
}

// NewCmdAssert makes `talosmate assert`.
func NewCmdAssert(f *cmdutil.Factory) *cmdutil.Cmd {
	f.Publish("Fleet", fleet.File{})

	return cmdutil.New(f, cmdutil.Command{
		Use: "assert CEL…", Short: "Assert what must be true of the cluster",
		Long: "Assert that each expression is true of the cluster; exit code 3 with the nodes that broke it when one is\n" +
			"not. The expressions are CEL (https://cel.dev) over context, nodes, etcd, health and kubernetes: the\n" +
			"fields of what `talosmate state save` writes, whose schema is `talosmate schema Fleet`. In addition to CEL's own\n" +
			"nodes.all(n, …) there are all(nodes, n, …), exists(nodes, n, …) and exists_one(nodes, n, …).\n\n" +
			"Only what the expressions speak of is asked. A node that does not answer makes the answer no.",
		Example: "  talosmate assert 'all(nodes, n, n.version == \"v1.14.1\")' 'etcd.healthy && size(etcd.members) == 3'\n" +
			"  talosmate assert --workers 'all(nodes, n, n.ready && exists(n.extensions, e, e.name == \"iscsi-tools\"))'\n" +
			"  talosmate assert 'all(nodes, n, !n.image_drift)' -o json --query '.result.assertions[].broken_by[].hostname'",
		ArgsHint: "talosmate assert health.healthy",
		Spec:     cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Readers(), Question: true, Default: target.DefaultCluster},
	}, cmdutil.ResultOf[AssertResult]("AssertResult"), func(c *cmdutil.Call) error { return runAssert(c, f.Now) })
}

func runAssert(c *cmdutil.Call, now func() time.Time) error {
	expressions, err := fleet.Compile(c.Args)
	if err != nil {
		return err
	}

	seen, err := gatherFleet(c, now, c.Args...)
	if len(seen.Nodes) == 0 {
		return err
	}

	err = asQuestion(err)
	res := AssertResult{Holds: true, Assertions: []fleet.Assertion{}}

	for _, e := range expressions {
		a := e.Assert(seen)
		res.Assertions = append(res.Assertions, a)

		if a.Holds {
			continue
		}

		res.Holds = false
		err = errors.Join(err, assertionError(a))
	}

	word := "holds"
	if !res.Holds {
		word = "broken"
	}

	return cmdutil.PrintResult(c, res, err, word, showAssert)
}

func assertionError(a fleet.Assertion) error {
	e := errs.New(errs.Negative, "not true: %s", a.Expression).WithKind(errs.KindNegative)

	switch {
	case a.Error != "":
		return errs.New(errs.Negative, "%s", a.Error).WithKind(errs.KindNegative)
	case len(a.BrokenBy) > 0:
		e.Err = fmt.Errorf("not true of %s: %s", names(a.BrokenBy), a.Expression)
	}

	return e
}

func names(refs []talos.NodeRef) string { return lists.Join(refs, ", ", talos.NodeRef.NodeName) }

func showAssert(w io.Writer, r AssertResult) error {
	return output.WriteTable(w, []output.Column[fleet.Assertion]{
		{Header: "HOLDS", Value: func(a fleet.Assertion) string { return fmt.Sprint(a.Holds) }},
		{Header: "ASSERTION", Value: func(a fleet.Assertion) string { return a.Expression }},
		{Header: "BROKEN BY", Value: func(a fleet.Assertion) string {
			if a.Error != "" {
				return a.Error
			}

			return names(a.BrokenBy)
		}},
	}, r.Assertions)
}
