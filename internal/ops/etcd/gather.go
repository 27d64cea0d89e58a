package etcd

import (
	"context"
	"slices"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Reader has the calls that the view makes to one node; *talos.Node implements it. A reader's certificate is
// sufficient.
type Reader interface {
	EtcdMembers(ctx context.Context, local bool) ([]talos.EtcdMember, error)
	EtcdStatus(ctx context.Context) (talos.EtcdStatus, error)
	EtcdAlarms(ctx context.Context) ([]talos.EtcdAlarm, error)
}

// Source is a control plane node to ask.
type Source struct {
	Target talos.Target
	Reader Reader
}

// Sources gives access to nodes through the endpoints.
func Sources(c *talos.Cluster, targets []talos.Target) []Source {
	return lists.Map(targets, func(t talos.Target) Source { return Source{Target: t, Reader: c.Node(t)} })
}

// Answer is the answer of one node.
type Answer struct {
	Target  talos.Target
	Status  *talos.EtcdStatus  // Nil when the node's member did not answer.
	Members []talos.EtcdMember // The member's own list; nil when it could not be read.
	Alarms  []talos.EtcdAlarm  // All alarms that its member knows, of any member.
	Errs    map[Part]error     // The errors; the other parts may be present.
}

// Part is one of the requests to each node.
type Part string

// The parts.
const (
	PartStatus  Part = "status"
	PartMembers Part = "members"
	PartAlarms  Part = "alarms"
)

// Err is the first error of the given parts, in their order; of any part when none is given.
func (a Answer) Err(parts ...Part) error {
	if len(parts) == 0 {
		parts = []Part{PartStatus, PartMembers, PartAlarms}
	}

	for _, p := range parts {
		if a.Errs[p] != nil {
			return a.Errs[p]
		}
	}

	return nil
}

// Look gathers the view of the whole cluster: every control plane in discovery, and every other member in etcd's list.
// Without discovery, etcd's own list names the nodes.
func Look(ctx context.Context, c *talos.Cluster) (View, error) {
	return LookFor(ctx, c, c.Options.Timeout)
}

// LookFor is Look with a time limit for each node.
func LookFor(ctx context.Context, c *talos.Cluster, timeout time.Duration) (View, error) {
	targets, err := c.Targets(ctx, target.Selection{ControlPlanes: true}, target.DefaultNone)
	if err != nil {
		list, listErr := c.Endpoint().EtcdMembers(ctx, false)
		if listErr != nil {
			return View{}, err
		}

		targets.Nodes = Targets(list)
	}

	v := Gather(ctx, Sources(c, targets.Nodes), timeout)

	if more := v.unasked(); len(more) > 0 {
		rest := Gather(ctx, Sources(c, more), timeout)
		v = newView(append(v.Answers, rest.Answers...))
	}

	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}

	return v, nil
}

// electionLimit is how long Settled waits for an election, which takes etcd a second or two.
const (
	electionLimit = 3 * time.Second
	electionPoll  = 400 * time.Millisecond
)

// Settled reads the view again while the members elect a leader: for that moment healthy members have no leader, and a
// gate would take them for unhealthy. If too few members answer to elect one, it does not wait.
func Settled(ctx context.Context, look func(context.Context) (View, error)) (View, error) {
	v, err := look(ctx)
	if err != nil || !v.electing() {
		return v, err
	}

	pollErr := poll.Until(ctx, "etcd's election", electionPoll, electionLimit, func(context.Context) (bool, string, error) {
		v, err = look(ctx)

		return err != nil || !v.electing(), "no leader", nil
	})
	if ctx.Err() != nil {
		return v, pollErr
	}

	return v, err
}

// electing reports whether enough voters answer to elect a leader, and some have none.
func (v View) electing() bool {
	voters, answer, without := 0, 0, 0

	for _, m := range v.Members {
		if m.Learner {
			continue
		}

		voters++

		if s := v.Status(m.ID); s != nil {
			answer++

			if !hasLeader(*s) {
				without++
			}
		}
	}

	return without > 0 && answer >= Quorum(voters)
}

// Targets are the nodes of etcd's members.
func Targets(list []talos.EtcdMember) []talos.Target {
	out := []talos.Target{}

	for _, m := range list {
		if m.Address() != "" {
			out = append(out, talos.Target{Address: m.Address(), Hostname: m.MemberName, Type: target.ControlPlane})
		}
	}

	return out
}

// unasked are the nodes of members that no source covers.
func (v View) unasked() []talos.Target {
	return slices.DeleteFunc(Targets(v.memberList()), func(t talos.Target) bool {
		return slices.ContainsFunc(v.Answers, func(a Answer) bool {
			// Discovery still lists a node that was replaced by one of the same name. It does not answer, and covers no
			// member.
			return a.Target.Has(t.Address) ||
				(t.Hostname != "" && a.Target.Hostname == t.Hostname && a.Status != nil)
		})
	})
}

// Gather asks all sources at once, each bounded by timeout (0 for none). A node that is down costs only its own answer;
// what the others report about its member stays. For gates, the sources must be all control planes.
func Gather(ctx context.Context, sources []Source, timeout time.Duration) View {
	answers := make([]Answer, len(sources))

	var wg errs.Group

	for i, s := range sources {
		wg.Go(func() { answers[i] = ask(ctx, s, timeout) })
	}

	wg.Wait()

	return newView(answers)
}

// CatchUp asks the members that look behind once more, for those who are shown the lag. The first answers are not from one
// moment: on a busy cluster each member is behind one that was asked later. What a member has applied by now of the furthest
// entry of that time is not lag.
func (v *View) CatchUp(ctx context.Context, reader func(talos.Target) Reader, timeout time.Duration) {
	var wg errs.Group

	for i, a := range v.Answers {
		if a.Status == nil || v.Lag(*a.Status) == 0 {
			continue
		}

		wg.Go(func() {
			_ = errs.Safely(func() error { // the first answer stays
				ctx, cancel := limited(ctx, timeout)
				defer cancel()

				again, err := reader(a.Target).EtcdStatus(ctx)
				if err == nil && again.ID == a.Status.ID {
					v.Answers[i].Status.RaftIndex, v.Answers[i].Status.RaftAppliedIndex = again.RaftIndex, again.RaftAppliedIndex
				}

				return err
			})
		})
	}

	wg.Wait()
}

func limited(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}

	return context.WithTimeout(ctx, timeout)
}

func ask(ctx context.Context, s Source, timeout time.Duration) Answer {
	ctx, cancel := limited(ctx, timeout)
	defer cancel()

	out := Answer{Target: s.Target}

	var (
		wg                            errs.Group
		statusErr, listErr, alarmsErr error
	)

	part := func(err *error, read func() error) { wg.Go(func() { *err = errs.Safely(read) }) }

	part(&statusErr, func() error {
		status, err := s.Reader.EtcdStatus(ctx)
		if err == nil {
			out.Status = &status
		}

		return err
	})
	part(&listErr, func() (err error) { out.Members, err = s.Reader.EtcdMembers(ctx, true); return err })
	part(&alarmsErr, func() (err error) { out.Alarms, err = s.Reader.EtcdAlarms(ctx); return err })
	wg.Wait()

	out.Errs = map[Part]error{PartStatus: statusErr, PartMembers: listErr, PartAlarms: alarmsErr}

	return out
}
