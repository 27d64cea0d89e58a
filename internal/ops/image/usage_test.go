package image_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

// node has images, and removes them.
type node struct {
	images     []talos.Image
	containers []talos.Container
	system     talos.SystemImages
	static     []string
	err        error // Of the specs.
}

func (n *node) Version(context.Context) (talos.Version, error) {
	return talos.Version{Tag: "v1.13.8"}, nil
}

func (n *node) Images(context.Context, string) ([]talos.Image, error) {
	return slices.Clone(n.images), nil
}

func (n *node) Containers(context.Context, string) ([]talos.Container, error) {
	return n.containers, nil
}

func (n *node) SystemImages(context.Context) (talos.SystemImages, error) { return n.system, n.err }

func (n *node) StaticPodImages(context.Context) ([]string, error) { return n.static, nil }

func (n *node) RemoveImage(_ context.Context, _, name string) error {
	n.images = lists.Filter(n.images, func(i talos.Image) bool { return i.Name != name })

	return nil
}

func (n *node) Mounts(context.Context) ([]talos.Mount, error) {
	return []talos.Mount{{MountedOn: "/var", SizeBytes: 1 << 30, AvailableBytes: uint64(1<<20 - 100*len(n.images))}}, nil
}

func prune(t *testing.T, n *node, req image.Request) (image.Result, error) {
	t.Helper()

	req.Now = now

	var (
		res image.Result
		err error
	)

	synctest.Test(t, func(t *testing.T) { res, err = image.Prune(t.Context(), n, req, progress.Discard{}, "n1") })

	return res, err
}

// systemNode is a control plane whose kubelet and etcd come from a mirror that names them as it likes.
func systemNode() *node {
	return &node{
		images: slices.Concat(
			names("mirror.example/team/node-agent", "v1.36.0", hex("1"), hex("2"), day),
			names("mirror.example/team/node-agent", "v1.35.4", hex("3"), hex("4"), day),
			names("mirror.example/team/store", "3.6.12", hex("5"), hex("6"), day),
			names("registry.example/tools/etcd", "v1", hex("7"), hex("8"), day),
			names("ghcr.io/siderolabs/installer", "v1.13.8", hex("9"), hex("a"), day),
		),
		system: talos.SystemImages{Kubelet: "mirror.example/team/node-agent:v1.36.0", Etcd: "mirror.example/team/store:3.6.12@sha256:" + hex("5")},
	}
}

func TestPruneKeepsTheImagesOfKubeletAndEtcd(t *testing.T) {
	t.Parallel()

	for _, namespace := range []string{talos.NamespaceSystem, talos.NamespaceCRI} {
		n := systemNode()

		got, err := prune(t, n, image.Request{Policy: image.Policy{Namespace: namespace}, Apply: true})
		if err != nil {
			t.Fatal(err)
		}

		// Neither the version before nor an image that only has the name of etcd is in use.
		removed := lists.Map(got.Removed, func(r image.Removal) string { return r.Image })
		if want := []string{"mirror.example/team/node-agent:v1.35.4", "registry.example/tools/etcd:v1"}; !slices.Equal(removed, want) {
			t.Errorf("%s: removed %v, want %v", namespace, removed, want)
		}

		if got.InUseImages != 2 || len(n.images) != 12 {
			t.Errorf("%s: %d in use, %d names left", namespace, got.InUseImages, len(n.images))
		}
	}
}

func TestPruneKeepsWhatMayBeTheImageOfKubeletOrEtcd(t *testing.T) {
	t.Parallel()

	unread := []talos.UnreadSpec{{Service: "kubelet", Reason: "the role os:admin is needed"}}

	n := systemNode()
	n.system = talos.SystemImages{Etcd: n.system.Etcd, Unread: unread}

	got, err := prune(t, n, image.Request{Policy: image.Policy{Namespace: talos.NamespaceSystem}, Apply: true})
	if err != nil || got.CandidateCount != 0 || len(n.images) != 20 || !slices.Equal(got.UnreadSpecs, unread) {
		t.Errorf("candidates %v, unread %v: %v", got.Candidates, got.UnreadSpecs, err)
	}

	for _, k := range got.Kept {
		if want := "may be the image of kubelet, whose spec cannot be read: the role os:admin is needed"; k.Reason != want && k.Image != "ghcr.io/siderolabs/installer:v1.13.8" {
			t.Errorf("%s is kept because %s", k.Image, k.Reason)
		}
	}

	// The kubelet does not run from the namespace of Kubernetes: only an image of its name may be meant.
	n.images = slices.Concat(names("mirror.example/team/kubelet", "v1", hex("1"), hex("2"), day), names("registry.example/app", "v1", hex("3"), hex("4"), day))

	got, err = prune(t, n, image.Request{Policy: image.Policy{Namespace: talos.NamespaceCRI}})
	if err != nil || got.CandidateCount != 1 || got.Candidates[0].Image != "registry.example/app:v1" {
		t.Errorf("candidates %v: %v", got.Candidates, err)
	}

	n.err = errors.New("no answer")
	if _, err = prune(t, n, image.Request{Policy: image.Policy{Namespace: talos.NamespaceCRI}, Apply: true}); err == nil || len(n.images) != 8 {
		t.Errorf("%d names left: %v", len(n.images), err)
	}
}

