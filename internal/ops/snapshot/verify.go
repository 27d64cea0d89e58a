package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kballard/go-shellquote"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
)

// Whether the hash that etcd appends to a snapshot was right.
const (
	HashVerified = "verified" // It was.
	HashNone     = "none"     // The file is a copy of a database, which has none.
	HashWrong    = "wrong"    // The content was changed since etcd streamed it.
	HashUnknown  = "unknown"  // The file is too short to say.
)

// Codes of problems.
const (
	Truncated        = "truncated"          // The file ends before the database does.
	WrongHash        = "wrong-hash"         // The content differs from what etcd streamed.
	Damaged          = "damaged"            // It is not an etcd database, or one with damaged pages.
	NoKubernetesKeys = "no-kubernetes-keys" // It holds no objects of Kubernetes.
	WrongKey         = "wrong-key"          // A key does not decrypt what was encrypted under its name.
	NoKey            = "no-key"             // Objects are encrypted with a key that the configuration does not have.
	PlainRefused     = "plain-refused"      // Objects are not encrypted, and the configuration does not allow that.
)

// Problem is a reason why a snapshot would not restore.
type Problem struct {
	Code    string `json:"code"`    // truncated, wrong-hash, damaged, no-kubernetes-keys, wrong-key, no-key or plain-refused.
	Message string `json:"message"` // What is wrong.
}

// Statuses of encrypted objects.
const (
	StatusDecrypted = "decrypted"
	StatusPlain     = "plain"
	StatusUnchecked = "unchecked"
)

// Encryption is how the objects of one resource are encrypted.
type Encryption struct {
	Resource string   `json:"resource"`           // The resource as it is stored: secrets.
	Provider string   `json:"provider"`           // secretbox, aescbc, aesgcm, kms, or identity for what is not encrypted.
	Key      string   `json:"key,omitempty"`      // The name of the key, as the objects have it.
	Status   string   `json:"status"`             // decrypted, wrong-key, no-key, plain, plain-refused, or unchecked: without keys, or by a key service.
	Objects  int      `json:"objects"`            // The objects.
	Examples []string `json:"examples,omitempty"` // The first objects that cannot be read, as NAMESPACE/NAME.
}

// Report is what is known of a snapshot.
type Report struct {
	etcd.Snapshot

	HashState  string       `json:"hash_state"`          // verified, none (the file is a copy of a database), wrong or unknown (the file is cut off).
	Restorable bool         `json:"restorable"`          // Whether no problem was found; what encryption lists as unchecked was not decrypted.
	Problems   []Problem    `json:"problems"`            // Why it would not restore.
	Contents   *Contents    `json:"contents,omitempty"`  // What of Kubernetes is in it; absent if it cannot be read.
	Members    []etcd.Seat  `json:"members"`             // The members of the etcd that it was taken from.
	Encryption []Encryption `json:"encryption"`          // How Secrets and whatever else is encrypted are stored.
	KeysFrom   string       `json:"keys_from,omitempty"` // The file or the node that the keys are from; absent without keys.
	KeyNames   []string     `json:"key_names,omitempty"` // The keys, as PROVIDER:NAME.
	Live       *Live        `json:"live,omitempty"`      // How it compares with the cluster, with --live.

	applied uint64
}

const (
	maxExamples    = 20
	maxEncryptions = 1000
	others         = "others" // What there are too many of to be listed.
)

// Verify reads a whole snapshot. keys may be nil: what is encrypted is not checked then. The report is valid even on
// error. The error is a usage error for a file that cannot be read, and has exit code 3 for a snapshot that would not
// restore.
func Verify(ctx context.Context, path string, keys *Keys, keysFrom string) (Report, error) {
	v := &verifier{keys: keys, tally: newTally(), index: map[string]int{}}
	out := Report{Problems: []Problem{}, Encryption: []Encryption{}, Members: []etcd.Seat{}, KeysFrom: keysFrom}

	if keys != nil {
		out.KeyNames = keys.Names()
	}

	snap, db, err := etcd.InspectEntries(ctx, path, v.visit)
	out.Snapshot = snap
	out.HashState = hashState(snap, err)

	switch code := errs.ExitCode(err); {
	case code == errs.Negative:
		out.Problems = append(out.Problems, problemOf(err))
	case err != nil:
		return out, err
	default:
		contents := v.tally.contents()
		contents.Leases = db.Leases
		out.Contents, out.applied, out.Members = &contents, db.AppliedIndex, append(out.Members, db.Members...)
		out.Encryption = append(out.Encryption, v.rows...)
		lists.Sort(out.Encryption, func(a, b Encryption) int {
			return strings.Compare(a.Resource+"\x00"+a.Provider+"\x00"+a.Key+"\x00"+a.Status, b.Resource+"\x00"+b.Provider+"\x00"+b.Key+"\x00"+b.Status)
		})
		out.judge()
	}

	out.Restorable = len(out.Problems) == 0

	return out, out.verdict()
}

func hashState(s etcd.Snapshot, err error) string {
	switch {
	case s.HashVerified:
		return HashVerified
	case errors.Is(err, etcd.ErrHash):
		return HashWrong
	case err != nil:
		return HashUnknown
	default:
		return HashNone
	}
}

func problemOf(err error) Problem {
	p := Problem{Damaged, err.Error()}

	switch {
	case errors.Is(err, etcd.ErrHash):
		p.Code = WrongHash
	case errors.Is(err, etcd.ErrTruncated):
		p.Code = Truncated
	}

	return p
}

