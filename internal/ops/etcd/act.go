package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Actor is one node with the calls that change etcd; *talos.Node implements it.
type Actor interface {
	Reader
	EtcdDefragment(ctx context.Context) error
	EtcdAlarmDisarm(ctx context.Context) error
	EtcdRemoveMember(ctx context.Context, id talos.EtcdID) error
	EtcdLeave(ctx context.Context) error
	EtcdForfeitLeadership(ctx context.Context) (string, error)
	EtcdDowngradeValidate(ctx context.Context, version string) (string, error)
	EtcdDowngradeEnable(ctx context.Context, version string) (string, error)
	EtcdDowngradeCancel(ctx context.Context) (string, error)
	EtcdQuota(ctx context.Context) (int64, error)
}

// Access is the cluster with the reads and nodes that operations need.
type Access interface {
	Look(ctx context.Context) (View, error) // The whole cluster, read again at each call.
	Node(t talos.Target) Actor              // A node for a change, reached through other endpoints if there are any.
}

// Through makes an Access from a cluster.
func Through(c *talos.Cluster) Access { return through{c} }

type through struct{ cluster *talos.Cluster }

// Look implements Access.
func (t through) Look(ctx context.Context) (View, error) {
	return Settled(ctx, func(ctx context.Context) (View, error) {
		return LookFor(ctx, t.cluster, StatusTimeout(t.cluster.Options.Timeout))
	})
}

// StatusTimeout is how long operations and gates wait for a member's status, given a node's usual timeout. A member that
// needs longer is not healthy, and a user who has to change something while a member is down runs such commands often.
func StatusTimeout(timeout time.Duration) time.Duration {
	const longest = 10 * time.Second

	if timeout <= 0 {
		return longest
	}

	return min(timeout, longest)
}

// Node implements Access.
func (t through) Node(target talos.Target) Actor { return t.cluster.ChangingNode(target) }

// Env is what every operation is given.
type Env struct {
	Access   Access
	Now      func() time.Time
	Progress progress.Sink
	Begin    func()        // Called before the first request that may change something.
	Settle   time.Duration // How long to wait until the cluster shows the result.
	Deadline time.Duration // How long one request may take.
}

// errCarriedOut is the error of an operation that was carried out although the user interrupted it.
var errCarriedOut = errors.New("was carried out before the interruption")

// ended is the status of an operation that carryOut ended with an error.
func ended(ctx context.Context, err error) runbook.Status {
	switch {
	case errors.Is(err, errCarriedOut):
		return runbook.Done
	case errs.ExitCode(err) == errs.Unknown:
		return runbook.Unknown
	case ctx.Err() != nil:
		return runbook.Interrupted
	default:
		return runbook.Failed
	}
}

const (
	pollEvery   = 500 * time.Millisecond
	maxAttempts = 5
)

func (e Env) tell(node, stage, format string, args ...any) {
	e.Progress.Emit(progress.Event{Time: e.Now(), Node: node, Stage: stage, Message: fmt.Sprintf(format, args...)})
}

// carryOut sends a request until it is done, and reads the state back after every failure before it sends it again. A
// refusal of etcd because there is no leader, or because members connected too recently, is temporary and is retried a
// limited number of times. done reports whether the state already shows the result; known is false when the state could
// not be read, or looks the same whether the request was carried out or not.
func (e Env) carryOut(ctx context.Context, op string, send func(context.Context) error, done func(context.Context) (yes, known bool)) error {
	request := runbook.Request{Limit: e.Deadline, Begin: e.Begin, Send: send}

	var sent runbook.Sent

	for range maxAttempts {
		sent = request.Once(ctx)

		switch {
		case sent.Answer == runbook.Accepted:
			return nil
		case sent.Answer == runbook.NotSent && ctx.Err() == nil, sent.Answer == runbook.Rejected && conn.EtcdRefused(sent.Err):
			// Nothing was done: it may be sent again.
		case sent.Answer == runbook.NotSent || sent.Answer == runbook.Rejected && !conn.EtcdPasses(sent.Err):
			return e.notCarriedOut(ctx, op, sent.Err)
		default:
			yes, known := e.readBack(ctx, done)

			switch {
			case yes && ctx.Err() == nil:
				return nil
			case yes:
				return errors.Join(context.Cause(ctx), errs.New(errs.Interrupted, "%s %w", op, errCarriedOut))
			case !known:
				return runbook.UnknownOutcome("run `talosmate etcd status` before you try again",
					fmt.Errorf("%s was sent, and its outcome could not be read back: %w", op, sent.Err))
			case ctx.Err() != nil || !conn.EtcdPasses(sent.Err): // a request that timed out may still be running
				return e.notCarriedOut(ctx, op, sent.Err)
			}
		}

		if waitErr := poll.Pause(ctx, 2*pollEvery); waitErr != nil {
			return waitErr
		}
	}

	return sent.Err
}

