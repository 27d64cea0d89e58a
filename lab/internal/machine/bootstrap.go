package machine

import (
	"fmt"
)

// Bootstrap makes the node's member the first of a new etcd cluster, from an uploaded snapshot if recoverSnapshot is
// set.
func (n *Node) Bootstrap(recoverSnapshot, skipHashCheck bool) error {
	n.mu.Lock()
	n.bootstrapping = true
	n.moveService("etcd", ServiceFinished, "Bootstrap requested")
	generation := n.generation
	n.mu.Unlock()

	n.note("bootstrap", fmt.Sprintf("recover=%t", recoverSnapshot))

	go func() {
		if recoverSnapshot {
			if err := n.Etcd.Recover(skipHashCheck); err != nil {
				n.failEtcd(err)

				return
			}
		}

		n.mu.Lock()
		n.etcdWanted = true
		n.bootstrapping = false

		if !recoverSnapshot {
			n.initialEtcd = []string{n.Etcd.Initial()}
		}
		n.mu.Unlock()

		n.startEtcd(generation)
	}()

	return nil
}

// failEtcd shows why the member could not start.
func (n *Node) failEtcd(err error) {
	n.logf("etcd", "%s", err)
	n.note("error", err.Error())

	n.mu.Lock()
	defer n.mu.Unlock()

	n.bootstrapping = false
	n.moveService("etcd", ServiceFailed, "Failed to run pre stage: "+err.Error())
}
