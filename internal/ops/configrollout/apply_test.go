package configrollout_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/ops/configrollout"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/testing/fake"
)

var errLost = &errs.Error{Exit: errs.Unreachable, Kind: errs.KindUnreachable, Err: errors.New("connection reset")}

const (
	routes = "---\napiVersion: v1alpha1\nkind: StaticHostConfig\nname: 10.0.0.9\nhostnames: [a]\n"
	sysctl = "---\napiVersion: v1alpha1\nkind: SysctlConfig\nparams: {vm.swappiness: \"1\"}\n"
	tries  = 2 * time.Minute
)

// tried is a node that reverts by its own timer what it tries.
type tried struct {
	*fake.Machine

	cuts  bool // A configuration that is tried cuts it off.
	dies  bool // And it never comes back.
	timer *time.Timer
}

// ApplyConfig implements probe.API.
func (m *tried) ApplyConfig(ctx context.Context, text []byte, mode string, timeout time.Duration, dryRun bool) (talos.Applied, error) {
	if dryRun {
		return m.Machine.ApplyConfig(ctx, text, mode, timeout, dryRun)
	}

	m.Mu.Lock()
	former := m.Text

	if m.timer != nil {
		m.timer.Stop()
	}
	m.Mu.Unlock()

	did := mode
	if mode == talos.ApplyTry {
		did = talos.ApplyNoReboot
	}

	answer, err := m.Machine.ApplyConfig(ctx, text, did, timeout, false)

	m.Mu.Lock()
	defer m.Mu.Unlock()

	if mode != talos.ApplyTry || string(m.Text) != string(text) {
		return answer, err
	}

	answer.Mode, m.Staged = mode, former
	m.timer = time.AfterFunc(timeout, func() {
		m.Mu.Lock()
		defer m.Mu.Unlock()

		m.Text, m.Staged = former, nil
	})

	if m.cuts {
		m.DownUntil = time.Now().Add(timeout)
	}

	m.Never = m.dies

	return answer, err
}

// site is a worker whose configuration is rolled out.
type site struct {
	m      *tried
	before []byte
	p      configrollout.Planner
	o      configrollout.Options
}

// configOf is a configuration of Talos 1.14. It takes a moment: it has new secrets.
func configOf(t *testing.T, kind machine.Type) []byte {
	t.Helper()

	input, err := generate.NewInput("lab", "https://10.0.0.1:6443", "1.35.4", generate.WithVersionContract(config.TalosVersion1_14))
	if err != nil {
		t.Fatal(err)
	}

	cfg, err := input.Config(kind)
	if err != nil {
		t.Fatal(err)
	}

	text, err := cfg.Bytes()
	if err != nil {
		t.Fatal(err)
	}

	return text
}

func newSite(t *testing.T, text []byte, controlPlane bool, more string) *site {
	t.Helper()

	s := &site{m: &tried{Machine: fake.NewMachine("v1.14.1")}, before: text}
	s.m.Name, s.m.Text = "", text
	member := talos.Member{NodeID: "id", Type: "worker"}
	member.Node, member.Hostname, member.Addresses = "10.0.0.2", "node-1", []string{"10.0.0.2"}

	if controlPlane {
		member.Type = "controlplane"
	}

	fresh := func() (probe.API, probe.Close) { return s.m, func() error { return nil } }
	view := func(context.Context) (etcd.View, error) {
		return etcd.View{Known: true, Members: []etcd.Member{{ID: "1", Node: "10.0.0.2", Healthy: true}, {ID: "2", Node: "x", Healthy: true}, {ID: "3", Node: "y", Healthy: true}}}, nil
	}
	s.p = configrollout.Planner{
		Cluster: &rollout.Cluster{
			Name: "lab", Members: []talos.Member{member}, Now: time.Now, Etcd: view,
			Kube: func(context.Context) (probe.Kube, string, error) { return nil, "", errLost },
			Node: func(target talos.Target) *probe.Node {
				return &probe.Node{
					Target: target, Read: s.m, Change: s.m, Fresh: fresh, Etcd: view, ControlPlane: controlPlane, Members: []talos.Member{member}, Now: time.Now,
					Endpoints: []string{"10.0.0.1"}, Alive: func(context.Context, talos.Target) bool { return true },
				}
			},
		},
		Store: machineconfig.Backups{Dir: t.TempDir()}, Files: configrollout.Files{"node-1.yaml": []byte(string(text) + more)},
	}
	s.o = configrollout.Options{TryTimeout: tries, SettleTime: 10 * time.Second, ReadyTimeout: time.Minute, RebootTimeout: time.Minute, DrainTimeout: time.Minute}
	s.o.GateTimeout = time.Minute

	return s
}

