package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/talosmate/talosmate/lab/internal/cluster"
	"github.com/talosmate/talosmate/lab/internal/images"
)

// anyEtcd connects to a running member.
func (s *Server) anyEtcd(ctx context.Context) (*clientv3.Client, error) {
	for _, m := range s.cluster.Members() {
		if m.Etcd != nil && m.Etcd.Running() {
			return m.Etcd.ClientTo(ctx, m.EtcdMembers(false))
		}
	}

	return nil, errors.New("no etcd member runs")
}

func (s *Server) etcdAlarm(ctx context.Context, m *cluster.Member, r Request) (any, error) {
	client, err := m.LocalEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck

	_, self, err := m.Etcd.Leader()
	if err != nil {
		return nil, err
	}

	req := &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: self}

	switch kind := strings.ToUpper(r.Params["alarm"]); kind {
	case "NOSPACE":
		req.Alarm = etcdserverpb.AlarmType_NOSPACE
	case "CORRUPT":
		req.Alarm = etcdserverpb.AlarmType_CORRUPT
	case "NONE":
		_, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{})

		return done{err == nil}, err
	default:
		return nil, fmt.Errorf("want NOSPACE, CORRUPT or none, not %q", r.Params["alarm"])
	}

	_, err = etcdserverpb.NewMaintenanceClient(client.ActiveConnection()).Alarm(ctx, req)

	return done{err == nil}, err
}

func (s *Server) etcdMoveLeader(ctx context.Context, m *cluster.Member, _ Request) (any, error) {
	if m.Etcd == nil {
		return nil, errors.New("the node runs no etcd")
	}

	leader, self, err := m.Etcd.Leader()
	if err != nil {
		return nil, err
	}

	if leader == self {
		return done{true}, nil
	}

	for _, other := range s.cluster.Members() {
		if other.Etcd == nil {
			continue
		}

		if _, id, err := other.Etcd.Leader(); err != nil || id != leader {
			continue
		}

		client, err := other.Etcd.Client(ctx)
		if err != nil {
			return nil, err
		}
		defer client.Close() //nolint:errcheck

		if _, err := client.MoveLeader(ctx, self); err != nil {
			return nil, err
		}

		return done{true}, nil
	}

	return nil, errors.New("the leader is not one of the lab's nodes")
}

func (s *Server) etcdUnhealthy(_ context.Context, m *cluster.Member, r Request) (any, error) {
	on, err := onOff(r)
	if err != nil {
		return nil, err
	}

	err = m.SetEtcdDown(on)

	return done{err == nil}, err
}

func (s *Server) etcdSkew(_ context.Context, m *cluster.Member, r Request) (any, error) {
	on, err := onOff(r)
	if err != nil {
		return nil, err
	}

	m.SetMemberListSkew(on)

	return done{true}, nil
}

// Leader is the answer of ctl etcd leader.
type Leader struct {
	Node string `json:"node"`
	ID   string `json:"id"`
}

func (s *Server) etcdLeader(context.Context, Request) (any, error) {
	for _, m := range s.cluster.Members() {
		if m.Etcd == nil {
			continue
		}

		if leader, self, err := m.Etcd.Leader(); err == nil && leader == self && leader != 0 {
			return Leader{Node: m.Name, ID: fmt.Sprintf("%016x", leader)}, nil
		}
	}

	return nil, errors.New("there is no leader")
}

// fillValue is the size of each value ctl etcd fill writes.
const fillValue = 512 << 10

func (s *Server) etcdFill(ctx context.Context, r Request) (any, error) {
	size, err := number(r, "bytes", 0)
	if err != nil {
		return nil, err
	}

	client, err := s.anyEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck

	objects, err := number(r, "objects", 0)
	if err != nil {
		return nil, err
	}

	if objects > 0 {
		return fillObjects(ctx, client, objects, size)
	}

	var written int64

	value := bytes.Repeat([]byte{'x'}, fillValue)

	for i := 0; written < size; i++ {
		n := min(int64(fillValue), size-written)
		key := fmt.Sprintf("/lab/fill/%d/%08d", time.Now().UnixNano(), i)

		if r.Params["overwrite"] == "true" {
			key = "/lab/fill/same"
		}

		if _, err := client.Put(ctx, key, string(value[:n])); err != nil {
			return map[string]any{"written": written, "error": err.Error()}, nil
		}

		written += n
	}

	return map[string]any{"written": written}, nil
}

