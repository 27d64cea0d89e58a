// Package bootstrap starts a cluster's etcd, new or from a snapshot, on exactly one control plane node.
package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Node is one node; *talos.Node implements it.
type Node interface {
	Service(ctx context.Context, id string) (talos.Service, error)
	EtcdStatus(ctx context.Context) (talos.EtcdStatus, error)
	Bootstrap(ctx context.Context, fromSnapshot, skipHashCheck bool) error
	UploadSnapshot(ctx context.Context, from io.Reader, sent func(int64)) error
}

// Result is what was observed. It is valid even on error.
type Result struct {
	talos.NodeRef

	Status         runbook.Status `json:"status"`                // planned, ok, requested, refused, failed, lost, unknown or interrupted.
	DryRun         bool           `json:"dry_run"`               // Whether it was a dry run.
	Snapshot       *etcd.Snapshot `json:"snapshot"`              // The snapshot that is recovered from, verified; null for a new cluster.
	UploadedBytes  int64          `json:"uploaded_bytes"`        // How many of its bytes were sent.
	ServiceState   string         `json:"service_state"`         // The state of the node's etcd service as last seen.
	ServiceMessage string         `json:"service_message"`       // The last message of the service.
	MemberID       string         `json:"member_id,omitempty"`   // The first member's ID in hex, once it runs.
	LeaderID       string         `json:"leader_id,omitempty"`   // The ID of its leader in hex.
	Gates          []gate.Verdict `json:"gates"`                 // The verdicts of the gates; never null.
	AnswerLost     bool           `json:"answer_lost,omitempty"` // Whether the answer was lost and the state read back.
	Hint           string         `json:"hint,omitempty"`        // What to do next.
	ElapsedSeconds float64        `json:"elapsed_seconds"`       // How long it took.

	seen      time.Time // The time of the last event of the service that was seen.
	uploading bool      // The upload was started.
	requested bool
	heard     bool // The request was answered, or its effect was seen.
}

// Options are the user's settings.
type Options struct {
	SkipHashCheck bool // The snapshot is a copy of a database, without etcd's trailing hash.
	Wait          bool
	Timeout       time.Duration // Wait until etcd is healthy.
	Overrides     gate.Overrides
	Tell          progress.Sink
	Begin         func() // Called before the first request that changes something.
}

// Verify checks a snapshot before anything is sent: a file that cannot be recovered from is a usage error.
func Verify(ctx context.Context, path string, skipHashCheck bool) (*etcd.Snapshot, error) {
	snap, err := etcd.Inspect(ctx, path)
	if err != nil {
		return nil, errs.Usagef("%s", err.Error()).WithHint("nothing was sent; take another snapshot")
	}

	if !snap.HashVerified && !skipHashCheck {
		return nil, errs.Usagef("the snapshot %s has no trailing hash: it is a copy of a database", path).
			WithHint("if the file is such a copy, use --recover-skip-hash-check")
	}

	return &snap, nil
}

// Peer is a control plane with the state of its etcd service. The service is a better source than etcd itself, which
// does not answer while it has no quorum or does not run.
type Peer struct {
	Target   talos.Target
	Service  talos.Service
	Separate []string // The parts of EPHEMERAL on partitions of their own.
	Err      error
}

// Plan reports whether the node may be bootstrapped: no node has an etcd member yet. peers are all known control
// planes, including the node itself.
func Plan(t talos.Target, peers []Peer, snap *etcd.Snapshot, o Options) (Result, error) {
	res := Result{Status: runbook.Planned, Snapshot: snap, Gates: []gate.Verdict{}}
	res.SetNode(t)

	if t.Type == target.Worker {
		return res, errs.Usagef("%s is a worker: etcd starts on a control plane node", t.Name())
	}

	var running, doubtful []string

	partition := talos.Ephemeral // Which holds etcd's data.

	for _, p := range peers {
		own := p.Target.Is(t)

		if own && p.Err == nil {
			res.see(p.Service)
		}

		switch {
		case own && p.Err != nil:
			res.Status = runbook.Failed

			return res, p.Err
		case p.Err != nil:
			doubtful = append(doubtful, p.Target.Name()+" cannot be asked")
		case runs(p.Service):
			running = append(running, p.Target.Name())

			if slices.Contains(p.Separate, talos.Etcd) {
				partition = talos.Etcd
			}
		case p.Service.State == "failed" && !own:
			doubtful = append(doubtful, "etcd on "+p.Target.Name()+" failed")
		}
	}

	if len(running) > 0 {
		res.Status = runbook.Refused
		e := errs.New(errs.Refused, "cannot bootstrap %s: etcd already has a member on %s", t.Name(), strings.Join(running, ", "))
		e = e.WithKind(errs.KindAlreadyExists).OnNode(t.Address).
			WithHint("to recover a cluster that lost its quorum, wipe each control plane first: talosmate node reset --graceful=false --system-labels %s --reboot", partition)

		return res, e
	}

	verdict := gate.New(gate.EtcdUnhealthy, gate.Pass, t.Address, "no control plane runs an etcd member")
	if len(doubtful) > 0 {
		verdict = gate.New(gate.EtcdUnhealthy, gate.Warn, t.Address, "%s: a member with the old data there must not come back", strings.Join(doubtful, ", "))
	}

	res.Gates = append(res.Gates, verdict)

	return res, gate.Apply(res.Gates, o.Overrides)
}