func (s *site) apply(ctx context.Context) (configrollout.Applied, error) {
	plan, err := s.p.Make(ctx, configrollout.Request{Directory: "dir", AllNodes: true})
	if err != nil {
		return configrollout.Applied{}, err
	}

	res, err := s.p.Apply(ctx, plan, s.o, progress.Discard{})
	if len(res.Nodes) == 0 {
		return configrollout.Applied{Status: res.Status}, err
	}

	return res.Nodes[0], err
}

// sent counts the requests that changed something.
func (s *site) sent() int { return len(s.m.Calls) }

// unfinished reports whether a run left something for the next one.
func (s *site) unfinished(t *testing.T) bool {
	t.Helper()

	found, err := filepath.Glob(filepath.Join(s.p.Store.Dir, "*.rollout.json"))
	if err != nil {
		t.Fatal(err)
	}

	return len(found) > 0
}

func TestApply(t *testing.T) {
	t.Parallel()

	text := configOf(t, machine.TypeWorker)

	for _, c := range []struct {
		name   string
		more   string
		set    func(*site)
		want   runbook.Status
		how    string
		code   errs.Code
		sent   int
		has    bool // The node has the file in the end.
		record bool
	}{
		{"what can cut it off", routes, func(*site) {}, runbook.OK, configrollout.HowConfirmed, errs.OK, 2, true, false},
		{"anything else", sysctl, func(*site) {}, runbook.OK, configrollout.HowApplied, errs.OK, 1, true, false},
		{"it is cut off", routes, func(s *site) { s.m.cuts = true }, runbook.RolledBack, configrollout.HowReverted, errs.RolledBack, 1, false, false},
		{"it is cut off before the answer", routes, func(s *site) { s.m.cuts, s.m.LoseReply["apply"] = true, errLost }, runbook.RolledBack, configrollout.HowReverted, errs.RolledBack, 1, false, false},
		{"it never comes back", routes, func(s *site) { s.m.cuts, s.m.dies = true, true }, runbook.NodeLost, "", errs.Lost, 1, false, true},
		{"it is not healthy with it", routes, func(s *site) { s.m.StatusAs = s.unhealthy }, runbook.RolledBack, configrollout.HowReverted, errs.RolledBack, 1, false, false},
		{"it is not healthy with a change that is not tried", sysctl, func(s *site) { s.m.StatusAs = s.unhealthy }, runbook.VerifyFailed, "", errs.Lost, 1, true, true},
		{"and gets its former one", sysctl, func(s *site) { s.m.StatusAs, s.o.Revert = s.unhealthy, true }, runbook.RolledBack, configrollout.HowRestored, errs.RolledBack, 2, false, false},
		{"the request is lost", routes, func(s *site) { s.m.Fail["apply"] = errLost }, runbook.RolledBack, configrollout.HowReverted, errs.RolledBack, 1, false, false},
		{"the node refuses it", routes, func(s *site) { s.m.Fail["apply"] = errors.New("invalid") }, runbook.Failed, "", errs.Failed, 1, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, text, false, c.more)
				c.set(s)

				got, err := s.apply(t.Context())
				if got.Status != c.want || got.How != c.how || errs.ExitCode(err) != c.code || s.sent() != c.sent {
					t.Errorf("%s %s, exit code %d, %d sent: %v", got.Status, got.How, errs.ExitCode(err), s.sent(), err)
				}

				if has := machineconfig.Same(s.m.Text, s.p.Files["node-1.yaml"]); has != c.has || s.unfinished(t) != c.record {
					t.Errorf("the node has the file: %t; a record: %t", has, s.unfinished(t))
				}

				if c.code == errs.OK && s.m.Staged != nil {
					t.Error("it is on trial")
				}

				if s.m.timer != nil {
					s.m.timer.Stop()
				}
			})
		})
	}
}