// judge notes why a snapshot that can be read would not restore.
func (r *Report) judge() {
	if r.Contents.Objects == 0 {
		r.Problems = append(r.Problems, Problem{NoKubernetesKeys, "it has no objects of Kubernetes: no key is beneath " + registry})
	}

	for _, e := range r.Encryption {
		var what string

		switch e.Status {
		case WrongKey:
			what = fmt.Sprintf("the key %s of %s does not decrypt them", e.Key, e.Provider)
		case NoKey:
			what = fmt.Sprintf("they are encrypted with the key %s of %s, which the configuration does not have", e.Key, e.Provider)
		case PlainRefused:
			what = "they are not encrypted, and the configuration lets kube-apiserver read only what is"
		default:
			continue
		}

		r.Problems = append(r.Problems, Problem{e.Status, fmt.Sprintf("%s (%d): %s", e.Resource, e.Objects, what)})
	}
}

// verdict is the error about a snapshot that would not restore.
func (r *Report) verdict() error {
	if r.Restorable {
		return nil
	}

	// With a damaged file the message names the file already.
	message := lists.Map(r.Problems, func(p Problem) string { return p.Message })
	if r.Contents == nil {
		return errs.New(errs.Negative, "%s", message[0]).WithKind(errs.KindInvalid)
	}

	return errs.New(errs.Negative, "the snapshot %s would not restore: %s", r.Path, strings.Join(message, "; ")).WithKind(errs.KindInvalid)
}

// Gate refuses what relies on a snapshot that would not restore (TM164). One without objects of Kubernetes is a warning:
// that may be what the cluster has.
func (r *Report) Gate() gate.Verdict {
	unchecked := r.Unchecked()

	switch severe := lists.Filter(r.Problems, func(p Problem) bool { return p.Code != NoKubernetesKeys }); {
	case len(severe) > 0:
		return gate.New(gate.SnapshotUnusable, gate.Refuse, "", "the snapshot %s would not restore: %s", r.Path,
			lists.Join(severe, "; ", func(p Problem) string { return p.Message })).WithRemedy("`talosmate etcd verify-snapshot %s` says more", shellquote.Join(r.Path))
	case len(r.Problems) > 0:
		return gate.New(gate.SnapshotUnusable, gate.Warn, "", "the snapshot %s: %s", r.Path, r.Problems[0].Message)
	case unchecked > 0 && r.KeysFrom == "":
		return gate.New(gate.SnapshotUnusable, gate.Warn, "", "whether the cluster's keys decrypt the %d encrypted objects of the snapshot %s is not known", unchecked, r.Path)
	default:
		return gate.New(gate.SnapshotUnusable, gate.Pass, "", "the snapshot restores: revision %d, %d objects of Kubernetes", r.Revision, r.Contents.Objects)
	}
}

// Unchecked is the number of encrypted objects that were not decrypted: without keys, or by a key service.
func (r *Report) Unchecked() (n int) {
	for _, e := range r.Encryption {
		if e.Status == StatusUnchecked {
			n += e.Objects
		}
	}

	return n
}

type verifier struct {
	keys  *Keys
	tally *tally
	rows  []Encryption
	index map[string]int // Rows by what they are about.
}

func (v *verifier) visit(e etcd.Entry) error {
	if e.Lease != 0 {
		v.tally.out.Leased++
	}

	p, ok := placeOf(e.Key)
	if !ok {
		v.tally.out.OtherKeys++

		return nil
	}

	value := e.Value

	s, encrypted := sealedOf(e.Value)
	if encrypted {
		value = v.decrypt(p, s, e.Key)
	} else if p.resource == "secrets" || (v.keys != nil && !v.keys.plainAllowed(p)) {
		status := StatusPlain
		if v.keys != nil && !v.keys.plainAllowed(p) {
			status = PlainRefused
		}

		v.note(p, Encryption{Resource: p.resource, Provider: "identity", Status: status})
	}

	v.tally.add(p, e, value)

	return nil
}

// decrypt notes whether an object is decrypted, and returns it; nil if it is not.
func (v *verifier) decrypt(p place, s sealed, path []byte) []byte {
	row := Encryption{Resource: p.resource, Provider: s.provider, Key: s.key, Status: StatusUnchecked}

	if v.keys == nil {
		v.note(p, row)

		return nil
	}

	plain, err := v.keys.open(s, bytes.Clone(path))

	switch {
	case err == nil:
		row.Status = StatusDecrypted
	case errors.Is(err, errWrongKey):
		row.Status = WrongKey
	case errors.Is(err, errNoKey):
		row.Status = NoKey
	}

	v.note(p, row)

	return plain
}

// note counts an object. What there is no room for has one row for each status, so that no problem is lost.
func (v *verifier) note(p place, row Encryption) {
	id := func() string { return row.Resource + "\x00" + row.Provider + "\x00" + row.Key + "\x00" + row.Status }

	i, ok := v.index[id()]
	if !ok && len(v.rows) >= maxEncryptions {
		v.tally.out.Incomplete = true
		row.Resource, row.Provider, row.Key = others, others, others
		i, ok = v.index[id()]
	}

	if !ok {
		i = len(v.rows)
		v.rows = append(v.rows, row)
		v.index[id()] = i
	}

	v.rows[i].Objects++

	if s := row.Status; (s == WrongKey || s == NoKey || s == PlainRefused) && len(v.rows[i].Examples) < maxExamples {
		v.rows[i].Examples = append(v.rows[i].Examples, strings.TrimPrefix(p.namespace+"/"+p.name, "/"))
	}
}
