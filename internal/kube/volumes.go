package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/poll"
)

// Volume is a volume that is attached to a node.
type Volume struct {
	Attachment string `json:"attachment"`        // The VolumeAttachment.
	Volume     string `json:"volume"`            // The PersistentVolume, or the driver's handle of a volume that a pod defines itself.
	Claim      string `json:"claim,omitempty"`   // Its PersistentVolumeClaim, NAMESPACE/NAME.
	Pod        string `json:"pod,omitempty"`     // The pod that used it, NAMESPACE/NAME; empty when it left before this drain.
	Driver     string `json:"driver"`            // The driver that attaches and detaches it.
	Problem    string `json:"problem,omitempty"` // What failed when the driver last detached it.
}

func (v Volume) String() string {
	out := v.Volume
	if v.Claim != "" {
		out += " (claim " + v.Claim + ")"
	}

	if v.Pod != "" {
		out += " of pod " + v.Pod
	}

	out += ", driver " + v.Driver
	if v.Problem != "" {
		out += ": " + v.Problem
	}

	return out
}

// AttachedError is the failure of a drain after which volumes stayed attached to the node.
type AttachedError struct {
	Volumes []Volume
	Waited  time.Duration
}

// Error names each volume with its claim, its pod and its driver.
func (e *AttachedError) Error() string {
	noun := "volumes are"
	if len(e.Volumes) == 1 {
		noun = "volume is"
	}

	return fmt.Sprintf("%d %s still attached after %s: %s", len(e.Volumes), noun, e.Waited, lists.Join(e.Volumes, "; ", Volume.String))
}

// StillAttached are the volumes that a drain ended for.
func StillAttached(err error) []Volume {
	var attached *AttachedError
	if errors.As(err, &attached) {
		return attached.Volumes
	}

	return nil
}

// VolumeWait is the wait for the volumes of a drained node to be detached.
type VolumeWait struct {
	Wait    bool
	Timeout time.Duration
}

// How often the volumes are read, and how much of a driver's message is kept.
const (
	detachEvery  = time.Second
	problemLimit = 300
)

// detaching are the volumes of one node during a drain, by their VolumeAttachment. A volume that a pod uses which stays on
// the node, as those of DaemonSets do, is not waited for. All others are: also one whose pod left before this drain, since
// the drain that evicted it may have failed here.
type detaching struct {
	c    *Client
	node string
	seen map[string]Volume
}

// look reads the volumes that are attached now, and notes which of the pods use them.
func (d *detaching) look(ctx context.Context, pods []corev1.Pod) ([]Volume, error) {
	all, err := d.c.API.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, d.unreadable(err)
	}

	now := map[string]Volume{}

	for i := range all.Items {
		a := &all.Items[i]
		if a.Spec.NodeName != d.node {
			continue
		}

		v, known := d.seen[a.Name]
		if !known {
			if v, err = d.volume(ctx, a); err != nil {
				return nil, d.unreadable(err)
			}
		}

		if at := slices.IndexFunc(pods, func(p corev1.Pod) bool { return v.usedBy(&p) }); at >= 0 {
			v.Pod = pods[at].Namespace + "/" + pods[at].Name
		}

		now[a.Name] = v
	}

	d.seen = now

	return slices.SortedFunc(maps.Values(now), func(a, b Volume) int { return strings.Compare(a.Volume, b.Volume) }), nil
}

func (d *detaching) unreadable(err error) error {
	err = fmt.Errorf("cannot read which volumes are attached to %s: %w", d.node, causeOf(err))
	if !apierrors.IsForbidden(err) {
		return err
	}

	return &errs.Error{Exit: errs.Failed, Err: err, Hint: "let these Kubernetes credentials list volumeattachments.storage.k8s.io and get persistentvolumes, " +
		"name others with --kubeconfig, or do not wait for volumes: --wait-volumes=false"}
}

// volume reads what is attached. A PersistentVolume that was deleted has no claim any more.
func (d *detaching) volume(ctx context.Context, a *storagev1.VolumeAttachment) (Volume, error) {
	v := Volume{Attachment: a.Name, Driver: a.Spec.Attacher}

	if own := a.Spec.Source.InlineVolumeSpec; own != nil && own.CSI != nil {
		v.Volume = own.CSI.VolumeHandle
	}

	if a.Spec.Source.PersistentVolumeName == nil {
		return v, nil
	}

	v.Volume = *a.Spec.Source.PersistentVolumeName

	pv, err := d.c.API.CoreV1().PersistentVolumes().Get(ctx, v.Volume, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return v, nil
	}

	if err == nil && pv.Spec.ClaimRef != nil {
		v.Claim = pv.Spec.ClaimRef.Namespace + "/" + pv.Spec.ClaimRef.Name
	}

	return v, err
}

