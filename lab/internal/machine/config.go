package machine

// adoptType takes the machine type from the configuration, which a node gets
// when it is configured. It wants n.mu held.
func (n *Node) adoptType() {
	if n.config == nil || n.config.Machine() == nil {
		return
	}

	if n.config.Machine().Type().IsControlPlane() {
		n.nodeType = ControlPlane
	} else {
		n.nodeType = Worker
	}

	n.initLogs()
}