// runs reports whether a service belongs to a member with data. A member that exits is restarted again and again, and
// is seen waiting between two attempts.
func runs(s talos.Service) bool {
	return s.State == "running" || s.State == "stopping" || (s.State == "waiting" && strings.Contains(lastMessage(s), "going to restart"))
}

func lastMessage(s talos.Service) string {
	if len(s.Events) == 0 {
		return ""
	}

	return s.Events[len(s.Events)-1].Message
}

func (r *Result) see(s talos.Service) {
	r.ServiceState = s.State

	if len(s.Events) > 0 {
		r.ServiceMessage, r.seen = lastMessage(s), s.Events[len(s.Events)-1].Time
	}
}

// Run carries out a plan: the upload, which may be repeated, then the one request that may not.
func Run(ctx context.Context, n Node, res Result, open func() (io.ReadCloser, error), o Options) (Result, error) {
	started := time.Now()
	err := run(ctx, n, &res, open, o)
	res.ElapsedSeconds = time.Since(started).Seconds()

	if ctx.Err() != nil && err != nil {
		res.Status, res.Hint = runbook.Interrupted, res.leftovers()
		err = errs.New(errs.Interrupted, "cannot bootstrap %s: %w", res.NodeName(), context.Cause(ctx)).OnNode(res.Node).WithHint("%s", res.Hint)
	}

	return res, err
}

// leftovers describes what an interruption leaves on the node.
func (r *Result) leftovers() string {
	switch {
	case r.requested && !r.heard:
		return "the bootstrap was requested and not answered: run `talosmate service info etcd` before you request it again"
	case r.requested:
		return "the bootstrap was requested and continues: run `talosmate service info etcd`"
	case r.uploading:
		return "a part of the snapshot may lie on the node, where the next upload replaces it; nothing was started"
	default:
		return "the node was left as it was"
	}
}

const (
	pollEvery = time.Second / 2
	// uploadRate is the slowest upload that is accepted, in bytes a second.
	uploadRate = 256 << 10
)

func run(ctx context.Context, n Node, res *Result, open func() (io.ReadCloser, error), o Options) error {
	tell := func(stage, message string, current, total int64) {
		o.Tell.Emit(progress.Event{Time: time.Now(), Node: res.NodeName(), Stage: stage, Message: message, Current: current, Total: total})
	}

	res.Status = runbook.Failed

	o.Begin()

	if res.Snapshot != nil {
		if err := upload(ctx, n, res, open, o, tell); err != nil {
			return err
		}
	}

	sent := runbook.Request{Limit: min(runbook.AnswerWithin, o.Timeout), Send: func(ctx context.Context) error {
		tell("bootstrap", "bootstrapping etcd", 0, 0)

		return n.Bootstrap(ctx, res.Snapshot != nil, o.SkipHashCheck)
	}}.Once(ctx)

	res.requested, res.heard = sent.Answer != runbook.NotSent, sent.Heard()

	switch {
	case sent.Answer == runbook.NotSent || sent.Answer == runbook.Rejected || ctx.Err() != nil && sent.Err != nil:
		return sent.Err
	case sent.Answer == runbook.Lost:
		res.AnswerLost = true
		tell("wait", "the answer was lost: reading the state back", 0, 0)
	case !o.Wait:
		res.Status = runbook.Requested

		return nil
	}

	return await(ctx, n, res, o, sent, tell)
}