func TestPruneWithoutTheAnswerOfKubernetes(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name    string
		req     image.Request
		status  runbook.Status
		verdict gate.Outcome
		left    int
		code    errs.Code
	}{
		{"preview", image.Request{PodsError: "no route"}, runbook.OK, gate.Warn, 8, errs.OK},
		{"apply", image.Request{PodsError: "no route", Apply: true}, runbook.Refused, gate.Refuse, 8, errs.Refused},
		{"without pods", image.Request{PodsError: "no route", Apply: true, WithoutPods: true}, runbook.OK, gate.Warn, 4, errs.OK},
		{"override", image.Request{PodsError: "no route", Apply: true, Overrides: gate.Overrides{"TM141"}}, runbook.OK, gate.Overridden, 4, errs.OK},
		{"asked", image.Request{PodsChecked: true, Apply: true, Needed: []string{"registry.example/job:v1"}}, runbook.OK, "", 4, errs.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			n := &node{
				images: slices.Concat(names("registry.example/app", "v1", hex("1"), hex("2"), day), names("registry.example/job", "v1", hex("3"), hex("4"), day)),
				static: []string{"registry.example/job:v1"},
			}
			c.req.Policy.Namespace = talos.NamespaceCRI

			got, err := prune(t, n, c.req)
			if errs.ExitCode(err) != c.code || got.Status != c.status || len(n.images) != c.left {
				t.Errorf("exit code %d, status %s, %d names left: %v", errs.ExitCode(err), got.Status, len(n.images), err)
			}

			if got.CandidateCount != 1 {
				t.Errorf("candidates %v", got.Candidates)
			}

			if (c.verdict == "") != (len(got.Gates) == 0) || c.verdict != "" && got.Gates[0].Verdict != c.verdict {
				t.Errorf("gates %v", got.Gates)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()

	n := systemNode()

	type mark struct{ used, unknown bool }

	for _, c := range []struct {
		name   string
		unread []talos.UnreadSpec
		want   []mark
		unused int
	}{
		{name: "known", want: []mark{{}, {}, {used: true}, {used: true}, {}}, unused: 3},
		{
			name: "the kubelet's is not", unread: []talos.UnreadSpec{{Service: "kubelet"}},
			want: []mark{{unknown: true}, {unknown: true}, {unknown: true}, {used: true}, {unknown: true}},
		},
	} {
		reader := &node{system: n.system}
		if c.unread != nil {
			reader.system = talos.SystemImages{Etcd: n.system.Etcd, Unread: c.unread}
		}

		usage, err := image.ReadUsage(t.Context(), reader, talos.NamespaceSystem)
		if err != nil {
			t.Fatal(err)
		}

		groups := image.Group(usage.Mark(n.images))

		if got := lists.Map(groups, func(i talos.Image) mark { return mark{i.InUse, i.UseUnknown} }); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}

		if got := image.Unused(groups); len(got) != c.unused {
			t.Errorf("%s: unused are %v", c.name, got)
		}
	}
}

// TestRemoveNamesWhatUsesTheImage: no container shows that the kubelet uses an image.
func TestRemoveNamesWhatUsesTheImage(t *testing.T) {
	t.Parallel()

	got, err := image.Remove(t.Context(), systemNode(), image.RemoveRequest{Namespace: talos.NamespaceSystem, Reference: "mirror.example/team/node-agent:v1.36.0", DryRun: true}, "n1")
	if err != nil || !slices.Equal(got.UsedBy, []string{"kubelet"}) {
		t.Errorf("used by %v: %v", got.UsedBy, err)
	}
}