// usedBy reports whether a pod uses the volume: through a claim, one that was made for the pod, or as a disk that the pod
// defines itself. (A CSI volume in a pod's definition is never attached.)
func (v Volume) usedBy(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Spec.Volumes, func(s corev1.Volume) bool {
		switch {
		case s.PersistentVolumeClaim != nil:
			return v.Claim == p.Namespace+"/"+s.PersistentVolumeClaim.ClaimName
		case s.Ephemeral != nil:
			return v.Claim == p.Namespace+"/"+p.Name+"-"+s.Name
		}

		disk := diskOf(s)

		// Kubernetes translates such a disk for its CSI driver: the handle is the disk's name, or a path that ends with it.
		return disk != "" && v.Claim == "" && path.Base(v.Volume) == path.Base(disk)
	})
}

func diskOf(s corev1.Volume) string {
	switch {
	case s.AWSElasticBlockStore != nil:
		return s.AWSElasticBlockStore.VolumeID
	case s.AzureDisk != nil:
		return s.AzureDisk.DataDiskURI
	case s.Cinder != nil:
		return s.Cinder.VolumeID
	case s.GCEPersistentDisk != nil:
		return s.GCEPersistentDisk.PDName
	case s.VsphereVolume != nil:
		return s.VsphereVolume.VolumePath
	}

	return ""
}

// wait waits until the volumes are detached.
func (d *detaching) wait(ctx context.Context, o DrainOptions) error {
	var (
		left   []Volume
		unread error // Why they could not be read last.
	)

	err := poll.Until(ctx, "the volumes of "+d.node+" to be detached", detachEvery, o.Volumes.Timeout, func(ctx context.Context) (bool, string, error) {
		before := left

		now, err := d.left(ctx, before)
		if err != nil && before != nil && (ctx.Err() != nil || lastLook(ctx)) {
			return false, "", nil // cut off by the deadline: what was read before stands
		}

		if unread = err; err != nil {
			o.Again()

			return false, err.Error(), definite(err)
		}

		left = now

		if before == nil && len(now) > 0 {
			o.Tell(fmt.Sprintf("waiting for at most %s until the volumes are detached: %s", o.Volumes.Timeout, lists.Join(now, "; ", Volume.String)))
		}

		for _, v := range before {
			if !slices.ContainsFunc(now, func(n Volume) bool { return n.Attachment == v.Attachment }) {
				o.Tell("detached " + v.Volume)
			}
		}

		return len(now) == 0, "", nil
	})
	if errors.Is(err, poll.ErrDeadline) && unread == nil && ctx.Err() == nil {
		return &errs.Error{Exit: errs.Failed, Err: &AttachedError{left, o.Volumes.Timeout}, Hint: "a reboot does not detach a volume, and with kexec nothing else does: " +
			"see `kubectl describe volumeattachment " + left[0].Attachment + "`, give it longer with --volumes-timeout, or do not wait with --wait-volumes=false"}
	}

	return err
}

// lastLook reports whether there is no time for another look. client-go refuses a request for which its rate limiter would have
// to wait beyond the deadline, and does so before the deadline.
func lastLook(ctx context.Context) bool {
	end, limited := ctx.Deadline()

	return limited && time.Until(end) <= detachEvery
}

// definite is an error if it is useless to try again.
func definite(err error) error {
	if Definite(err) {
		return err
	}

	return nil
}

// left are the volumes that are still attached, of those that were before: nil for all that no pod uses which stays.
func (d *detaching) left(ctx context.Context, before []Volume) ([]Volume, error) {
	out := []Volume{}

	if before != nil {
		for _, v := range before {
			a, err := d.c.API.StorageV1().VolumeAttachments().Get(ctx, v.Attachment, metav1.GetOptions{})

			switch {
			case apierrors.IsNotFound(err):
				continue
			case err != nil:
				return nil, d.unreadable(err)
			case a.Status.DetachError != nil:
				message := strings.Join(strings.Fields(a.Status.DetachError.Message), " ")
				v.Problem = strings.ToValidUTF8(message[:min(problemLimit, len(message))], "")
			}

			out = append(out, v)
		}

		return out, nil
	}

	stay, err := d.c.API.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + d.node})
	if err != nil {
		return nil, fmt.Errorf("cannot list the pods of %s: %w", d.node, causeOf(err))
	}

	attached, err := d.look(ctx, nil)
	for _, v := range attached {
		if !slices.ContainsFunc(stay.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == d.node && v.usedBy(&p) }) {
			out = append(out, v)
		}
	}

	return out, err
}
