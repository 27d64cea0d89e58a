package talos

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/poll"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// EtcdID is an etcd member ID. It has 64 bits, more than a JSON number can hold, so documents have it as text: in hex,
// as etcdctl prints it, and in decimal.
type EtcdID uint64

// Hex is the ID as talosctl and etcdctl print it.
func (id EtcdID) Hex() string { return fmt.Sprintf("%016x", uint64(id)) }

// Decimal is the ID as a decimal number.
func (id EtcdID) Decimal() string { return strconv.FormatUint(uint64(id), 10) }

// ParseEtcdID reads a hex or decimal ID. Sixteen digits that could be both are hex, as etcdctl prints
// them; 0x forces hex.
func ParseEtcdID(s string) (EtcdID, bool) {
	if after, ok := strings.CutPrefix(s, "0x"); ok {
		v, err := strconv.ParseUint(after, 16, 64)

		return EtcdID(v), err == nil
	}

	if len(s) == 16 || strings.ContainsAny(s, "abcdefABCDEF") {
		if v, err := strconv.ParseUint(s, 16, 64); err == nil {
			return EtcdID(v), true
		}
	}

	v, err := strconv.ParseUint(s, 10, 64)

	return EtcdID(v), err == nil
}

// EtcdMember is a member as one node's etcd lists it.
type EtcdMember struct {
	NodeRef

	ID         string   `json:"id"`          // The member ID in hex.
	IDDecimal  string   `json:"id_decimal"`  // The same ID in decimal.
	MemberName string   `json:"member_name"` // The member's name, by default the node's hostname.
	PeerURLs   []string `json:"peer_urls"`   // Where other members reach it.
	ClientURLs []string `json:"client_urls"` // Where clients reach it.
	Learner    bool     `json:"learner"`     // Whether it is a learner, which does not vote.
}

// Address is the address under which the member's peers know it: the host of its first peer URL.
func (m EtcdMember) Address() string {
	for _, raw := range append(slices.Clone(m.PeerURLs), m.ClientURLs...) {
		if u, err := url.Parse(raw); err == nil && u.Hostname() != "" {
			return u.Hostname()
		}
	}

	return ""
}

// Why a member cannot answer, as errors.Is finds it.
var (
	errNoEtcd   = errors.New("its etcd does not run")
	errNoLeader = errors.New("etcdserver: no leader") // As etcd says it, which the client of etcd in Talos takes for a moment's failure.
)

// How long the node's own member may be silent before the node is asked why, and how long a member without a leader may
// take to elect one.
const (
	etcdPatience  = 500 * time.Millisecond
	electionPoll  = 500 * time.Millisecond
	electionLimit = 3 * time.Second
)

// ofOwnEtcd makes a read of the node's own member one that ends as soon as it is known that the member cannot answer.
// Talos's client of etcd waits for a connection and for a leader as long as the caller does (etcd's clientv3 sets
// grpc.WaitForReady, and repeats a read that found no leader), so that it would end with the deadline, as if the node were silent.
func (n *Node) ofOwnEtcd(read func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)

		asks := time.AfterFunc(etcdPatience, func() {
			if err := n.etcdTrouble(ctx); err != nil {
				cancel(err)
			}
		})
		defer asks.Stop()

		err := read(ctx)
		if cause := context.Cause(ctx); err != nil && (errors.Is(cause, errNoEtcd) || errors.Is(cause, errNoLeader)) {
			return cause
		}

		return err
	}
}

// etcdTrouble is why the node's member cannot answer, nil if it can or if that is not known.
func (n *Node) etcdTrouble(ctx context.Context) error {
	s, err := n.Service(ctx, "etcd")
	if err != nil {
		return nil //nolint:nilerr // not known
	}

	if s.State != serviceRunning {
		return &errs.Error{
			Exit: errs.Failed, Kind: errs.KindPrecondition,
			Err:  fmt.Errorf("%w: it is %s", errNoEtcd, s.State),
			Hint: "talosmate service info etcd -n " + n.Whole().Name(),
		}
	}

	leaderless := false
	err = poll.Until(ctx, "a leader", electionPoll, electionLimit, func(ctx context.Context) (bool, string, error) {
		m, err := first(n.machine().EtcdStatus(ctx, &emptypb.Empty{}))
		if err == nil {
			leaderless = m.GetMemberStatus().GetLeader() == 0
		}

		return err == nil && !leaderless, "", nil
	})

	if err == nil || !leaderless || !errors.Is(err, poll.ErrDeadline) {
		return nil //nolint:nilerr // it has one, or that is not known
	}

	return &errs.Error{Exit: errs.Failed, Kind: errs.KindPrecondition, Err: errNoLeader, Hint: "talosmate etcd status"}
}

// memberTries is how often any member is asked for the list before a learner's refusal is the answer.
const memberTries = 5

