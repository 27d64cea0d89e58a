package machine

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/talosmate/talosmate/lab/internal/etcd"
	"github.com/talosmate/talosmate/lab/internal/faults"
)

// joinEtcd starts the node's member: with its data, as one of the first members of a cluster, or as a learner that is
// promoted.
func (n *Node) joinEtcd(generation int) error {
	wanted := func() bool { return n.alive(generation) }

	if !n.Etcd.Empty() {
		return n.Etcd.Start(nil, false, wanted)
	}

	n.mu.Lock()
	initial := n.initialEtcd
	n.initialEtcd = nil
	n.mu.Unlock()

	if len(initial) > 0 {
		n.setLearner(false)

		return n.Etcd.Start(initial, false, wanted)
	}

	return n.joinAsLearner(generation)
}

// errSuperseded ends a wait for a cluster to join because of a bootstrap.
var errSuperseded = errors.New("the member was bootstrapped meanwhile")

// joinRetry is the interval at which machined retries to join.
const joinRetry = 500 * time.Millisecond

// joinAsLearner adds the member to the cluster of the other control planes. It waits for such a cluster, or for a
// bootstrap, without a time limit.
func (n *Node) joinAsLearner(generation int) error {
	for {
		n.mu.Lock()
		bootstrapped := n.bootstrapping || len(n.initialEtcd) > 0
		n.mu.Unlock()

		if bootstrapped || !n.Etcd.Empty() {
			return errSuperseded
		}

		if others := n.EtcdMembers(true); len(others) > 0 {
			initial, id, err := n.addLearner(others)
			if err == nil {
				n.setLearner(true)

				if err := n.Etcd.Start(initial, true, func() bool { return n.alive(generation) }); err != nil {
					return err
				}

				n.note("etcd-learner", fmt.Sprintf("%016x", id))

				go n.promote(generation, id)

				return nil
			}

			n.logf("etcd", "retrying error: %s", err)
		}

		if !n.pause(generation, joinRetry) {
			return errSuperseded
		}
	}
}

// addLearner adds the member to the list, in place of one of the same name.
func (n *Node) addLearner(others []*etcd.Member) (initial []string, id uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	client, err := n.Etcd.ClientTo(ctx, others)
	if err != nil {
		return nil, 0, err
	}
	defer client.Close() //nolint:errcheck

	list, err := client.MemberList(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("error getting etcd member list: %w", err)
	}

	for _, m := range list.Members {
		if m.Name == n.Etcd.Name() {
			if _, err := client.MemberRemove(ctx, m.ID); err != nil {
				return nil, 0, fmt.Errorf("error removing self from the member list: %w", err)
			}
		}
	}

	added, err := client.MemberAddAsLearner(ctx, []string{n.Etcd.PeerURL()})
	if err != nil {
		return nil, 0, fmt.Errorf("error adding member: %w", err)
	}

	for _, m := range added.Members {
		name := m.Name
		if m.ID == added.Member.ID {
			name = n.Etcd.Name()
		}

		for _, url := range m.PeerURLs {
			initial = append(initial, name+"="+url)
		}
	}

	return initial, added.Member.ID, nil
}

// promoteRetry is the lab's interval of attempts to promote a learner; machined's is 15 seconds.
const promoteRetry = 200 * time.Millisecond

// promote makes the learner a voter once it has caught up.
func (n *Node) promote(generation int, id uint64) {
	for wait := n.Times.Learner; n.pause(generation, wait); wait = promoteRetry {
		others := n.EtcdMembers(true)
		if _, stays := n.Faults.Get(faults.StaysLearner); stays || len(others) == 0 {
			continue
		}

		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		client, err := n.Etcd.ClientTo(ctx, others)

		if err == nil {
			_, err = client.MemberPromote(ctx, id)
			client.Close() //nolint:errcheck
		}

		cancel()

		if err == nil {
			n.setLearner(false)
			n.note("etcd-voter", fmt.Sprintf("%016x", id))

			return
		}
	}
}

