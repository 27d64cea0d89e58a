package talos

import (
	"context"
	"reflect"
	"slices"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	etcdres "github.com/siderolabs/talos/pkg/machinery/resources/etcd"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// denying serves resources and fails requests for one type.
type denying struct {
	cosi.StateServer

	typ  string
	code codes.Code
}

func (d *denying) Get(ctx context.Context, req *cosi.GetRequest) (*cosi.GetResponse, error) {
	if req.GetType() == d.typ {
		return nil, status.Error(d.code, "not authorized")
	}

	return d.StateServer.Get(ctx, req)
}

func TestSystemImages(t *testing.T) {
	t.Parallel()

	const kubeletImage, etcdImage = "mirror.example/team/node-agent:v1.36.0", "mirror.example/team/store@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

	kubelet := k8s.NewKubeletSpec(k8s.NamespaceName, k8s.KubeletID)
	kubelet.TypedSpec().Image = kubeletImage

	etcd := etcdres.NewSpec(etcdres.NamespaceName, etcdres.SpecID)
	etcd.TypedSpec().Image = etcdImage

	nameless := k8s.NewKubeletSpec(k8s.NamespaceName, k8s.KubeletID)

	for _, c := range []struct {
		name      string
		resources []resource.Resource
		typ       string
		code      codes.Code
		want      SystemImages
		kind      errs.Kind
	}{
		{name: "control plane", resources: []resource.Resource{kubelet, etcd}, want: SystemImages{Kubelet: kubeletImage, Etcd: etcdImage, Unread: []UnreadSpec{}}},
		{name: "worker", resources: []resource.Resource{kubelet}, want: SystemImages{Kubelet: kubeletImage, Unread: []UnreadSpec{}}},
		{
			name: "reader", resources: []resource.Resource{kubelet, etcd}, typ: "KubeletSpecs.kubernetes.talos.dev", code: codes.PermissionDenied,
			want: SystemImages{Etcd: etcdImage, Unread: []UnreadSpec{{"kubelet", "the role os:admin is needed"}}},
		},
		{
			name: "etcd denied", resources: []resource.Resource{kubelet}, typ: "EtcdSpecs.etcd.talos.dev", code: codes.PermissionDenied,
			want: SystemImages{Kubelet: kubeletImage, Unread: []UnreadSpec{{"etcd", "the role os:admin is needed"}}},
		},
		{name: "no kubelet", resources: []resource.Resource{etcd}, want: SystemImages{Etcd: etcdImage, Unread: []UnreadSpec{{"kubelet", "the node has no such spec"}}}},
		{name: "no image", resources: []resource.Resource{nameless}, want: SystemImages{Unread: []UnreadSpec{{"kubelet", "the spec has no image"}}}},
		{name: "no answer", resources: []resource.Resource{kubelet, etcd}, typ: "EtcdSpecs.etcd.talos.dev", code: codes.Internal, kind: errs.KindFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			st := state.WrapCore(namespaced.NewState(inmem.Build))

			for _, r := range c.resources {
				if err := st.Create(t.Context(), r.DeepCopy()); err != nil {
					t.Fatal(err)
				}
			}

			n := fakeNode(t, func(s *grpc.Server) {
				cosi.RegisterStateServer(s, &denying{StateServer: server.NewState(st), typ: c.typ, code: c.code})
			})

			got, err := n.SystemImages(t.Context())
			if c.kind != "" {
				if conn.KindOf(err) != c.kind {
					t.Errorf("%v is of kind %q, want %q", err, conn.KindOf(err), c.kind)
				}

				return
			}

			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v (%v), want %+v", got, err, c.want)
			}
		})
	}
}

// TestStaticPodImages: a static pod needs the images of its volumes too, which no container shows.
func TestStaticPodImages(t *testing.T) {
	t.Parallel()

	pod := k8s.NewStaticPod(k8s.NamespaceName, "default-agent")
	pod.TypedSpec().Pod = map[string]any{"spec": map[string]any{
		"containers":     []any{map[string]any{"name": "c", "image": "r.example/app:v1"}},
		"initContainers": []any{map[string]any{"name": "i", "image": "r.example/init:v1"}},
		"volumes": []any{
			map[string]any{"name": "e", "emptyDir": map[string]any{}},
			map[string]any{"name": "v", "image": map[string]any{"reference": "r.example/model:v1"}},
		},
	}}

	got, err := nodeWith(t, pod).StaticPodImages(t.Context())
	if want := []string{"r.example/app:v1", "r.example/init:v1", "r.example/model:v1"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v (%v), want %v", got, err, want)
	}
}