// unhealthy is the status of a node that is not healthy with any other configuration.
func (s *site) unhealthy(context.Context) (talos.MachineStatus, error) {
	s.m.Mu.Lock()
	defer s.m.Mu.Unlock()

	if string(s.m.Text) == string(s.before) {
		return talos.MachineStatus{Stage: "running", Ready: true}, nil
	}

	return talos.MachineStatus{Stage: "running", Unmet: []talos.UnmetCondition{{Name: "services", Reason: "kubelet not healthy"}}}, nil
}

// A control plane is seen by etcd too, and is not changed where quorum would be lost.
func TestControlPlane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, configOf(t, machine.TypeControlPlane), true, routes)

		got, err := s.apply(t.Context())
		if err != nil || got.How != configrollout.HowConfirmed || !slices.ContainsFunc(got.Seen, func(s configrollout.Seen) bool { return s.By == "etcd" && s.OK }) {
			t.Errorf("%+v: %v", got, err)
		}
	})
}

// Whatever breaks a run off, the next one finishes it: what is on trial is kept, and what was sent is verified.
func TestResume(t *testing.T) {
	t.Parallel()

	text := configOf(t, machine.TypeWorker)

	for name, c := range map[string]struct {
		more, at string
		how      string
		sent     int
	}{
		"before it is sent":   {routes, "dry run", configrollout.HowConfirmed, 2},
		"while it is tried":   {routes, "apply", configrollout.HowConfirmed, 2},
		"after it was sent":   {sysctl, "apply", configrollout.HowApplied, 1},
		"with nothing on it ": {sysctl, "dry run", configrollout.HowApplied, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, text, false, c.more)
				ctx, kill := fake.Mortal(t.Context())

				if c.at == "apply" {
					s.m.StatusAs = func(context.Context) (talos.MachineStatus, error) {
						if s.sent() > 0 {
							kill()
						}

						return talos.MachineStatus{Stage: "running", Ready: true}, nil
					}
				} else {
					kill()
				}

				if _, err := s.apply(ctx); err == nil {
					t.Fatal("it was not broken off")
				}

				s.m.StatusAs = nil

				got, err := s.apply(t.Context())
				if err != nil || got.Status != runbook.OK || got.How != c.how || s.sent() != c.sent || got.Resumed != (c.at == "apply") {
					t.Errorf("%s %s, %d sent, resumed %t: %v", got.Status, got.How, s.sent(), got.Resumed, err)
				}

				if s.unfinished(t) || !machineconfig.Same(s.m.Text, s.p.Files["node-1.yaml"]) || s.m.Staged != nil {
					t.Error("something is left")
				}

				if got, err = s.apply(t.Context()); err != nil || got.Status != runbook.Unchanged {
					t.Errorf("again: %s, %v", got.Status, err)
				}
			})
		})
	}
}

// A run that is broken off while the node reboots leaves its cordon, which the next one lifts, and no other.
func TestResumeAfterReboot(t *testing.T) {
	t.Parallel()

	text := configOf(t, machine.TypeWorker)

	const ours = "talosmate machineconfig rollout by ann@host: of dir"

	for name, c := range map[string]struct {
		cordon string
		fails  error
		sent   string // What that run sent in addition to the file.
		staged bool   // It was broken off before the reboot.
		status runbook.Status
		lifted bool
	}{
		"ours":                         {ours, nil, "", false, runbook.OK, true},
		"somebody else's":              {"talosmate upgrade by ann@host: to v1.14.1", nil, "", false, runbook.OK, false},
		"it cannot be lifted":          {ours, errLost, "", false, runbook.VerifyFailed, false},
		"for a file that was undone":   {ours, nil, routes, false, runbook.Unchanged, true},
		"undone, and cannot be lifted": {ours, errLost, routes, false, runbook.VerifyFailed, false},
		"for a file that is undone":    {ours, nil, routes, true, runbook.OK, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, text, false, sysctl)
				s.m.Name, s.m.Text = "node-1", s.p.Files["node-1.yaml"]
				s.o.Node.Reason = "talosmate machineconfig rollout by bob@host: of dir"

				k := fake.NewKubernetes("node-1")
				k.Members["node-1"].Unschedulable, k.Members["node-1"].Annotations[kube.CordonAnnotation] = true, c.cordon
				k.Fail["uncordon"] = c.fails
				connect := func(context.Context) (probe.Kube, string, error) { return k, "test", nil }
				node := s.p.Cluster.Node
				s.p.Cluster.Kube = connect
				s.p.Cluster.Node = func(target talos.Target) *probe.Node {
					n := node(target)
					n.Kube = connect

					return n
				}

				left := map[string]any{"sent": string(s.m.Text) + c.sent, "action": configrollout.ActReboot}
				if c.staged {
					s.m.Staged = []byte(string(s.m.Text) + c.sent)
				}

				if err := s.p.Store.Write(s.p.Cluster.Members[0].Target(), ".rollout.json", left); err != nil {
					t.Fatal(err)
				}

				got, err := s.apply(t.Context())
				if got.Status != c.status || (err == nil) != (c.fails == nil) || got.Resumed != (c.sent == "" || c.staged) || (s.sent() > 0) != c.staged || s.m.Staged != nil {
					t.Errorf("%s, resumed %t, %d sent, staged %t: %v", got.Status, got.Resumed, s.sent(), s.m.Staged != nil, err)
				}

				if lifted := !k.Members["node-1"].Unschedulable; lifted != c.lifted || s.unfinished(t) != (c.fails != nil) {
					t.Errorf("lifted %t, unfinished %t", lifted, s.unfinished(t))
				}
			})
		})
	}
}

