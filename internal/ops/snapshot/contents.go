// Package snapshot proves that a snapshot of etcd restores: its file is whole, it holds a Kubernetes cluster, and the
// cluster's keys decrypt it.
package snapshot

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
)

// Kind is how much there is of one kind of objects.
type Kind struct {
	Resource   string `json:"resource"`              // The resource as kube-apiserver stores it: secrets, services/specs, minions (nodes), GROUP/RESOURCE.
	Kind       string `json:"kind,omitempty"`        // Its kind; absent where no object of it could be read.
	APIVersion string `json:"api_version,omitempty"` // The version that it is stored as; absent with the kind.
	Objects    int    `json:"objects"`               // The objects of this kind.
	SizeBytes  int64  `json:"size_bytes"`            // Their size, keys included.
}

// Namespace is a namespace that the snapshot has.
type Namespace struct {
	Name    string `json:"name"`    // Its name.
	Objects int    `json:"objects"` // The objects in it.
}

// Contents is what of Kubernetes is in a snapshot.
type Contents struct {
	Objects    int         `json:"objects"`              // The objects of Kubernetes.
	OtherKeys  int         `json:"other_keys"`           // The keys outside of /registry/, and those of kube-apiserver's own records.
	Kinds      []Kind      `json:"kinds"`                // The kinds, the most frequent first.
	Namespaces []Namespace `json:"namespaces"`           // The namespaces.
	Leases     int         `json:"leases"`               // The leases of etcd (not those of Kubernetes).
	Leased     int         `json:"leased"`               // The keys that end with a lease: events and records of API servers.
	Newest     *time.Time  `json:"newest,omitempty"`     // When the newest object was created; absent where no object could be read.
	NewestOf   string      `json:"newest_of,omitempty"`  // That object's key.
	Incomplete bool        `json:"incomplete,omitempty"` // More kinds or namespaces than are listed.
}

// What Kubernetes writes (k8s.io/apiserver, storage and serializer): a prefix for all keys, one for protobuf, and one for
// what is encrypted.
const (
	registry        = "/registry/"
	protobufMagic   = "k8s\x00"
	encryptedPrefix = "k8s:enc:"

	maxKinds      = 5000
	maxNamespaces = 20000
	maxName       = 253 // of an object, a namespace or a resource
	maxDecoded    = 16 << 20
)

// tally counts objects. Names from the file are cut, and so is the number of them: a file cannot make it grow.
type tally struct {
	out        Contents
	kinds      map[string]*Kind
	namespaces map[string]*Namespace
}

func newTally() *tally {
	return &tally{kinds: map[string]*Kind{}, namespaces: map[string]*Namespace{}}
}

// place is where an object is stored.
type place struct {
	resource, namespace, name string
}

func (p place) String() string {
	if p.namespace == "" {
		return p.resource + "/" + p.name
	}

	return p.resource + "/" + p.namespace + "/" + p.name
}

// placeOf takes a key apart; ok is false for a key that is not an object's. Groups of custom resources stand before
// the resource, and contain a dot; services are stored beneath two names; addresses and ranges are records.
func placeOf(key []byte) (p place, ok bool) {
	rest, ok := strings.CutPrefix(string(key[:min(len(key), 4*maxName)]), registry)
	parts := strings.Split(rest, "/")

	for i := range parts {
		parts[i] = parts[i][:min(len(parts[i]), maxName)]
	}

	if !ok || len(parts) < 2 || parts[0] == "masterleases" || parts[0] == "peerserverleases" || parts[0] == "ranges" || parts[0] == "health" {
		return p, false
	}

	p.resource, parts = parts[0], parts[1:]
	if len(parts) > 1 && (strings.Contains(p.resource, ".") || p.resource == "services") {
		p.resource, parts = p.resource+"/"+parts[0], parts[1:]
	}

	p.name = parts[len(parts)-1]
	if len(parts) > 1 {
		p.namespace = parts[0]
	}

	return p, true
}

