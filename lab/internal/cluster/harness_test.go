package cluster_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/talos/pkg/machinery/client"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/lab/internal/cluster"
)

// bed is a running cluster with clients of every role.
type bed struct {
	*cluster.Cluster

	t   *testing.T
	ctx context.Context
}

// start runs a cluster with short times for one test.
func start(t *testing.T, change func(*cluster.Options)) *bed {
	t.Helper()
	t.Parallel()

	opts := cluster.Defaults()
	opts.Dir = t.TempDir()
	opts.Install, opts.Shutdown, opts.Boot = 50*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond

	if change != nil {
		change(&opts)
	}

	c, err := cluster.New(opts, nil)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	t.Cleanup(c.Stop)

	if err := c.StartKubernetes(ctx); err != nil {
		t.Fatal(err)
	}

	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}

	if err := c.WriteFiles(); err != nil {
		t.Fatal(err)
	}

	return &bed{Cluster: c, t: t, ctx: ctx}
}

// small is one control plane and one worker without etcd: enough for most tests.
type testOptions = cluster.Options

func small(o *testOptions) { o.ControlPlanes, o.Workers, o.Etcd = 1, 1, false }

// client connects with the talosconfig of a role ("" is admin) to the given endpoints.
func (b *bed) client(suffix string, endpoints ...string) *client.Client {
	b.t.Helper()

	return b.clientWith(suffix, nil, endpoints...)
}

// clientWith is client with more options for the connection.
func (b *bed) clientWith(suffix string, dial []grpc.DialOption, endpoints ...string) *client.Client {
	b.t.Helper()

	cfg, err := clientconfig.Open(filepath.Join(b.Options.Dir, "talosconfig"+suffix))
	if err != nil {
		b.t.Fatal(err)
	}

	opts := []client.OptionFunc{client.WithConfig(cfg), client.WithGRPCDialOptions(append(dial, grpc.WithDisableRetry())...)}
	if len(endpoints) > 0 {
		opts = append(opts, client.WithEndpoints(endpoints...))
	}

	c, err := client.New(b.ctx, opts...)
	if err != nil {
		b.t.Fatal(err)
	}

	b.t.Cleanup(func() { c.Close() }) //nolint:errcheck

	return c
}

// node finds a node by name.
func (b *bed) node(name string) *cluster.Member {
	b.t.Helper()

	m, err := b.Find(name)
	if err != nil {
		b.t.Fatal(err)
	}

	return m
}

// direct connects as admin to one node.
func (b *bed) direct(name string) *client.Client {
	return b.client("", b.node(name).Address.String())
}

// on addresses one node through the endpoints.
func (b *bed) on(name string) context.Context {
	return client.WithNode(b.ctx, b.node(name).Address.String())
}

// until polls a condition.
func (b *bed) until(what string, condition func() bool) {
	b.t.Helper()

	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()

	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()

	for !condition() {
		select {
		case <-poll.C:
		case <-deadline.C:
			b.t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// rawResources lists resources of a type no client library knows.
func (b *bed) rawResources(node, typ string) (string, error) {
	list, err := b.client("").COSI.List(b.on(node), resource.NewMetadata("runtime", typ, "", resource.VersionUndefined))
	if err != nil {
		return "", err
	}

	var out []byte

	for _, item := range list.Items {
		raw, err := yaml.Marshal(item.Spec())
		if err != nil {
			return "", err
		}

		out = append(out, raw...)
	}

	return string(out), nil
}
