package talos

import (
	"context"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// The two containerd instances of a node.
const (
	NamespaceCRI    = "cri"    // Kubernetes' images and containers.
	NamespaceSystem = "system" // Talos's own: kubelet, etcd, installers.
)

// Kinds of image names.
const (
	ImageTag    = "tag"    // repo:tag
	ImageDigest = "digest" // repo@sha256:MANIFEST or the bare sha256:MANIFEST
	ImageID     = "id"     // sha256:CONFIG
)

// Image is one name of an image in a containerd instance. One image has several names; they share the
// digest.
type Image struct {
	NodeRef

	Namespace  string            `json:"namespace"`            // cri or system.
	Name       string            `json:"name"`                 // The name as containerd has it.
	Digest     string            `json:"digest"`               // The manifest's digest, the image's identity.
	SizeBytes  int64             `json:"size_bytes"`           // The compressed size of the image's content, as containerd counts it.
	Created    *time.Time        `json:"created,omitempty"`    // When the name was made on this node.
	Labels     map[string]string `json:"labels"`               // containerd's labels.
	Kind       string            `json:"kind"`                 // tag, digest or id.
	InUse      bool              `json:"in_use"`               // Whether a container, the kubelet or etcd uses the image under any of its names.
	UseUnknown bool              `json:"use_unknown"`          // Whether it is not known if something uses the image; in_use is then false.
	Pinned     bool              `json:"pinned"`               // Whether the runtime must keep it.
	Names      []string          `json:"names,omitempty"`      // With --group: every name of the image.
	UsedBy     []string          `json:"containers,omitempty"` // Which containers use it, or kubelet or etcd.
}

// pinnedLabel marks images that the CRI must not collect (containerd, pkg/cri/labels).
const pinnedLabel = "io.cri-containerd.pinned"

// ImageKind distinguishes the three forms of an image name. digest is the image's digest: a bare sha256 is the manifest
// when it equals the digest, else the image's ID.
func ImageKind(name, digest string) string {
	switch {
	case strings.Contains(name, "@"), name == digest:
		return ImageDigest
	case strings.HasPrefix(name, "sha256:"):
		return ImageID
	default:
		return ImageTag
	}
}

// Images lists every name in a containerd instance. Nodes before 1.13 are asked with the older call, which has no
// labels. Roles: reader, operator, admin.
func (n *Node) Images(ctx context.Context, namespace string) ([]Image, error) {
	out := []Image{}

	err := conn.List(ctx, n.Conn, "list images", func(ctx context.Context) (grpc.ServerStreamingClient[machine.ImageServiceListResponse], error) {
		return n.images().List(ctx, &machine.ImageServiceListRequest{Containerd: containerd(namespace)})
	}, func(m *machine.ImageServiceListResponse) error {
		img := Image{
			Namespace: namespace, Name: m.GetName(), Digest: m.GetDigest(), SizeBytes: m.GetSize(), Labels: m.GetLabels(),
			Kind: ImageKind(m.GetName(), m.GetDigest()), Pinned: m.GetLabels()[pinnedLabel] == "pinned",
		}
		if at := stamp(m.GetCreatedAt()); !at.IsZero() {
			img.Created = &at
		}

		if img.Labels == nil {
			img.Labels = map[string]string{}
		}

		out = append(out, img)

		return nil
	})
	if conn.KindOf(err) == errs.KindUnimplemented {
		return n.imagesLegacy(ctx, namespace)
	}

	return out, err
}

func (n *Node) imagesLegacy(ctx context.Context, namespace string) ([]Image, error) {
	out := []Image{}

	err := conn.List(ctx, n.Conn, "list images", func(ctx context.Context) (grpc.ServerStreamingClient[machine.ImageListResponse], error) {
		return n.machine().ImageList(ctx, &machine.ImageListRequest{Namespace: containerd(namespace).GetNamespace()}) //nolint:staticcheck // nodes before 1.13 have no other
	}, func(m *machine.ImageListResponse) error {
		img := Image{
			Namespace: namespace, Name: m.GetName(), Digest: m.GetDigest(), SizeBytes: m.GetSize(), Labels: map[string]string{},
			Kind: ImageKind(m.GetName(), m.GetDigest()),
		}
		if at := stamp(m.GetCreatedAt()); !at.IsZero() {
			img.Created = &at
		}

		out = append(out, img)

		return nil
	})

	return out, err
}

// PullProgress is the state of one layer of a pull.
type PullProgress struct {
	Layer  string // The layer's short digest.
	Status string // downloading, download_complete, extracting, extract_complete, already_exists.
	Offset int64  // Bytes so far.
	Total  int64  // Bytes in all, 0 when unknown.
}

// PullImage pulls an image and returns its digest-pinned name. Nodes before 1.13 pull without progress and return the
// reference as given. Role: operator.
func (n *Node) PullImage(ctx context.Context, namespace, ref string, progress func(PullProgress)) (string, error) {
	name := ""

	err := n.WhileAlive(ctx, "pull "+ref, n.ping, func(ctx context.Context) (err error) {
		name, err = n.pullImage(ctx, namespace, ref, progress)

		return err
	})

	return name, err
}

func (n *Node) pullImage(ctx context.Context, namespace, ref string, progress func(PullProgress)) (string, error) {
	op := "pull " + ref

	name := ""

	err := conn.Read(ctx, n.Conn, op, conn.Terms{}, func(ctx context.Context) (grpc.ServerStreamingClient[machine.ImageServicePullResponse], error) {
		return n.images().Pull(ctx, &machine.ImageServicePullRequest{Containerd: containerd(namespace), ImageRef: ref})
	}, func(m *machine.ImageServicePullResponse) error {
		if m.GetName() != "" {
			name = m.GetName()
		}

		if p := m.GetPullProgress(); p != nil && progress != nil {
			progress(PullProgress{
				Layer: p.GetLayerId(), Status: strings.ToLower(p.GetProgress().GetStatus().String()),
				Offset: p.GetProgress().GetOffset(), Total: p.GetProgress().GetTotal(),
			})
		}

		return nil
	})
	if conn.KindOf(err) == errs.KindUnimplemented {
		return ref, n.pullLegacy(ctx, namespace, ref)
	}

	return name, err
}

func (n *Node) pullLegacy(ctx context.Context, namespace, ref string) error {
	_, err := n.machine().ImagePull(ctx, &machine.ImagePullRequest{Namespace: containerd(namespace).GetNamespace(), Reference: ref}) //nolint:staticcheck // nodes before 1.13 have no other

	return n.Fail("pull "+ref, err)
}

// RemoveImage removes one name of an image. The content is removed with the last name. Role: admin. From 1.13.
func (n *Node) RemoveImage(ctx context.Context, namespace, name string) error {
	_, err := n.images().Remove(ctx, &machine.ImageServiceRemoveRequest{Containerd: containerd(namespace), ImageRef: name})

	return n.Fail("remove image "+name, err)
}

// Container is a container or a pod's sandbox.
type Container struct {
	NodeRef

	Namespace string `json:"namespace"`        // k8s.io or system.
	ID        string `json:"id"`               // The container's ID as Talos shows it.
	UID       string `json:"uid,omitempty"`    // The pod's UID, where there is one.
	PodID     string `json:"pod_id,omitempty"` // The pod, NAMESPACE/NAME.
	Name      string `json:"name"`             // The container's name within the pod.
	Image     string `json:"image"`            // The image under whatever name the runtime knows it: tag, digest or ID.
	PID       uint32 `json:"pid"`              // The process ID of its first process.
	Status    string `json:"status"`           // The state in lower case.
	Sandbox   bool   `json:"sandbox"`          // Whether this is the pod itself rather than a container of it.

	NetworkNamespace string `json:"network_ns,omitempty"` // The pod's network namespace, as the runtime names it.
}

// Containers lists the containers of an instance; for cri only pods whose sandbox is ready. Roles: reader,
// operator, admin.
func (n *Node) Containers(ctx context.Context, namespace string) ([]Container, error) {
	req := &machine.ContainersRequest{}
	req.Namespace, req.Driver = instance(namespace)

	m, err := first(n.machine().Containers(ctx, req))
	if err != nil {
		return nil, n.Fail("list containers", err)
	}

	out := make([]Container, 0, len(m.GetContainers()))
	for _, c := range m.GetContainers() {
		out = append(out, Container{
			Namespace: c.GetNamespace(), ID: c.GetId(), UID: c.GetUid(), PodID: c.GetPodId(), Name: c.GetName(), Image: c.GetImage(),
			PID: c.GetPid(), Status: strings.ToLower(c.GetStatus()), Sandbox: namespace == NamespaceCRI && c.GetPodId() == c.GetId(),
			NetworkNamespace: c.GetNetworkNamespace(),
		})
	}

	return out, nil
}

// SystemImages are the images of the kubelet and of etcd. Both run in the system namespace of the CRI's containerd, whose
// containers no call lists; Talos's own garbage collection reads the same two resources (Talos,
// internal/app/machined/pkg/controllers/cri/image_gc.go).
type SystemImages struct {
	Kubelet string       // Empty when it is in Unread.
	Etcd    string       // Empty when it is in Unread, and on workers.
	Unread  []UnreadSpec // The services whose image is not known; never nil.
}

// UnreadSpec is a service whose image is not known.
type UnreadSpec struct {
	Service string `json:"service"` // kubelet or etcd.
	Reason  string `json:"reason"`  // Why its image is not known.
}

// Services that run in the system namespace and are not containers of any list.
const (
	serviceKubelet = "kubelet"
	serviceEtcd    = "etcd"
)

// SystemImages reads which images the kubelet and etcd run from. A spec that the certificate may not read is reported in
// the result. Roles: admin for the kubelet's, which is sensitive; reader, operator, admin for etcd's.
func (n *Node) SystemImages(ctx context.Context) (SystemImages, error) {
	out := SystemImages{Unread: []UnreadSpec{}}

	for _, s := range []struct {
		service, namespace, typ string
		optional                bool // Whether a node without the spec does not run the service.
		image                   *string
	}{
		{serviceKubelet, "k8s", "KubeletSpecs.kubernetes.talos.dev", false, &out.Kubelet},
		{serviceEtcd, "etcd", "EtcdSpecs.etcd.talos.dev", true, &out.Etcd},
	} {
		reason := ""

		r, err := n.Resource(ctx, s.namespace, s.typ, s.service)

		switch kind := conn.KindOf(err); {
		case err == nil:
			spec, err := Decode[struct {
				Image string `json:"image"`
			}](r)
			if err != nil {
				return out, n.Fail("read the image of "+s.service, err)
			}

			if *s.image = spec.Image; spec.Image == "" {
				reason = "the spec has no image"
			}
		case kind == errs.KindPermissionDenied:
			reason = "the role os:admin is needed"
		case kind == errs.KindNotFound && s.optional:
		case kind == errs.KindNotFound:
			reason = "the node has no such spec"
		default:
			return out, err
		}

		if reason != "" {
			out.Unread = append(out.Unread, UnreadSpec{Service: s.service, Reason: reason})
		}
	}

	return out, nil
}

// StaticPodImages lists the images of the node's static pods, running or not, with those that volumes mount. Roles:
// reader, operator, admin.
func (n *Node) StaticPodImages(ctx context.Context) ([]string, error) {
	pods, err := n.Resources(ctx, "k8s", "StaticPods.kubernetes.talos.dev")
	if err != nil {
		return nil, err
	}

	type container struct {
		Image string `json:"image"`
	}

	out := []string{}

	for _, r := range pods {
		pod, err := Decode[struct {
			Spec struct {
				Containers     []container `json:"containers"`
				InitContainers []container `json:"initContainers"`
				Volumes        []struct {
					Image struct {
						Reference string `json:"reference"`
					} `json:"image"`
				} `json:"volumes"`
			} `json:"spec"`
		}](r)
		if err != nil {
			return nil, n.Fail("read the static pods", err)
		}

		for _, c := range append(pod.Spec.Containers, pod.Spec.InitContainers...) {
			out = append(out, c.Image)
		}

		for _, v := range pod.Spec.Volumes {
			if v.Image.Reference != "" {
				out = append(out, v.Image.Reference)
			}
		}
	}

	return out, nil
}
