package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func newCmdStatus(f *cmdutil.Factory) *cmdutil.Cmd {
	var w cmdutil.Watch

	return cmdutil.New(f, cmdutil.Command{
		Use: "status", Short: "Show each etcd member, and whether etcd is healthy",
		Long: "Show the state of each etcd member. The exit code is 0 when etcd is healthy and 3 when it is not: a member\n" +
			"is missing, has no leader or is a learner, an alarm is active, or the member list differs between nodes.",
		Example: "  talosmate etcd status --watch\n" +
			"  talosmate etcd status -o json --query '.items[] | select(.fragmentation > 0.5) | .hostname'",
		Flags: w.Add,
		Spec:  cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.EtcdReaders(), Default: target.DefaultControlPlanes, Question: true},
	}, cmdutil.ListOf[talos.EtcdStatus]("EtcdStatusList"), func(c *cmdutil.Call) error {
		return w.Run(c, func() (cmdutil.Reading, error) { return readStatus(c) })
	})
}

func readStatus(c *cmdutil.Call) (cmdutil.Reading, error) {
	rows, unread, unhealthy, err := lookAt(c)
	if err != nil {
		return nil, err
	}

	verdict := "etcd is healthy"
	if unhealthy != nil {
		verdict = unhealthy.Error()
	}

	return cmdutil.ListReading[talos.EtcdStatus]{
		Rows: rows, Err: errors.Join(unread, unhealthy), Columns: statusColumns(), Verdict: verdict,
		Name:     func(s talos.EtcdStatus) string { return s.ID },
		Volatile: []string{"IN USE", "FREE", "INDEX", "APPLIED", "LAG"},
	}, nil
}

// Status is what `etcd status` shows. The error is why etcd is not healthy, or could not be asked.
func Status(c *cmdutil.Call) ([]talos.EtcdStatus, error) {
	rows, unread, unhealthy, err := lookAt(c)

	return rows, cmp.Or(err, unhealthy, unread)
}

// lookAt asks the chosen control planes: their members, what they did not answer, and why etcd is not healthy.
func lookAt(c *cmdutil.Call) (rows []talos.EtcdStatus, unread, unhealthy, err error) {
	v, whole, err := viewOf(c, asGiven)
	if err != nil {
		return nil, nil, nil, err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return nil, nil, nil, err
	}

	v.CatchUp(c.Context(), func(t talos.Target) etcd.Reader { return cluster.Node(t) }, cluster.Options.Timeout)

	return v.StatusRows(), v.Err(true), v.Healthy(whole), nil
}

func statusColumns() []output.Column[talos.EtcdStatus] {
	type row = talos.EtcdStatus

	// What a member did not report is not zero.
	reported := func(value func(row) string) func(row) string {
		return func(s row) string {
			if s.Error != "" {
				return ""
			}

			return value(s)
		}
	}

	return []output.Column[row]{
		{Header: "NODE", Value: row.NodeName},
		{Header: "ADDRESS", Wide: true, Value: func(s row) string { return s.Node }},
		{Header: "ID", Value: func(s row) string { return s.ID }},
		{Header: "VERSION", Drop: 1, Value: func(s row) string { return s.Version }},
		{Header: "STORAGE", Wide: true, Value: func(s row) string { return s.StorageVersion }},
		{Header: "DB SIZE", Value: reported(func(s row) string { return output.Bytes(s.DBSizeBytes) })},
		{Header: "IN USE", Value: reported(func(s row) string { return output.Bytes(s.DBInUseBytes) })},
		{Header: "FREE", Drop: 2, Value: reported(func(s row) string { return output.Percent(s.Fragmentation) })},
		{Header: "ROLE", Value: role},
		{Header: "TERM", Wide: true, Value: reported(func(s row) string { return fmt.Sprint(s.RaftTerm) })},
		{Header: "INDEX", Wide: true, Value: reported(func(s row) string { return fmt.Sprint(s.RaftIndex) })},
		{Header: "APPLIED", Wide: true, Value: reported(func(s row) string { return fmt.Sprint(s.RaftAppliedIndex) })},
		{Header: "LAG", Value: reported(func(s row) string { return fmt.Sprint(s.RaftLag) })},
		{Header: "ALARMS", Value: func(s row) string { return strings.Join(s.Alarms, ",") }},
		{Header: "ERRORS", Value: complaints},
	}
}

// complaints leaves out what the alarm column says already: every member repeats the alarms of all.
func complaints(s talos.EtcdStatus) string {
	return strings.Join(lists.Filter(s.Errors, func(e string) bool { return !strings.Contains(e, "alarm:") }), "; ")
}

func role(s talos.EtcdStatus) string {
	switch {
	case s.Error != "":
		return "no answer"
	case s.Learner:
		return "learner"
	case s.Leader:
		return "leader"
	default:
		return "follower"
	}
}