// status compares the node with its file.
func (s *site) status(t *testing.T, want string) {
	t.Helper()

	res, err := s.p.Status(t.Context(), "dir", nil)
	if err != nil {
		t.Fatal(err)
	}

	n, here := res.Nodes[0], ""
	if n.FromHere != nil {
		here = fmt.Sprint(*n.FromHere)
	}

	if got := fmt.Sprintf("%s %s %d differences, drift %d", n.Sync, here, len(n.Differences), n.Drift); got != want || *res.InSync != (n.Sync == configrollout.SyncIn) {
		t.Errorf("%s, in sync: %t, want %s", got, *res.InSync, want)
	}
}

// A plan says what name the node would get.
func TestRenamed(t *testing.T) {
	t.Parallel()

	s := newSite(t, configOf(t, machine.TypeWorker), false, "")
	s.p.Files["node-1.yaml"] = []byte(strings.Replace(string(s.before), "auto: stable", "hostname: other", 1))

	plan, err := s.p.Make(t.Context(), configrollout.Request{AllNodes: true})
	if err != nil || len(plan.Nodes) != 1 {
		t.Fatal(err)
	}

	if plan.Nodes[0].Renamed != "other" {
		t.Errorf("%+v", plan.Nodes[0])
	}
}

// What is compared is the file, what was applied last, and the node.
func TestDrift(t *testing.T) {
	t.Parallel()

	text := configOf(t, machine.TypeWorker)
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, text, false, sysctl)
		s.status(t, "differs  3 differences, drift 0")

		if _, err := s.apply(t.Context()); err != nil {
			t.Fatal(err)
		}

		s.status(t, "in_sync true 0 differences, drift 0")

		s.m.Text = []byte(strings.Replace(strings.Replace(string(s.m.Text), `vm.swappiness: "1"`, `vm.swappiness: "2"`, 1), "kubelet:v1.35.4", "kubelet:v1.36.0", 1))

		s.status(t, "drifted true 2 differences, drift 2")

		s.p.Files["node-1.yaml"] = append(s.p.Files["node-1.yaml"], routes...)
		s.status(t, "differs false 6 differences, drift 2")

		plan, err := s.p.Make(t.Context(), configrollout.Request{AllNodes: true})
		by := map[string]string{}

		for _, c := range plan.Nodes[0].Changes {
			by[c.Document+" "+c.Path] = c.By
		}

		if by[`SysctlConfig params."vm.swappiness"`] != configrollout.ByNode || by["StaticHostConfig/10.0.0.9 name"] != configrollout.ByFile || by["KubeletConfig image"] != configrollout.ByUpgrade {
			t.Errorf("%v: %v", by, err)
		}

		if errs.ExitCode(err) != errs.Refused || !strings.Contains(err.Error(), "TM154") {
			t.Errorf("Kubernetes goes down: %v", err)
		}
	})
}