// add counts an object. value is what could be read of it, nil if it is encrypted and no key reads it.
func (t *tally) add(p place, e etcd.Entry, value []byte) {
	t.out.Objects++

	k := t.kinds[p.resource]
	if k == nil && len(t.kinds) < maxKinds {
		k = &Kind{Resource: p.resource}
		t.kinds[p.resource] = k
	}

	t.out.Incomplete = t.out.Incomplete || k == nil

	about := describe(value)

	if k != nil {
		k.Objects++
		k.SizeBytes += int64(len(e.Key) + len(e.Value))

		if k.Kind == "" {
			k.Kind, k.APIVersion = about.kind, about.version
		}
	}

	if created := about.created; !created.IsZero() && (t.out.Newest == nil || created.After(*t.out.Newest)) {
		t.out.Newest, t.out.NewestOf = &created, p.String()
	}

	name, count := p.namespace, 1
	if p.resource == "namespaces" {
		name, count = p.name, 0
	}

	if name != "" {
		t.namespace(name, count)
	}
}

func (t *tally) namespace(name string, count int) {
	n := t.namespaces[name]

	if n == nil {
		if len(t.namespaces) == maxNamespaces {
			t.out.Incomplete = true

			return
		}

		n = &Namespace{Name: strings.Clone(name)}
		t.namespaces[n.Name] = n
	}

	n.Objects += count
}

func (t *tally) contents() Contents {
	t.out.Kinds, t.out.Namespaces = []Kind{}, []Namespace{}

	for _, k := range t.kinds {
		t.out.Kinds = append(t.out.Kinds, *k)
	}

	for _, n := range t.namespaces {
		t.out.Namespaces = append(t.out.Namespaces, *n)
	}

	lists.Sort(t.out.Kinds, func(a, b Kind) int { return cmp.Or(b.Objects-a.Objects, strings.Compare(a.Resource, b.Resource)) })
	lists.Sort(t.out.Namespaces, func(a, b Namespace) int { return strings.Compare(a.Name, b.Name) })

	return t.out
}

// about is what a stored object says of itself.
type about struct {
	kind, version string
	created       time.Time
}

// describe reads the type and the creation time of an object; what cannot be read stays empty.
func describe(value []byte) (a about) {
	if len(value) > maxDecoded {
		return a
	}

	if raw, ok := bytes.CutPrefix(value, []byte(protobufMagic)); ok { // runtime.Unknown: the type, then the object
		head := field(raw, 1)
		a.version, a.kind = string(field(head, 1)), string(field(head, 2))

		// The metadata is the first field of every object that has it, the time the eighth of it, its seconds the first.
		if at := field(field(field(raw, 2), 1), 8); at != nil {
			a.created = moment(at)
		}
	} else if len(value) > 0 && value[0] == '{' {
		var object struct {
			Kind       string `json:"kind"`
			APIVersion string `json:"apiVersion"`
			Metadata   struct {
				CreationTimestamp time.Time `json:"creationTimestamp"`
			} `json:"metadata"`
		}

		if json.Unmarshal(value, &object) == nil {
			a = about{object.Kind, object.APIVersion, object.Metadata.CreationTimestamp.UTC()}
		}
	}

	a.kind, a.version = a.kind[:min(len(a.kind), maxName)], a.version[:min(len(a.version), maxName)]

	return a
}

// moment reads a time of Kubernetes. One outside of four digits of years is none: JSON cannot show it.
func moment(message []byte) time.Time {
	const lastSecond = 253402300799

	number, kind, n := protowire.ConsumeTag(message)
	if n < 0 || number != 1 || kind != protowire.VarintType {
		return time.Time{}
	}

	seconds, n := protowire.ConsumeVarint(message[n:])
	if n < 0 || seconds > lastSecond {
		return time.Time{}
	}

	return time.Unix(int64(seconds), 0).UTC()
}

// field is the first field of a message with a number and the type bytes; nil if there is none.
func field(message []byte, want protowire.Number) []byte {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil
		}

		message = message[n:]

		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return nil
		}

		if number == want && kind == protowire.BytesType {
			out, _ := protowire.ConsumeBytes(message)

			return out
		}

		message = message[n:]
	}

	return nil
}