// fillAtOnce is how many objects one transaction writes; etcd takes 128.
const fillAtOnce = 100

// fillObjects writes as many keys as Kubernetes has for that many objects, with size bytes of values in all.
func fillObjects(ctx context.Context, client *clientv3.Client, objects, size int64) (any, error) {
	value := strings.Repeat("x", int(max(1, size/objects)))

	for i := int64(0); i < objects; {
		var puts []clientv3.Op

		for ; i < objects && len(puts) < fillAtOnce; i++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("/registry/configmaps/namespace-%d/object-%d", i%200, i), value))
		}

		if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
			return nil, err
		}
	}

	return map[string]any{"written": objects * int64(len(value))}, nil
}

func (s *Server) etcdPut(ctx context.Context, r Request) (any, error) {
	client, err := s.anyEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck

	resp, err := client.Put(ctx, r.Params["key"], r.Params["value"])
	if err != nil {
		return nil, err
	}

	return map[string]any{"revision": resp.Header.Revision}, nil
}

func (s *Server) etcdGet(ctx context.Context, r Request) (any, error) {
	client, err := s.anyEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck

	resp, err := client.Get(ctx, r.Params["key"])
	if err != nil {
		return nil, err
	}

	out := map[string]any{"found": len(resp.Kvs) > 0, "revision": resp.Header.Revision}
	if len(resp.Kvs) > 0 {
		out["value"] = string(resp.Kvs[0].Value)
	}

	return out, nil
}

// Key is one key in the answer of ctl etcd dump.
type Key struct {
	Key            string `json:"key"`
	ValueSHA256    string `json:"value_sha256"`
	SizeBytes      int    `json:"size_bytes"`
	CreateRevision int64  `json:"create_revision"`
	ModRevision    int64  `json:"mod_revision"`
	Version        int64  `json:"version"`
}

// etcdDump reads every key from the node's own member, not from the others.
func (s *Server) etcdDump(ctx context.Context, m *cluster.Member, _ Request) (any, error) {
	client, err := m.LocalEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck

	const page = 64 // values of fill have half a MiB

	out := []Key{}

	for from := "\x00"; ; {
		resp, err := client.Get(ctx, from, clientv3.WithFromKey(), clientv3.WithSerializable(), clientv3.WithLimit(page))
		if err != nil {
			return nil, err
		}

		for _, kv := range resp.Kvs {
			out = append(out, Key{
				Key: string(kv.Key), ValueSHA256: fmt.Sprintf("%x", sha256.Sum256(kv.Value)), SizeBytes: len(kv.Value),
				CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version,
			})
			from = string(kv.Key) + "\x00"
		}

		if !resp.More {
			return out, nil
		}
	}
}

// Inspected is the answer of ctl etcd inspect.
type Inspected struct {
	Hash      string `json:"hash"`
	Revision  int64  `json:"revision"`
	TotalKeys int    `json:"total_keys"`
	Version   string `json:"storage_version"`
}

// etcdInspect reads a snapshot file with the library of `etcdutl snapshot status`.
func (s *Server) etcdInspect(_ context.Context, r Request) (any, error) {
	st, err := snapshot.NewV3(zap.NewNop()).Status(r.Params["path"])

	return Inspected{Hash: fmt.Sprintf("%08x", st.Hash), Revision: st.Revision, TotalKeys: st.TotalKey, Version: st.Version}, err
}

// etcdCompact compacts to the current revision, which frees no space before a defragmentation.
func (s *Server) etcdCompact(ctx context.Context, r Request) (any, error) {
	client, err := s.anyEtcd(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:errcheck

	if r.Params["delete"] == "true" {
		if _, err := client.Delete(ctx, "/lab/fill/", clientv3.WithPrefix()); err != nil {
			return nil, err
		}
	}

	resp, err := client.Get(ctx, "none")
	if err != nil {
		return nil, err
	}

	_, err = client.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())

	return map[string]any{"revision": resp.Header.Revision}, err
}