// A selector of what the node has passes, and one of what it has not is refused.
func TestSelectors(t *testing.T) {
	t.Parallel()

	text := configOf(t, machine.TypeWorker)

	const (
		alias    = "---\napiVersion: v1alpha1\nkind: LinkAliasConfig\nname: lan\nselector: {match: 'mac(link.permanent_addr) == \"02:00:00:00:00:01\"'}\n"
		aliased  = "---\napiVersion: v1alpha1\nkind: DHCPv4Config\nname: lan\n"
		volume   = "---\napiVersion: v1alpha1\nkind: UserVolumeConfig\nname: data\nprovisioning: {diskSelector: {match: 'disk.transport == \"nvme\" && !system_disk'}, minSize: 1GiB}\n"
		existing = "---\napiVersion: v1alpha1\nkind: ExistingVolumeConfig\nname: old\ndiscovery: {volumeSelector: {match: 'volume.name == \"xfs\" && disk.transport == \"sata\"'}}\n"
		devices  = "machine: {network: {interfaces: [{deviceSelector: "
	)

	resources := func(_ []byte, typ string) []talos.Resource {
		one := func(id string, spec map[string]any) []talos.Resource {
			return []talos.Resource{{Metadata: talos.ResourceMetadata{ID: id, Type: typ}, Spec: spec}}
		}

		switch typ {
		case "LinkStatuses.net.talos.dev":
			return one("eth0", map[string]any{"type": "ether", "kind": "", "permanentAddr": "02:00:00:00:00:01", "hardwareAddr": "02:00:00:00:00:01", "driver": "virtio_net", "busPath": "0000:00:03.0", "pciID": "1AF4:1000", "flags": "UP,RUNNING", "mtu": 1500, "vlan": map[string]any{}})
		case "Disks.block.talos.dev":
			return append(one("nvme0n1", map[string]any{"dev_path": "/dev/nvme0n1", "transport": "nvme", "size": 1 << 40}), one("sda", map[string]any{"dev_path": "/dev/sda", "transport": "sata"})...)
		case "SystemDisks.block.talos.dev":
			return one("system-disk", map[string]any{"diskID": "sda"})
		case "DiscoveredVolumes.block.talos.dev":
			return one("sda1", map[string]any{"name": "xfs", "parent": "sda", "type": "partition"})
		default:
			return nil
		}
	}

	for name, c := range map[string]struct{ more, missing string }{
		"what it has":                {alias + aliased + volume + existing, ""},
		"a link that is not there":   {"---\napiVersion: v1alpha1\nkind: DHCPv4Config\nname: eth7\n", "DHCPv4Config/eth7 (link eth7)"},
		"an alias of nothing":        {strings.Replace(alias, "00:01", "00:02", 1), "LinkAliasConfig/lan"},
		"a disk that is not there":   {strings.Replace(volume, "nvme", "usb", 1), "UserVolumeConfig/data"},
		"only the system disk fits":  {strings.Replace(volume, "nvme", "sata", 1), "UserVolumeConfig/data"},
		"a volume that is not there": {strings.Replace(existing, "xfs", "ext4", 1), "ExistingVolumeConfig/old"},
		"a volume of another disk":   {strings.Replace(existing, "sata", "nvme", 1), "ExistingVolumeConfig/old"},
		"devices that it has":        {devices + "{hardwareAddr: '02:00:00:*', driver: virtio_net}, dhcp: true}, {interface: bond0, bond: {deviceSelectors: [{physical: true, busPath: '0000:*'}]}}]", ""},
		"a device by its address":    {devices + "{hardwareAddr: '04:*'}, dhcp: true}]", "machine.network.interfaces deviceSelector (hardwareAddr: 04:*)"},
		"a device by its driver":     {devices + "{driver: e1000, hardwareAddr: '02:*'}, dhcp: true}]", "machine.network.interfaces deviceSelector (driver: e1000, hardwareAddr: 02:*)"},
		"a virtual device":           {devices + "{physical: false}, dhcp: true}]", "machine.network.interfaces deviceSelector (physical: false)"},
		"a device of a bond":         {devices + "{hardwareAddr: '02:*'}, dhcp: true}, {interface: bond0, bond: {deviceSelectors: [{pciID: '8086:*'}]}}]", "machine.network.interfaces bond0 (pciID: 8086:*)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			s := newSite(t, text, false, c.more)
			if rest, is := strings.CutPrefix(c.more, "machine: {network: {"); is {
				s.p.Files["node-1.yaml"] = []byte(strings.Replace(string(text), "machine:\n", "machine:\n    network: {"+rest+"}\n", 1))
			}

			s.m.Render = resources

			_, err := s.p.Make(t.Context(), configrollout.Request{AllNodes: true})

			switch {
			case c.missing == "" && err != nil:
				t.Error(err)
			case c.missing != "" && (err == nil || !strings.Contains(err.Error(), "TM166") || !strings.Contains(err.Error(), c.missing)):
				t.Errorf("it is not refused for %s: %v", c.missing, err)
			}
		})
	}
}

