package etcd_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/ops/etcd"
)

// TestCheckExhaustive walks every cluster of 1 to 7 voters and 0 to 2 learners, every set of unhealthy members in it,
// every operation and every target, and compares the verdict with an independent computation of the rule.
func TestCheckExhaustive(t *testing.T) {
	t.Parallel()

	cases := 0

	for voters := 1; voters <= 7; voters++ {
		for learners := range 3 {
			size := voters + learners

			for unhealthy := range 1 << size {
				members := cluster(voters, learners, unhealthy)

				for _, act := range []etcd.Act{etcd.Restart, etcd.Leave, etcd.Remove} {
					for target := range size {
						cases++

						holdsRule(t, members, act, target)
					}
				}
			}
		}
	}

	if cases < 30000 {
		t.Errorf("only %d cases", cases)
	}
}

// cluster makes members m0…; bit i of unhealthy marks member i, and the learners come last.
func cluster(voters, learners, unhealthy int) []etcd.Member {
	out := make([]etcd.Member, voters+learners)
	for i := range out {
		out[i] = etcd.Member{
			ID: fmt.Sprintf("%016x", i+1), Name: fmt.Sprintf("m%d", i), Node: fmt.Sprintf("10.0.0.%d", i+1),
			Learner: i >= voters, Healthy: unhealthy&(1<<i) == 0,
		}
	}

	return out
}

func holdsRule(t *testing.T, members []etcd.Member, act etcd.Act, target int) {
	t.Helper()

	var before, healthyBefore, after, healthyAfter, ill int

	for i, m := range members {
		if !m.Healthy && i != target && !m.Learner {
			ill++
		}

		if m.Learner {
			continue
		}

		before++

		if m.Healthy {
			healthyBefore++
		}

		if i != target || act == etcd.Restart {
			after++
		}

		if m.Healthy && i != target {
			healthyAfter++
		}
	}

	verdicts := etcd.Check(members, act, members[target].ID)
	refusals := refused(verdicts)
	voter := !members[target].Learner
	where := fmt.Sprintf("%s of %d in %+v: %+v", act, target, members, verdicts)

	quorumAfter := after > 0 && healthyAfter >= after/2+1
	lone := act == etcd.Restart && voter && before == 1

	if !quorumAfter && !lone && !anyOf(refusals, gate.EtcdQuorum, gate.LastVoter, gate.TwoMembers) {
		t.Errorf("allowed without quorum afterwards: %s", where)
	}

	if act != etcd.Restart && healthyBefore < before/2+1 && !anyOf(refusals, gate.EtcdQuorum, gate.LastVoter) {
		t.Errorf("allowed although it cannot be committed: %s", where)
	}

	committable := act == etcd.Restart || healthyBefore >= before/2+1
	if quorumAfter && committable && anyOf(refusals, gate.EtcdQuorum, gate.LastVoter) {
		t.Errorf("refused although quorum holds: %s", where)
	}

	if lone && (anyOf(refusals, gate.EtcdQuorum) || outcome(verdicts, gate.EtcdQuorum) != gate.Warn) {
		t.Errorf("the restart of a lone member must be a warning: %s", where)
	}

	if last := act != etcd.Restart && voter && before == 1; last != anyOf(refusals, gate.LastVoter) {
		t.Errorf("last voter = %v: %s", last, where)
	}

	if two := act == etcd.Restart && voter && before == 2; two != anyOf(refusals, gate.TwoMembers) {
		t.Errorf("restart in two = %v: %s", two, where)
	}

	if want := act == etcd.Remove && members[target].Healthy; want != anyOf(refusals, gate.HealthyMember) {
		t.Errorf("healthy member = %v: %s", want, where)
	}

	if want := act == etcd.Restart && voter && ill > 0; want != anyOf(refusals, gate.EtcdUnhealthy) {
		t.Errorf("another unhealthy voter = %v: %s", want, where)
	}

	for _, v := range verdicts {
		if v.Message == "" || v.Title == "" || (v.Verdict == gate.Refuse && v.Remedy == "") {
			t.Errorf("a verdict explains nothing: %+v", v)
		}
	}
}

func refused(verdicts []gate.Verdict) []gate.Code {
	var out []gate.Code

	for _, v := range verdicts {
		if v.Verdict == gate.Refuse {
			out = append(out, v.Gate)
		}
	}

	return out
}

func anyOf(codes []gate.Code, want ...gate.Code) bool {
	return slices.ContainsFunc(codes, func(c gate.Code) bool { return slices.Contains(want, c) })
}

func outcome(verdicts []gate.Verdict, code gate.Code) gate.Outcome {
	for _, v := range verdicts {
		if v.Gate == code {
			return v.Verdict
		}
	}

	return ""
}

func TestCheckSeveral(t *testing.T) {
	t.Parallel()

	ids := func(n int) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = fmt.Sprintf("%016x", i+1)
		}

		return out
	}

	for _, c := range []struct {
		name    string
		members []etcd.Member
		act     etcd.Act
		ids     []string
		refused []gate.Code
	}{
		{"two of five restart", cluster(5, 0, 0), etcd.Restart, ids(2), nil},
		{"three of five restart", cluster(5, 0, 0), etcd.Restart, ids(3), []gate.Code{gate.EtcdQuorum}},
		{"all of three restart", cluster(3, 0, 0), etcd.Restart, ids(3), []gate.Code{gate.EtcdQuorum}},
		{"both of two restart", cluster(2, 0, 0), etcd.Restart, ids(2), []gate.Code{gate.TwoMembers}},
		{"all of three leave", cluster(3, 0, 0), etcd.Leave, ids(3), []gate.Code{gate.LastVoter}},
		{"nothing is known", nil, etcd.Restart, ids(1), []gate.Code{gate.EtcdQuorum}},
		{"not a member", cluster(3, 0, 0b110), etcd.Restart, []string{"ffff"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			if got := refused(etcd.Check(c.members, c.act, c.ids...)); !slices.Equal(got, c.refused) {
				t.Errorf("refused by %v, want %v", got, c.refused)
			}
		})
	}
}

func TestCheckAlarm(t *testing.T) {
	t.Parallel()

	members := cluster(3, 0, 0)
	members[1].Alarms = []string{"nospace"}

	if got := refused(etcd.Check(members, etcd.Restart, members[0].ID)); !slices.Equal(got, []gate.Code{gate.EtcdUnhealthy}) {
		t.Errorf("restart refused by %v", got)
	}

	if got := refused(etcd.Check(members, etcd.Leave, members[0].ID)); got != nil {
		t.Errorf("leave refused by %v", got)
	}
}