func (n *Node) setLearner(learner bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.learner = learner
}

func (n *Node) isLearner() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.learner
}

// EtcdMembers lists the members of the control planes in discovery; othersOnly omits this node and members that do not
// run.
func (n *Node) EtcdMembers(othersOnly bool) []*etcd.Member {
	var out []*etcd.Member

	for _, p := range n.cluster.Peers() {
		if p.Node == nil || p.Node.Etcd == nil || !p.ControlPlane {
			continue
		}

		if othersOnly && (p.Node == n || !p.Node.Etcd.Running()) {
			continue
		}

		out = append(out, p.Node.Etcd)
	}

	return out
}

// LocalEtcd connects to the node's own member.
func (n *Node) LocalEtcd(ctx context.Context) (*clientv3.Client, error) {
	if n.Etcd == nil {
		return nil, errors.New("etcd is not configured")
	}

	return n.Etcd.Client(ctx)
}

// AnyEtcd connects to any control plane that answers.
func (n *Node) AnyEtcd(ctx context.Context) (*clientv3.Client, error) {
	members := n.EtcdMembers(false)
	if n.Etcd == nil || len(members) == 0 {
		return nil, errors.New("no controlplane endpoints discovered yet")
	}

	n.mu.Lock()
	n.random.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	n.mu.Unlock()

	return n.Etcd.ClientTo(ctx, members)
}

// SetInitialEtcd sets the members of a cluster that start together.
func (n *Node) SetInitialEtcd(initial []string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.initialEtcd = initial
}

// SetEtcdWanted sets whether the member starts at boot.
func (n *Node) SetEtcdWanted(wanted bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.etcdWanted = wanted
}

// ForgetEtcd stops the member and removes its data, after it left the cluster.
func (n *Node) ForgetEtcd() error {
	if n.Etcd == nil {
		return nil
	}

	n.stopService("etcd")
	n.Etcd.Stop()
	n.note("etcd-left", "")
	n.SetEtcdWanted(false)

	return n.Etcd.Wipe()
}

// MemberListSkew reports whether the node's member list differs from the others'.
func (n *Node) MemberListSkew() bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.memberSkew
}

// SetMemberListSkew makes the node's member list differ from the others'.
func (n *Node) SetMemberListSkew(on bool) {
	n.mu.Lock()
	n.memberSkew = on
	n.mu.Unlock()
}

// SetEtcdDown stops the node's member while the node stays up, or starts it again.
func (n *Node) SetEtcdDown(down bool) error {
	if n.Etcd == nil {
		return errors.New("the node runs no etcd")
	}

	if down {
		n.mu.Lock()
		n.moveService("etcd", ServiceFailed, "Error running Containerd(etcd): task \"etcd\" failed: exit code 1")
		n.mu.Unlock()
		n.Etcd.Kill()
		n.note("etcd-down", "fault")

		return nil
	}

	n.mu.Lock()
	generation := n.generation
	n.mu.Unlock()
	n.startEtcd(generation)

	return nil
}

// EtcdEnded shows that the node's member ended. Talos restarts it again and again; a removed member ends each time.
func (n *Node) EtcdEnded(reason string) {
	n.mu.Lock()
	n.moveService("etcd", ServiceWaiting, `Error running Containerd(etcd), going to restart forever: task "etcd" failed: exit code 1`)
	n.mu.Unlock()
	n.note("etcd-down", reason)
}

// Note adds a line about this node to the lab's timeline.
func (n *Node) Note(event, detail string) { n.note(event, detail) }

// EtcdHealthy reports whether the node's member runs and has served since it started.
func (n *Node) EtcdHealthy() bool {
	running := n.Etcd != nil && n.Etcd.Running()

	n.mu.Lock()
	defer n.mu.Unlock()

	s := n.services["etcd"]

	return running && s != nil && s.State == ServiceRunning && s.Healthy
}