// notCarriedOut is the error of a request whose effect the state does not show.
func (e Env) notCarriedOut(ctx context.Context, op string, cause error) error {
	switch {
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), errs.New(errs.Interrupted, "%s was not carried out", op))
	case errs.ExitCode(cause) == errs.Timeout || errs.ExitCode(cause) == errs.Unknown:
		return runbook.UnknownOutcome("run `talosmate etcd status` before you try again",
			fmt.Errorf("%s was sent, and the cluster does not show it: %w", op, cause))
	default:
		return cause
	}
}

// readBack reads the state until it shows the result, or has not shown it for a while. It uses a context of its own, so
// that the outcome is known even after an interruption.
func (e Env) readBack(ctx context.Context, done func(context.Context) (yes, known bool)) (yes, known bool) {
	// The answer may have been lost before the request took effect: a single observation does not prove that it did
	// not.
	const looks = 3

	seen := 0
	_ = poll.Until(context.WithoutCancel(ctx), "the result", pollEvery, e.Settle, func(ctx context.Context) (bool, string, error) {
		var answered bool
		if yes, answered = done(ctx); answered {
			seen++
		}

		return yes || seen == looks, "", nil
	})

	return yes, yes || seen > 0
}

// memberGone reports whether the cluster no longer lists the member.
func (e Env) memberGone(id string) func(context.Context) (bool, bool) {
	return func(ctx context.Context) (bool, bool) {
		v, err := e.Access.Look(ctx)
		if err != nil || !v.Known {
			return false, false
		}

		_, listed := v.MemberByID(id)

		return !listed, true
	}
}

// newLeader waits until the rest of the cluster has a leader other than the given member, and returns the view that
// shows it.
func (e Env) newLeader(ctx context.Context, not string) (View, error) {
	var last View

	err := poll.Until(ctx, "a new etcd leader", pollEvery, e.Settle, func(ctx context.Context) (bool, string, error) {
		v, err := e.Access.Look(ctx)
		if err != nil {
			return false, err.Error(), nil //nolint:nilerr // an observation that fails is repeated until the deadline
		}

		last = v

		return v.Leader != "" && v.Leader != not, "leader " + v.Leader, nil
	})
	if errors.Is(err, poll.ErrDeadline) {
		err = errs.New(errs.Lost, "%w", err).WithHint("talosmate etcd status")
	}

	return last, err
}

// otherMember is the node of a healthy member other than the given one, to send a request to; the leader if possible,
// since it answers first hand.
func (v View) otherMember(not string) (talos.Target, error) {
	var found *talos.Target

	for i, a := range v.Answers {
		if a.Status == nil || a.Status.ID == not || !hasLeader(*a.Status) || a.Status.Learner {
			continue
		}

		if found == nil || a.Status.ID == v.Leader {
			found = &v.Answers[i].Target
		}
	}

	if found == nil {
		return talos.Target{}, v.nobody(errs.New(errs.Failed, "no healthy etcd member to send the request to"))
	}

	return *found, nil
}

// MemberByID finds a member.
func (v View) MemberByID(id string) (Member, bool) {
	return lists.Find(v.Members, func(m Member) bool { return m.ID == id })
}

// MemberRef names a member in a document.
type MemberRef struct {
	Node       string `json:"node,omitempty"` // The node it runs on, where known.
	ID         string `json:"id"`             // The member ID in hex.
	IDDecimal  string `json:"id_decimal"`     // The same ID in decimal.
	MemberName string `json:"member_name"`    // Its name, by default the node's hostname.
}

func (v View) ref(id string) *MemberRef {
	m, ok := v.MemberByID(id)
	if !ok {
		if id == "" {
			return nil
		}

		m = Member{ID: id}
	}

	out := &MemberRef{Node: m.Node, ID: m.ID, MemberName: m.Name}
	if n, ok := talos.ParseEtcdID("0x" + m.ID); ok {
		out.IDDecimal = n.Decimal()
	}

	return out
}