func namespace(r Request) (images.Namespace, error) {
	switch ns := images.Namespace(r.Params["namespace"]); ns {
	case "":
		return images.CRI, nil
	case images.CRI, images.System, images.InMemory:
		return ns, nil
	default:
		return "", fmt.Errorf("want cri, system or inmem, not %q", ns)
	}
}

// AddedImage is the answer of ctl image add.
type AddedImage struct {
	Names     []string `json:"names"`
	Digest    string   `json:"digest"`
	Config    string   `json:"config"`
	Size      int64    `json:"size_bytes"`
	Container any      `json:"container,omitempty"`
}

func (s *Server) imageAdd(_ context.Context, m *cluster.Member, r Request) (any, error) {
	ns, err := namespace(r)
	if err != nil {
		return nil, err
	}

	ref, err := images.ParseReference(r.Params["ref"])
	if err != nil {
		return nil, err
	}

	manifest := images.Describe(ref)

	if manifest.Size, err = number(r, "size", manifest.Size); err != nil {
		return nil, err
	}

	created := time.Now()

	if text := r.Params["age"]; text != "" {
		age, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}

		created = created.Add(-age)
	}

	labels := map[string]string{}
	if ns == images.CRI {
		labels["io.cri-containerd.image"] = "managed"
	}

	if r.Params["pinned"] == "true" {
		labels[images.PinnedLabel] = "pinned"
	}

	s.cluster.Registry.Publish(manifest)
	m.Images.Pull(ns, manifest, created, labels)

	out := AddedImage{Names: images.Names(ns, manifest), Digest: manifest.Digest, Config: manifest.Config, Size: manifest.Size}

	if form := r.Params["in_use"]; form != "" {
		c, err := m.AddContainer(manifest, form)
		if err != nil {
			return nil, err
		}

		out.Container = c
	}

	return out, nil
}

func (s *Server) imageList(_ context.Context, m *cluster.Member, r Request) (any, error) {
	ns, err := namespace(r)
	if err != nil {
		return nil, err
	}

	return m.Images.List(ns), nil
}

// imageGC runs the garbage collection as if the given time had passed.
func (s *Server) imageGC(_ context.Context, m *cluster.Member, r Request) (any, error) {
	after, err := time.ParseDuration(r.Params["after"])
	if err != nil {
		return nil, err
	}

	m.CollectImages(time.Now())
	removed := m.CollectImages(time.Now().Add(after))

	return map[string]any{"removed": removed}, nil
}

func (s *Server) log(_ context.Context, m *cluster.Member, r Request) (any, error) {
	log := m.LogWriter(r.Params["service"])

	if line, ok := r.Params["line"]; ok {
		fmt.Fprintln(log, line) //nolint:errcheck // in memory
	}

	lines, err := number(r, "lines", 0)
	if err != nil {
		return nil, err
	}

	size, err := number(r, "bytes", 0)
	if err != nil {
		return nil, err
	}

	log.Generate(lines + size/128)

	return map[string]any{"size_bytes": log.Size()}, nil
}

func (s *Server) file(_ context.Context, m *cluster.Member, r Request) (any, error) {
	path := r.Params["path"]
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("path %q is not absolute", path)
	}

	if content, ok := r.Params["content"]; ok {
		m.Files().Put(path, []byte(content))

		return done{true}, nil
	}

	size, err := number(r, "size", 0)
	if err != nil {
		return nil, err
	}

	if size < 0 {
		m.Files().Break(path)
	} else {
		m.Files().Generate(path, size)
	}

	return done{true}, nil
}

func (s *Server) kernel(_ context.Context, m *cluster.Member, r Request) (any, error) {
	m.Printk(r.Params["facility"], r.Params["priority"], r.Params["line"])

	return done{true}, nil
}

func (s *Server) config(_ context.Context, m *cluster.Member, _ Request) (any, error) {
	cfg := m.Config()
	if cfg == nil {
		return map[string]string{"config": ""}, nil
	}

	raw, err := cfg.Bytes()

	return map[string]string{"config": string(raw)}, err
}