// A plan that was reviewed holds until its files, the nodes or what it says are changed.
func TestReplan(t *testing.T) {
	t.Parallel()

	text := configOf(t, machine.TypeWorker)

	s := newSite(t, text, false, routes)

	plan, err := s.p.Make(t.Context(), configrollout.Request{Directory: "dir", AllNodes: true})
	if err != nil || plan.Work != 1 || plan.Hash == "" {
		t.Fatalf("%+v, %v", plan, err)
	}

	if _, err = s.p.Replan(t.Context(), plan, "elsewhere"); err != nil {
		t.Error(err)
	}

	s.p.Files["node-1.yaml"] = append(s.p.Files["node-1.yaml"], sysctl...)
	if _, err = s.p.Replan(t.Context(), plan, ""); err == nil || !strings.Contains(err.Error(), "the file node-1.yaml of node-1 was changed") {
		t.Error(err)
	}

	if _, err = configrollout.ReadPlan([]byte(`{"hash":"x","nodes":[{"node":"10.0.0.2"}]}`)); errs.ExitCode(err) != errs.Usage {
		t.Error(err)
	}
}

// Files belong to nodes by their names, by the hostname in them, or by the mapping.
func TestFiles(t *testing.T) {
	t.Parallel()

	text := configOf(t, machine.TypeWorker)

	s := newSite(t, text, false, "")

	for name, c := range map[string]struct {
		files configrollout.Files
		want  string
	}{
		"by name":      {configrollout.Files{"node-1.yml": text}, ""},
		"by address":   {configrollout.Files{"10.0.0.2.yaml": text}, ""},
		"talhelper":    {configrollout.Files{"prod-node-1.yaml": text}, ""},
		"by hostname":  {configrollout.Files{"x.yaml": append(slices.Clone(text), "---\napiVersion: v1alpha1\nkind: HostnameConfig\nauto: off\nhostname: node-1.example.com\n"...)}, "lines"},
		"mapped":       {configrollout.Files{"x.yaml": text, "rollout.yaml": []byte("nodes: {node-1: x.yaml}")}, ""},
		"mapped away":  {configrollout.Files{"x.yaml": text, "rollout.yaml": []byte("nodes: {node-1: y.yaml}")}, "no such file"},
		"mapped wrong": {configrollout.Files{"x.yaml": text, "rollout.yaml": []byte("nodes: {node-9: x.yaml}")}, "not a member"},
		"two":          {configrollout.Files{"node-1.yaml": text, "10.0.0.2.yaml": text}, "both the configuration of node-1"},
		"none":         {configrollout.Files{"x.yaml": text}, "no configuration of a node of this cluster"},
		"not one":      {configrollout.Files{"node-1.yaml": []byte("- x")}, "node-1.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			p := s.p
			p.Files = c.files

			_, err := p.Make(t.Context(), configrollout.Request{AllNodes: true})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestRound changes three workers: the window, the soak of the canary, the pause, and an interruption between nodes end a run
// as they do an upgrade's.
func TestRound(t *testing.T) {
	t.Parallel()

	text := configOf(t, machine.TypeWorker)
	open := func(text string) *rollout.Window {
		w, err := rollout.ParseWindow(text)
		if err != nil {
			t.Fatal(err)
		}

		return w
	}

	for name, c := range map[string]struct {
		set    func(*configrollout.Options)
		ends   time.Duration // The run is interrupted after this time; zero for not at all.
		status runbook.Status
		code   errs.Code
		done   int
		took   time.Duration // At least.
		kind   string        // Of a check that was made.
		sick   bool          // The cluster is not healthy after the canary.
	}{
		"nothing more": {set: func(*configrollout.Options) {}, status: runbook.OK, done: 3},
		// A bubble's clock begins on a Saturday at midnight, UTC.
		"outside the window": {set: func(o *configrollout.Options) { o.Window = open("Mon 02:00-05:00") }, status: runbook.Refused, code: errs.Refused},
		"passed on purpose": {set: func(o *configrollout.Options) {
			o.Window, o.Node.Overrides = open("Mon 02:00-05:00"), gate.Overrides{"TM148"}
		}, status: runbook.OK, done: 3},
		"a window that is open": {set: func(o *configrollout.Options) { o.Window, o.Pause = open("00:00-24:00"), time.Hour }, status: runbook.OK, done: 3, took: 2 * time.Hour, kind: "pause"},
		"the canary is soaked":  {set: func(o *configrollout.Options) { o.Soak = 30 * time.Minute }, status: runbook.OK, done: 3, took: 30 * time.Minute, kind: "soak"},
		"the cluster is unhealthy with it": {
			set: func(o *configrollout.Options) { o.Soak = 30 * time.Minute }, status: runbook.Halted, code: errs.Partial, done: 1, kind: "soak", sick: true,
		},
		"broken off in the soak": {
			set: func(o *configrollout.Options) { o.Soak = time.Hour }, ends: 30 * time.Minute, status: runbook.Interrupted, code: errs.Interrupted, done: 1, took: 30 * time.Minute, kind: "soak",
		},
		"broken off in the pause": {
			set: func(o *configrollout.Options) { o.Pause = time.Hour }, ends: 90 * time.Minute, status: runbook.Interrupted, code: errs.Interrupted, done: 2, took: 90 * time.Minute, kind: "pause",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, nodes := newSite(t, text, false, sysctl), map[string]*site{}
				s.p.Cluster.Members = nil
				s.p.Cluster.Health = func(context.Context, []talos.Target) ([]string, error) {
					if changed := nodes["10.0.1.2"].sent() > 0; changed && c.sick {
						return []string{"pods on node-2: pending"}, nil
					}

					return nil, nil
				}
				s.p.Cluster.Now = func() time.Time { return time.Now().UTC() }

				for _, name := range []string{"node-1", "node-2", "node-3"} {
					one := newSite(t, text, false, sysctl)
					m := one.p.Cluster.Members[0]
					m.Node, m.Hostname, m.Addresses = "10.0.1."+name[5:], name, []string{"10.0.1." + name[5:]}
					s.p.Cluster.Members, s.p.Files[name+".yaml"], nodes[m.Node] = append(s.p.Cluster.Members, m), one.p.Files["node-1.yaml"], one
				}

				s.p.Cluster.Node = func(t talos.Target) *probe.Node { return nodes[t.Address].p.Cluster.Node(t) }
				c.set(&s.o)
				s.p.Overrides = s.o.Node.Overrides

				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)

				if c.ends > 0 {
					time.AfterFunc(c.ends, func() { cancel(errs.New(errs.Interrupted, "SIGINT")) })
				}

				plan, err := s.p.Make(ctx, configrollout.Request{AllNodes: true, Canary: "node-2"})
				if err != nil {
					t.Fatal(err)
				}

				res, err := s.p.Apply(ctx, plan, s.o, progress.Discard{})
				done := 0

				for _, n := range res.Nodes {
					if n.Status == runbook.OK {
						done++
					}
				}

				if res.Status != c.status || errs.ExitCode(err) != c.code || done != c.done || len(res.Remaining) != 3-c.done || res.ElapsedSeconds < c.took.Seconds() {
					t.Errorf("%s, exit code %d, %d done, %v remain, %.0f s: %v", res.Status, errs.ExitCode(err), done, res.Remaining, res.ElapsedSeconds, err)
				}

				if c.done > 0 && res.Nodes[0].Hostname != "node-2" {
					t.Errorf("the first was %s", res.Nodes[0].Hostname)
				}

				if c.kind != "" && !slices.ContainsFunc(res.Checks, func(k rollout.Check) bool { return k.Kind == c.kind }) {
					t.Errorf("%+v", res.Checks)
				}

				sent := 0
				for _, one := range nodes {
					sent += one.sent()
				}

				if sent != c.done {
					t.Errorf("%d were sent", sent)
				}
			})
		})
	}
}
