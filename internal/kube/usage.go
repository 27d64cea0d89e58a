package kube

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/talosmate/talosmate/internal/errs"
)

// DeprecatedAPI is a deprecated API that was requested of an API server since its start.
type DeprecatedAPI struct {
	Name           string `json:"name"`            // RESOURCE.VERSION.GROUP, flowschemas.v1beta3.flowcontrol.apiserver.k8s.io.
	RemovedRelease string `json:"removed_release"` // The Kubernetes release that does not serve it, 1.32; empty when that is not decided.
	RemovedMinor   uint64 `json:"removed_minor"`   // Its minor, 32; 0 when that is not decided.
}

// denied names what failed, and marks missing rights.
func denied(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return errs.New(errs.Unreachable, "cannot %s: %w", op, causeOf(err)).WithKind(errs.KindPermissionDenied)
	default:
		return errs.New(errs.Unreachable, "cannot %s: %w", op, causeOf(err)).WithKind(errs.KindUnreachable)
	}
}

// flexVolumePath is where FlexVolume drivers are on the host (Talos up to v1.13, internal/app/machined/pkg/system/services/kubelet.go).
const flexVolumePath = "/usr/libexec/kubernetes"

// FlexVolumePods lists the volumes of pods that are FlexVolumes, or their path on the host: NAMESPACE/POD volume NAME.
// Missing rights are an error of kind permission_denied.
func (c *Client) FlexVolumePods(ctx context.Context) ([]string, error) {
	const op, page, most = "list pods", 500, 1000

	out := []string{}
	options := metav1.ListOptions{Limit: page}

	for range most {
		pods, err := c.API.CoreV1().Pods("").List(ctx, options)
		if err != nil {
			return nil, denied(op, err)
		}

		for i := range pods.Items {
			p := &pods.Items[i]
			for _, v := range p.Spec.Volumes {
				if isFlexVolume(v) {
					out = append(out, p.Namespace+"/"+p.Name+" volume "+v.Name)
				}
			}
		}

		if options.Continue = pods.Continue; options.Continue == "" {
			return out, nil
		}
	}

	return nil, denied(op, fmt.Errorf("there are more than %d", page*most))
}

func isFlexVolume(v corev1.Volume) bool {
	return v.FlexVolume != nil || v.HostPath != nil && (v.HostPath.Path == flexVolumePath || strings.HasPrefix(v.HostPath.Path, flexVolumePath+"/"))
}

// maxMetrics and maxAPIs bound the metrics of an API server. Large clusters have some ten megabytes.
const (
	maxMetrics = 256 << 20
	maxAPIs    = 10_000
)

// DeprecatedAPIs lists the deprecated APIs that were requested of the API server that answers. Missing rights are an error
// of kind permission_denied.
func (c *Client) DeprecatedAPIs(ctx context.Context) ([]DeprecatedAPI, error) {
	const op = "read the metrics of the Kubernetes API"

	stream, err := c.API.CoreV1().RESTClient().Get().AbsPath("/metrics").Stream(ctx)
	if err != nil {
		return nil, denied(op, err)
	}

	defer stream.Close() //nolint:errcheck // it was only read

	limited := &io.LimitedReader{R: stream, N: maxMetrics}
	out := []DeprecatedAPI{}
	lines := bufio.NewScanner(limited)
	lines.Buffer(nil, 1<<20)

	for len(out) < maxAPIs && lines.Scan() {
		labels, found := strings.CutPrefix(lines.Text(), "apiserver_requested_deprecated_apis{")
		if found {
			out = append(out, deprecatedAPI(labels))
		}
	}

	if err = lines.Err(); err == nil && limited.N == 0 {
		err = fmt.Errorf("they have more than %d bytes", maxMetrics)
	}

	return out, denied(op, err)
}

func deprecatedAPI(labels string) DeprecatedAPI {
	label := func(name string) string {
		found := regexp.MustCompile(`(?:^|,)` + name + `="([^"]*)"`).FindStringSubmatch(labels)
		if found == nil {
			return ""
		}

		return found[1]
	}

	out := DeprecatedAPI{RemovedRelease: label("removed_release")}
	out.Name = strings.TrimSuffix(label("resource")+"."+label("version")+"."+label("group"), ".")

	if minor, found := strings.CutPrefix(out.RemovedRelease, "1."); found {
		out.RemovedMinor, _ = strconv.ParseUint(minor, 10, 16) // a release that cannot be read counts as not decided
	}

	return out
}
