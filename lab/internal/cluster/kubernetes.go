package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/talosmate/talosmate/lab/internal/kubebed"
)

// kubernetesReady is how long the nodes may take to be Ready in Kubernetes.
const kubernetesReady = time.Minute

// StartKubernetes starts the real Kubernetes control plane, if requested; before Start. It has the nodes, powered off
// until they boot.
func (c *Cluster) StartKubernetes(ctx context.Context) error {
	if c.Options.Kubernetes == "none" {
		return nil
	}

	program, err := kubebed.Find(c.Options.KubeBin)
	if err != nil {
		return err
	}

	var machines []kubebed.Machine

	for _, m := range c.members[:c.Options.ControlPlanes+c.Options.Workers] {
		machines = append(machines, kubebed.Machine{
			Name: m.Name, InternalIP: m.Address.String(), ControlPlane: m.IsControlPlane(), TalosVersion: m.Version(), Off: true,
		})
	}

	bed, err := kubebed.Start(ctx, program, filepath.Join(c.Options.Dir, "kubernetes"), c.Options.Name, machines)
	if err != nil {
		return err
	}

	c.bed = bed
	c.kubelets = kubebed.NewKubelet(bed, c.Note)
	c.kubelet = c.kubelets

	for _, m := range c.members {
		m.SetAdminKubeconfig(bed.Kubeconfig)
	}

	return os.WriteFile(filepath.Join(c.Options.Dir, "kubeconfig"), bed.Kubeconfig, 0o600)
}

// KubernetesPIDs lists the processes of the Kubernetes control plane.
func (c *Cluster) KubernetesPIDs() []int {
	if c.bed == nil {
		return nil
	}

	return c.bed.PIDs()
}

// Outage makes the Kubernetes API server unavailable for a while.
func (c *Cluster) Outage(ctx context.Context, seconds float64, mode string) error {
	if c.bed == nil {
		return fmt.Errorf("this lab runs no Kubernetes")
	}

	return c.bed.Outage(ctx, seconds, mode)
}

// awaitKubernetes waits until every node is Ready in Kubernetes.
func (c *Cluster) awaitKubernetes(ctx context.Context) error {
	if c.bed == nil {
		return nil
	}

	ctx, cancel := context.WithTimeout(ctx, kubernetesReady)
	defer cancel()

	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()

	for _, m := range c.members[:c.Options.ControlPlanes+c.Options.Workers] {
		for !m.Ready() && !c.Options.Unbootstrapped {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return fmt.Errorf("node %s is not ready: %v", m.Name, m.Dump().UnmetConditions)
			}
		}
	}

	return nil
}

func (c *Cluster) stopKubernetes() {
	if c.kubelets != nil {
		c.kubelets.Close()
	}

	if c.bed != nil {
		c.bed.Stop()
	}
}
