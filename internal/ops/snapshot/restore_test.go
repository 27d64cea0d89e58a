package snapshot_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/snapshot"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

func cp(n int, change func(*snapshot.RestoreNode)) snapshot.RestoreNode {
	out := snapshot.RestoreNode{Source: target.SourceMembers, Answers: true, Wipe: talos.Ephemeral, WipeFrom: "node"}
	out.SetNode(talos.Target{Address: fmt.Sprintf("10.0.0.%d", n), Hostname: fmt.Sprintf("cp-%d", n)})

	if change != nil {
		change(&out)
	}

	return out
}

func down(n *snapshot.RestoreNode) { n.Answers, n.WipeFrom = false, "assumed" }
func own(n *snapshot.RestoreNode)  { n.Wipe = talos.Etcd }

func proved(t *testing.T) snapshot.Report {
	t.Helper()

	keys, err := snapshot.KeysOf(config(t, keyBytes('s'), keyBytes('c')))
	if err != nil {
		t.Fatal(err)
	}

	r, err := snapshot.Verify(t.Context(), write(t, true, cluster(t)...), keys, "cp.yaml")
	if err != nil {
		t.Fatal(err)
	}

	r.Path = "backup.db"

	return r
}

func commands(p snapshot.RestorePlan) []string {
	return lists.Map(p.Steps, func(s snapshot.RestoreStep) string { return s.Command })
}

func TestRestorePlan(t *testing.T) {
	t.Parallel()

	healthy := etcd.View{Known: true, Members: []etcd.Member{{ID: "1", Healthy: true}, {ID: "2", Healthy: true}, {ID: "3"}}}
	lost := etcd.View{Known: true, Members: []etcd.Member{{ID: "1"}, {ID: "2"}, {ID: "3"}}}
	reset := "talosmate node reset -n %s --graceful=false --system-labels %s --reboot --override TM120,TM121,TM124 "

	for name, c := range map[string]struct {
		nodes  []snapshot.RestoreNode
		view   etcd.View
		report func(*snapshot.Report)
		flags  []string

		etcd     string
		wants    []string // In this order.
		without  string
		warnings string
		unknown  string
	}{
		"all answer": {
			nodes: []snapshot.RestoreNode{cp(2, nil), cp(1, nil), cp(3, nil)}, view: lost, etcd: "no-quorum",
			wants: []string{
				"talosmate fs cp /var/lib/etcd/member/snap/db last-state-1.db -n 10.0.0.1", fmt.Sprintf(reset, "10.0.0.1,10.0.0.2,10.0.0.3", "EPHEMERAL") + "--dry-run",
				fmt.Sprintf(reset, "10.0.0.1,10.0.0.2,10.0.0.3", "EPHEMERAL") + "--audit-log recovery.log", "talosmate bootstrap -n 10.0.0.1 --recover-from backup.db",
				"talosmate wait --for etcd=healthy -n 10.0.0.1,10.0.0.2,10.0.0.3", "talosmate etcd snapshot after-recovery.db",
			},
			without: "--recover-skip-hash-check",
		},
		"a partition of its own, on some": {
			nodes: []snapshot.RestoreNode{cp(1, own), cp(2, nil), cp(3, own)}, view: lost, etcd: "no-quorum",
			wants: []string{fmt.Sprintf(reset, "10.0.0.2", "EPHEMERAL") + "--audit-log recovery.log", fmt.Sprintf(reset, "10.0.0.1,10.0.0.3", "ETCD") + "--audit-log recovery.log"},
		},
		"one is down": {
			nodes: []snapshot.RestoreNode{cp(1, nil), cp(2, nil), cp(3, down)}, view: lost, etcd: "no-quorum",
			wants: []string{
				"", fmt.Sprintf(reset, "10.0.0.1,10.0.0.2", "EPHEMERAL") + "--audit-log recovery.log", "talosmate bootstrap -n 10.0.0.1 --recover-from backup.db",
				fmt.Sprintf(reset, "10.0.0.3", "EPHEMERAL") + "--audit-log recovery.log",
			},
			unknown: "whether etcd's data on cp-3 has a partition of its own",
		},
		"all are down": {
			nodes: []snapshot.RestoreNode{cp(1, down), cp(2, down)}, etcd: "unknown",
			wants: []string{"", fmt.Sprintf(reset, "10.0.0.1,10.0.0.2", "EPHEMERAL") + "--dry-run"}, unknown: "no member of etcd answers",
		},
		"nothing is lost yet": {
			nodes: []snapshot.RestoreNode{cp(1, nil), cp(2, nil), cp(3, nil)}, view: healthy, etcd: "quorum",
			wants: []string{"talosmate etcd snapshot before-recovery.db"}, without: "fs cp", warnings: "etcd has its quorum",
		},
		"one member, healthy": {
			nodes: []snapshot.RestoreNode{cp(1, nil)}, view: etcd.View{Known: true, Members: []etcd.Member{{ID: "1", Healthy: true}}}, etcd: "quorum", warnings: "TM123",
		},
		"a copy of a database, not decrypted": {
			nodes: []snapshot.RestoreNode{cp(1, nil)}, view: lost, etcd: "unknown",
			report: func(r *snapshot.Report) {
				r.HashState, r.Path = snapshot.HashNone, "-it's mine.db"
				r.Encryption = []snapshot.Encryption{{Status: snapshot.StatusUnchecked, Objects: 3}}
			},
			wants: []string{
				`talosmate etcd verify-snapshot './-it'\''s mine.db' --config controlplane.yaml --context prod`,
				`talosmate bootstrap -n 10.0.0.1 --recover-from './-it'\''s mine.db' --recover-skip-hash-check --context prod`,
			},
			flags: []string{"--context", "prod"}, warnings: "no trailing hash", unknown: "whether the cluster's keys decrypt",
		},
		"not restorable": {
			nodes: []snapshot.RestoreNode{cp(1, nil)}, view: lost, etcd: "unknown", without: "talosmate",
			report: func(r *snapshot.Report) { r.Restorable = false },
		},
		"no nodes": {etcd: "unknown", without: "talosmate", unknown: "name them with -n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			r := proved(t)
			r.Compare(c.view, 0, at(26))

			if c.report != nil {
				c.report(&r)
			}

			s := snapshot.NewSurvey(nil)
			s.Nodes, s.View = c.nodes, c.view
			p := s.Plan(r, c.flags...)
			lines := commands(p)

			if p.Etcd != c.etcd {
				t.Errorf("etcd: %s", p.Etcd)
			}

			rest := lines
			for _, want := range c.wants {
				i := slices.Index(rest, want)
				if i < 0 {
					t.Fatalf("%q is not next in\n%s", want, strings.Join(lines, "\n"))
				}

				rest = rest[i+1:]
			}

			if c.without != "" && strings.Contains(strings.Join(lines, "\n"), c.without) {
				t.Errorf("%q is in\n%s", c.without, strings.Join(lines, "\n"))
			}

			for got, want := range map[*[]string]string{&p.Warnings: c.warnings, &p.Unknown: c.unknown} {
				if !strings.Contains(strings.Join(*got, "\n"), want) {
					t.Errorf("%q is not in %q", want, *got)
				}
			}

			for _, step := range p.Steps {
				if loses := strings.Contains(step.Command, "--audit-log") || strings.Contains(step.Command, "--recover-from"); loses != step.Destructive {
					t.Errorf("%+v", step)
				}
			}
		})
	}
}