func upload(ctx context.Context, n Node, res *Result, open func() (io.ReadCloser, error), o Options, tell func(string, string, int64, int64)) error {
	file, err := open()
	if err != nil {
		return errs.Usagef("cannot read the snapshot: %w", err)
	}
	defer file.Close() //nolint:errcheck // it is only read

	res.uploading = true

	tell("upload", "uploading the snapshot", 0, res.Snapshot.SizeBytes)

	ctx, cancel := context.WithTimeout(ctx, o.Timeout+time.Duration(res.Snapshot.SizeBytes/uploadRate)*time.Second)
	defer cancel()

	if err = n.UploadSnapshot(ctx, file, func(sent int64) {
		res.UploadedBytes = sent
		tell("upload", "uploading the snapshot", sent, res.Snapshot.SizeBytes)
	}); err != nil {
		if conn.Transient(err) && !conn.Undelivered(err) {
			// The uploaded part of the file is unused on the node: nothing was started.
			return errs.New(errs.Failed, "%w", err).WithHint("nothing was started; the next upload replaces what was sent")
		}

		return err
	}

	if res.UploadedBytes != res.Snapshot.SizeBytes {
		return errs.New(errs.Failed, "cannot upload the etcd snapshot to %s: the file changed meanwhile: %d bytes instead of %d",
			res.NodeName(), res.UploadedBytes, res.Snapshot.SizeBytes)
	}

	return nil
}

// await waits until the member runs and has a leader.
func await(ctx context.Context, n Node, res *Result, o Options, sent runbook.Sent, tell func(string, string, int64, int64)) error {
	tell("wait", fmt.Sprintf("waiting until etcd is healthy, for at most %s", o.Timeout), 0, 0)

	before, shown := res.seen, sent.Heard()
	look := func(ctx context.Context) (bool, string, error) {
		health := ""

		if service, err := n.Service(ctx, "etcd"); err == nil {
			res.see(service)
			health = service.Health
			shown = shown || service.State == "running" || res.seen.After(before)

			// A failure from before the request does not count.
			if service.State == "failed" && res.seen.After(before) {
				return false, "", errs.New(errs.Failed, "cannot bootstrap %s: etcd failed: %s", res.NodeName(), res.ServiceMessage)
			}
		}

		status, err := n.EtcdStatus(ctx)
		if err != nil {
			return false, fmt.Sprintf("etcd is %s: %s", res.ServiceState, res.ServiceMessage), nil //nolint:nilerr // not up yet
		}

		res.MemberID, res.LeaderID = status.ID, status.LeaderID

		if status.LeaderID == "" || status.LeaderID == talos.EtcdID(0).Hex() {
			return false, "the member has no leader", nil
		}

		return health == "healthy", fmt.Sprintf("etcd is %s and not healthy yet: %s", res.ServiceState, res.ServiceMessage), nil
	}

	if !shown {
		var failed error

		err := sent.ReadBack(ctx, "the bootstrap of "+res.NodeName()+" to begin", min(runbook.ShownWithin, o.Timeout),
			"whether the bootstrap was started could not be read back: run `talosmate service info etcd`", func(ctx context.Context) (bool, string, error) {
				var (
					done bool
					saw  string
				)

				done, saw, failed = look(ctx)

				return done || shown || failed != nil, saw, nil
			})

		switch {
		case failed != nil || ctx.Err() != nil:
			return errors.Join(failed, context.Cause(ctx))
		case err != nil:
			res.Status = runbook.Unknown

			return err
		}

		res.heard = true
	}

	if !o.Wait {
		res.Status = runbook.Requested

		return nil
	}

	err := poll.Until(ctx, "etcd on "+res.NodeName(), pollEvery, o.Timeout, look)

	switch {
	case err == nil:
		res.Status = runbook.OK

		return nil
	case ctx.Err() != nil:
		return err
	case !errors.Is(err, poll.ErrDeadline):
		return err
	default:
		res.Status = runbook.NodeLost

		return &errs.Error{
			Exit: errs.Lost, Node: res.Node, Hostname: res.Hostname, Err: fmt.Errorf("cannot bootstrap %s: %w", res.NodeName(), err),
			Hint: errs.CommandLine("logs", "etcd", "-n", res.Node),
		}
	}
}
