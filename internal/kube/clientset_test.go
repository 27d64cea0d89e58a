package kube

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/kubectl/pkg/drain"

	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/talosmate/talosmate/internal/errs"
)

// TestClientset: each API group that kubectl's drain and this package use reaches the API server, and those that drain
// only tries in old clusters too.
func TestClientset(t *testing.T) {
	t.Parallel()

	asked := make(chan string, 20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path

		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(server.Close)

	c, err := newClientset(&rest.Config{Host: server.URL, QPS: 50, Burst: 100})
	require.NoError(t, err)

	ctx, pod := t.Context(), metav1.ObjectMeta{Namespace: "a", Name: "b"}
	calls := map[string]func() error{
		"GET /api/v1": func() error {
			_, err := drain.CheckEvictionSupport(c)

			return err
		},
		"GET /apis/apps/v1/namespaces/a/daemonsets/b": func() error {
			_, err := c.AppsV1().DaemonSets("a").Get(ctx, "b", metav1.GetOptions{})

			return err
		},
		"GET /apis/coordination.k8s.io/v1/namespaces/a/leases/b": func() error {
			_, err := c.CoordinationV1().Leases("a").Get(ctx, "b", metav1.GetOptions{})

			return err
		},
		"GET /apis/storage.k8s.io/v1/volumeattachments/b": func() error {
			_, err := c.StorageV1().VolumeAttachments().Get(ctx, "b", metav1.GetOptions{})

			return err
		},
		"DELETE /api/v1/namespaces/a/pods/b": func() error {
			return (&drain.Helper{Ctx: ctx, Client: c}).DeletePod(corev1.Pod{ObjectMeta: pod})
		},
		"POST /api/v1/namespaces/a/pods/b/eviction": func() error {
			return c.PolicyV1().Evictions("a").Evict(ctx, &policyv1.Eviction{ObjectMeta: pod})
		},
	}

	for want, call := range calls {
		require.NoError(t, call(), want)
		assert.Equal(t, want, <-asked)

		for len(asked) > 0 {
			<-asked
		}
	}

	require.NoError(t, c.PolicyV1beta1().Evictions("a").Evict(ctx, &policyv1beta1.Eviction{ObjectMeta: pod}))
	assert.Equal(t, "POST /api/v1/namespaces/a/pods/b/eviction", <-asked)
}

// TestOtherGroups uses each API group that the clientset has not: an error names it, and nothing ends the process.
func TestOtherGroups(t *testing.T) {
	t.Parallel()

	c, err := newClientset(&rest.Config{Host: "https://127.0.0.1:1"})
	require.NoError(t, err)

	missing := 0

	for name, method := range reflect.ValueOf(c).Methods() {
		err := errs.Safely(func() error {
			method.Call(nil)

			return nil
		})
		if err == nil {
			continue
		}

		missing++

		group, version, _ := strings.Cut(strings.TrimPrefix(err.Error(), "internal error: no client for the Kubernetes API group "), "/")
		assert.True(t, strings.HasSuffix(strings.ToLower(name.Name), version), "%s: %v", name.Name, err)
		assert.True(t, strings.HasPrefix(strings.ToLower(name.Name), strings.TrimPrefix(group, "apiserver")), "%s: %v", name.Name, err)
	}

	assert.Greater(t, missing, 40)
}
