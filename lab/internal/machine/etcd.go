package machine

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/talosmate/talosmate/lab/internal/etcd"
)

// joinEtcd starts the node's member: with its data, as the first of a cluster
// that starts together, or as a learner that is promoted.
func (n *Node) joinEtcd(generation int) error {
	if !n.Etcd.Empty() {
		return n.Etcd.Start(nil, false)
	}

	n.mu.Lock()
	initial := n.initialEtcd
	n.initialEtcd = nil
	n.mu.Unlock()

	if len(initial) > 0 {
		return n.Etcd.Start(initial, false)
	}

	return n.joinAsLearner(generation)
}

// joinAsLearner adds the member to the cluster the other control planes run.
func (n *Node) joinAsLearner(generation int) error {
	others := n.EtcdMembers(true)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	for len(others) == 0 {
		// machined waits for a bootstrap or for another control plane
		if !n.pause(generation, 200*time.Millisecond) {
			return errors.New("node went down")
		}

		others = n.EtcdMembers(true)
	}

	client, err := n.Etcd.ClientTo(ctx, others)
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck

	added, err := client.MemberAddAsLearner(ctx, []string{n.Etcd.PeerURL()})
	if err != nil {
		return fmt.Errorf("error adding member: %w", err)
	}

	var initial []string

	for _, m := range added.Members {
		name := m.Name
		if m.ID == added.Member.ID {
			name = n.Name
		}

		for _, url := range m.PeerURLs {
			initial = append(initial, name+"="+url)
		}
	}

	if err := n.Etcd.Start(initial, true); err != nil {
		return err
	}

	go n.promote(generation, added.Member.ID)

	return nil
}

// promote makes the learner a voter once it has caught up.
func (n *Node) promote(generation int, id uint64) {
	for n.pause(generation, 200*time.Millisecond) {
		others := n.EtcdMembers(true)
		if len(others) == 0 {
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
			n.note("etcd-voter", fmt.Sprintf("%016x", id))

			return
		}
	}
}

// EtcdMembers lists the members of the control planes discovery knows;
// othersOnly leaves out this node and members that do not run.
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

// AnyEtcd connects to whichever control plane answers.
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

// SetInitialEtcd names the members of a cluster that starts together.
func (n *Node) SetInitialEtcd(initial []string) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.initialEtcd = initial
}

// SetEtcdWanted says whether the member starts at boot.
func (n *Node) SetEtcdWanted(wanted bool) {
	n.mu.Lock()
	defer n.mu.Unlock()

	n.etcdWanted = wanted
}

// ForgetEtcd stops the member and removes its data: it left the cluster.
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

// MemberListSkew says whether the node's member list is to differ from the others'.
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

// Note adds a line about this node to the lab's timeline.
func (n *Node) Note(event, detail string) { n.note(event, detail) }