// EtcdMembers lists the members. local asks the node's own member; otherwise any control plane's member may answer.
// Roles: reader, operator, admin, etcd:backup.
func (n *Node) EtcdMembers(ctx context.Context, local bool) ([]EtcdMember, error) {
	var m *machine.EtcdMembers

	ask := func(ctx context.Context) (err error) {
		m, err = first(n.machine().EtcdMemberList(ctx, &machine.EtcdMemberListRequest{QueryLocal: local}))

		return err
	}

	if local {
		ask = n.ofOwnEtcd(ask)
	}

	err := ask(ctx)

	// The member that answers is a random one, and a learner refuses.
	for tries := 1; !local && tries < memberTries && conn.EtcdLearner(err); tries++ {
		err = ask(ctx)
	}

	if err != nil {
		return nil, n.Fail("list etcd members", err)
	}

	out := lists.Map(m.GetMembers(), func(e *machine.EtcdMember) EtcdMember {
		return EtcdMember{
			ID: EtcdID(e.GetId()).Hex(), IDDecimal: EtcdID(e.GetId()).Decimal(), MemberName: e.GetHostname(),
			PeerURLs: append([]string{}, e.GetPeerUrls()...), ClientURLs: append([]string{}, e.GetClientUrls()...),
			Learner: e.GetIsLearner(),
		}
	})

	lists.Sort(out, func(a, b EtcdMember) int { return strings.Compare(a.ID, b.ID) })

	return out, nil
}

// EtcdStatus is the state of one member.
type EtcdStatus struct {
	NodeRef

	ID               string   `json:"id"`              // The member ID in hex.
	IDDecimal        string   `json:"id_decimal"`      // The same ID in decimal.
	Version          string   `json:"version"`         // The etcd server version.
	StorageVersion   string   `json:"storage_version"` // The version of its storage schema.
	DBSizeBytes      int64    `json:"db_size_bytes"`   // The size of the database file.
	DBInUseBytes     int64    `json:"db_in_use_bytes"` // How much of it holds data.
	Fragmentation    float64  `json:"fragmentation"`   // The free part of the file, 0 to 1, which defragmentation would return.
	Leader           bool     `json:"leader"`          // Whether this member is the leader.
	LeaderID         string   `json:"leader_id"`       // The leader's ID in hex; zeros for none.
	RaftTerm         uint64   `json:"raft_term"`       // The raft term.
	RaftIndex        uint64   `json:"raft_index"`      // The last raft index that the member has.
	RaftAppliedIndex uint64   `json:"raft_applied"`    // The last raft index that it has applied.
	RaftLag          uint64   `json:"raft_lag"`        // How far it is behind the most advanced member that answered, asked again if it looked behind.
	Learner          bool     `json:"learner"`         // Whether it is a learner.
	Errors           []string `json:"member_errors"`   // The errors that the member reports; never null.
	Alarms           []string `json:"alarms"`          // Its active alarms: nospace, corrupt; never null.
	Members          []string `json:"members"`         // The member IDs in its own member list, empty when that could not be read; never null.
	Error            string   `json:"error,omitempty"` // Why the member gave no status; what is known of it then is its ID and its alarms.
}

// EtcdStatus asks the node's own member. Roles: reader, operator, admin, etcd:backup.
func (n *Node) EtcdStatus(ctx context.Context) (EtcdStatus, error) {
	var m *machine.EtcdStatus

	err := n.ofOwnEtcd(func(ctx context.Context) (err error) {
		m, err = first(n.machine().EtcdStatus(ctx, &emptypb.Empty{}))

		return err
	})(ctx)
	if err != nil {
		return EtcdStatus{}, n.Fail("read the etcd status", err)
	}

	s := m.GetMemberStatus()
	out := EtcdStatus{
		ID: EtcdID(s.GetMemberId()).Hex(), IDDecimal: EtcdID(s.GetMemberId()).Decimal(), Version: s.GetProtocolVersion(),
		StorageVersion: s.GetStorageVersion(), DBSizeBytes: s.GetDbSize(), DBInUseBytes: s.GetDbSizeInUse(),
		Leader: s.GetLeader() != 0 && s.GetLeader() == s.GetMemberId(), LeaderID: EtcdID(s.GetLeader()).Hex(),
		RaftTerm: s.GetRaftTerm(), RaftIndex: s.GetRaftIndex(), RaftAppliedIndex: s.GetRaftAppliedIndex(),
		Learner: s.GetIsLearner(), Errors: append([]string{}, s.GetErrors()...),
		Alarms: []string{}, Members: []string{},
	}

	if out.DBSizeBytes > 0 {
		out.Fragmentation = float64(out.DBSizeBytes-out.DBInUseBytes) / float64(out.DBSizeBytes)
	}

	return out, nil
}

// EtcdAlarm is an active alarm of a member.
type EtcdAlarm struct {
	NodeRef

	ID        string `json:"id"`         // The member ID in hex.
	IDDecimal string `json:"id_decimal"` // The same ID in decimal.
	Alarm     string `json:"alarm"`      // nospace or corrupt.
}

// EtcdAlarms lists the active alarms that the node's member knows. Roles: reader, operator, admin,
// etcd:backup.
func (n *Node) EtcdAlarms(ctx context.Context) ([]EtcdAlarm, error) {
	var m *machine.EtcdAlarm

	err := n.ofOwnEtcd(func(ctx context.Context) (err error) {
		m, err = first(n.machine().EtcdAlarmList(ctx, &emptypb.Empty{}))

		return err
	})(ctx)
	if err != nil {
		return nil, n.Fail("list etcd alarms", err)
	}

	out := []EtcdAlarm{}

	for _, a := range m.GetMemberAlarms() {
		if a.GetAlarm() == machine.EtcdMemberAlarm_NONE {
			continue
		}

		out = append(out, EtcdAlarm{
			ID: EtcdID(a.GetMemberId()).Hex(), IDDecimal: EtcdID(a.GetMemberId()).Decimal(), Alarm: strings.ToLower(a.GetAlarm().String()),
		})
	}

	return out, nil
}
