package test

import (
	"context"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/runbook"
)

// extremes are the worst observed values of a cluster.
type extremes struct {
	voters     int // The fewest healthy etcd voters.
	away       int // The most workers that did not run.
	disturbed  int // The most workers that did not run or were cordoned.
	pods       int // The fewest ready pods of the workload.
	seen, lost int // Observations, and those that failed.
}

// watch observes the cluster every 50 ms until ctx ends.
func (f *fleet) watch(ctx context.Context, workload string) extremes {
	worst := extremes{voters: 1 << 10, pods: 1 << 10}
	tick := time.NewTicker(50 * time.Millisecond)

	defer tick.Stop()

	for {
		select {
		case <-ctx.Done():
			return worst
		case <-tick.C:
		}

		voters, away, disturbed, err := f.look(ctx)
		pods, podErr := f.readyPods(ctx, workload)

		if err != nil || podErr != nil {
			if ctx.Err() == nil {
				worst.lost++
			}

			continue
		}

		worst = extremes{
			voters: min(worst.voters, voters), away: max(worst.away, away), disturbed: max(worst.disturbed, disturbed),
			pods: min(worst.pods, pods), seen: worst.seen + 1, lost: worst.lost,
		}
	}
}

func (f *fleet) look(ctx context.Context) (voters, away, disturbed int, err error) {
	machines, err := f.nodes(ctx)
	if err != nil {
		return 0, 0, 0, err
	}

	nodes, err := f.kube.Nodes(ctx)
	if err != nil {
		return 0, 0, 0, err
	}

	cordoned := []string{}

	for _, n := range nodes {
		if n.Unschedulable {
			cordoned = append(cordoned, n.Name)
		}
	}

	for _, m := range machines {
		switch {
		case m.Type == "controlplane" && m.EtcdHealthy:
			voters++
		case m.Type == "worker" && !m.Up:
			away++
			disturbed++
		case m.Type == "worker" && slices.Contains(cordoned, m.Name):
			disturbed++
		}
	}

	return voters, away, disturbed, nil
}

// readyPods counts as a disruption budget does: Ready, and not terminating.
func (f *fleet) readyPods(ctx context.Context, workload string) (int, error) {
	var list struct {
		Items []struct {
			Metadata struct{ DeletionTimestamp string }
			Status   struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}

	err := f.read(ctx, "/api/v1/namespaces/default/pods?labelSelector="+url.QueryEscape("app="+workload), &list)
	ready := 0

	for _, p := range list.Items {
		for _, c := range p.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" && p.Metadata.DeletionTimestamp == "" {
				ready++
			}
		}
	}

	return ready, err
}

// TestFleetUpgrade upgrades three control planes and six workers from the legacy to the lifecycle API, and checks every
// 50 ms that etcd's quorum, the number of workers down and a disruption budget hold.
func TestFleetUpgrade(t *testing.T) {
	t.Parallel()

	f := startFleet(t, "--controlplanes", "3", "--workers", "6", "--talos-version", "v1.12.9")
	f.workload("web", 6, 4)

	ctx, stop := context.WithCancel(t.Context())

	var (
		watching sync.WaitGroup
		worst    extremes
	)

	watching.Go(func() { worst = f.watch(ctx, "web") })

	res, code := f.apply("--max-parallel", "2")

	stop()
	watching.Wait()
	t.Logf("the worst moments: %+v", worst)

	if code != 0 || res.Status != runbook.OK || res.Upgraded != 9 || !res.Locked {
		t.Fatalf("exit code %d, %q, %d upgraded, locked %t: %s", code, res.Status, res.Upgraded, res.Locked, res.Error)
	}

	if worst.voters != 2 || worst.away > 2 || worst.disturbed > 2 || worst.pods < 4 || worst.seen < 50 || worst.lost > worst.seen/10 {
		t.Errorf("want always two healthy voters, at most two workers away, at least four pods: %+v", worst)
	}

	for _, n := range res.Nodes {
		if n.Status != runbook.OK || !n.Rebooted || !n.TalosBack || !n.K8sReady || !n.Uncordoned || n.RunningTag != "v1.13.9" {
			t.Errorf("%s: %+v", n.Hostname, n)
		}
	}

	if res.DrainedPods < 6 {
		t.Errorf("%d pods were drained", res.DrainedPods)
	}

	f.released("v1.13.9")

	for name, h := range f.histories() {
		if len(h.Reboots) != 1 || len(h.Installs) != 1 {
			t.Errorf("%s: %d reboots, %d installs", name, len(h.Reboots), len(h.Installs))
		}
	}
}