// What a snapshot names is asked only if it is an address.
func TestSurveyHostileAddresses(t *testing.T) {
	t.Parallel()

	s := snapshot.NewSurvey(nil)
	s.Ask(t.Context(), snapshot.FromSnapshot, []talos.Target{
		{Address: "10.0.0.1; reboot"}, {Address: "fe80::1%$(reboot)"}, {Address: "example.com"}, {Address: ""}, {Address: "10.0.0.2", Hostname: "$(reboot)"},
	})
	s.Ask(t.Context(), target.SourceEndpoints, []talos.Target{{Address: "10.0.0.2"}, {Address: "cp.example.com"}})

	if got := lists.Join(s.Nodes, " ", func(n snapshot.RestoreNode) string { return n.Node }); got != "10.0.0.2 cp.example.com" {
		t.Errorf("%q", got)
	}

	for _, line := range commands(s.Plan(proved(t))) {
		if strings.Contains(line, "$(") {
			t.Error(line)
		}
	}
}

func TestSurveyUsesConfig(t *testing.T) {
	t.Parallel()

	for volume, want := range map[string]string{
		"apiVersion: v1alpha1\nkind: VolumeConfig\nname: ETCD\nprovisioning: {diskSelector: {match: system_disk}, minSize: 10GiB}\n": talos.Etcd,
		"apiVersion: v1alpha1\nkind: VolumeConfig\nname: ETCD\n":                                                                     talos.Ephemeral,
		"apiVersion: v1alpha1\nkind: VolumeConfig\nname: EPHEMERAL\nprovisioning: {minSize: 10GiB}\n":                                talos.Ephemeral,
	} {
		s := snapshot.NewSurvey(nil)
		s.Nodes = []snapshot.RestoreNode{cp(1, down), cp(2, nil)}

		if err := s.UseConfig(append(append(config(t, keyBytes('s'), nil), "---\n"...), volume...)); err != nil {
			t.Fatal(err)
		}

		if n := s.Nodes[0]; n.Wipe != want || n.WipeFrom != "config" || s.Nodes[1].Wipe != talos.Ephemeral {
			t.Errorf("%s: %+v", volume, s.Nodes)
		}
	}

	if err := snapshot.NewSurvey(nil).UseConfig([]byte("\x00")); errs.ExitCode(err) != errs.Usage {
		t.Error(err)
	}
}

func TestReportGate(t *testing.T) {
	t.Parallel()

	plain, err := snapshot.Verify(t.Context(), write(t, true, put{key: "compact_rev_key", value: []byte("1")}), nil, "")
	if err == nil {
		t.Fatal("a snapshot without Kubernetes is restorable")
	}

	wrong, err := snapshot.KeysOf(config(t, keyBytes('x'), nil))
	if err != nil {
		t.Fatal(err)
	}

	path := write(t, true, cluster(t)...)
	unreadable, _ := snapshot.Verify(t.Context(), path, wrong, "cp-1")
	unchecked, _ := snapshot.Verify(t.Context(), path, nil, "")
	whole := proved(t)

	rewrite(t, path, []byte("short"))

	damaged, _ := snapshot.Verify(t.Context(), path, nil, "")

	for _, c := range []struct {
		report  snapshot.Report
		verdict gate.Outcome
		says    string
	}{
		{whole, gate.Pass, "10 objects of Kubernetes"},
		{plain, gate.Warn, "no key is beneath"},
		{unchecked, gate.Warn, "the 2 encrypted objects"},
		{unreadable, gate.Refuse, "key2 of secretbox"},
		{damaged, gate.Refuse, "would not restore"},
	} {
		if v := c.report.Gate(); v.Verdict != c.verdict || v.Gate != gate.SnapshotUnusable || !strings.Contains(v.Message, c.says) {
			t.Errorf("%+v, want %s with %q", v, c.verdict, c.says)
		}
	}
}
