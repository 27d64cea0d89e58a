package kube

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/talosmate/talosmate/internal/errs"
)

type object = map[string]any

// volumeAPI is a Kubernetes API with a node's pods and its volumes, that is served without a network.
type volumeAPI struct {
	pods, attachments []object
	detach            map[string]time.Duration // How long after the start an attachment is removed.
	status            map[string]int           // An answer in place of that for a path.
	until             time.Duration            // How long that lasts; zero for always.

	began   time.Time
	evicted []string
	before  int // Reads of the attachments before the first eviction.
}

func (a *volumeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/json")

	if code := a.status[r.URL.Path]; code != 0 && (a.until == 0 || time.Since(a.began) < a.until) {
		w.WriteHeader(code)
		a.answer(w, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": http.StatusText(code), "reason": strings.ReplaceAll(http.StatusText(code), " ", "")})
	} else {
		a.serve(w, r)
	}

	if r.Context().Err() != nil {
		return nil, r.Context().Err()
	}

	return w.Result(), nil
}

func (a *volumeAPI) answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

func (a *volumeAPI) missing(w http.ResponseWriter) {
	w.WriteHeader(http.StatusNotFound)
	a.answer(w, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})
}

func (a *volumeAPI) one(w http.ResponseWriter, all []object, name string) {
	for _, o := range all {
		if nameOf(o) == name {
			a.answer(w, o)

			return
		}
	}

	a.missing(w)
}

func nameOf(o object) string { return o["metadata"].(object)["name"].(string) }

func (a *volumeAPI) now() []object {
	out := []object{}

	for _, o := range a.attachments {
		if after := a.detach[nameOf(o)]; after == 0 || time.Since(a.began) < after {
			out = append(out, o)
		}
	}

	return out
}

func (a *volumeAPI) serve(w http.ResponseWriter, r *http.Request) {
	const pods, attachments, volumes = "/api/v1/namespaces/shop/pods/", "/apis/storage.k8s.io/v1/volumeattachments", "/api/v1/persistentvolumes/"

	switch path := r.URL.Path; {
	case path == "/api":
		a.answer(w, object{"kind": "APIVersions", "versions": []string{"v1"}})
	case path == "/apis":
		a.answer(w, object{"kind": "APIGroupList", "groups": []object{{"name": "policy", "versions": []object{{"groupVersion": "policy/v1", "version": "v1"}}}}})
	case path == "/api/v1":
		a.answer(w, object{"kind": "APIResourceList", "groupVersion": "v1", "resources": []object{{"name": "pods/eviction", "kind": "Eviction", "group": "policy", "version": "v1"}}})
	case path == "/api/v1/pods":
		a.answer(w, object{"kind": "PodList", "apiVersion": "v1", "items": a.pods})
	case strings.HasSuffix(path, "/eviction"):
		name := strings.TrimSuffix(strings.TrimPrefix(path, pods), "/eviction")
		a.evicted = append(a.evicted, name)

		for i := range a.pods {
			if nameOf(a.pods[i]) == name {
				a.pods = append(a.pods[:i:i], a.pods[i+1:]...)

				break
			}
		}

		a.answer(w, object{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	case strings.HasPrefix(path, pods):
		a.one(w, a.pods, strings.TrimPrefix(path, pods))
	case strings.Contains(path, "/daemonsets/"):
		a.answer(w, object{"kind": "DaemonSet", "apiVersion": "apps/v1", "metadata": object{"name": "agent"}})
	case path == attachments:
		if len(a.evicted) == 0 {
			a.before++
		}

		a.answer(w, object{"kind": "VolumeAttachmentList", "apiVersion": "storage.k8s.io/v1", "items": a.now()})
	case strings.HasPrefix(path, attachments+"/"):
		a.one(w, a.now(), strings.TrimPrefix(path, attachments+"/"))
	case strings.HasPrefix(path, volumes):
		// A volume pv-NAME belongs to the claim shop/NAME.
		name := strings.TrimPrefix(path, volumes)
		if name == "pv-deleted" {
			a.missing(w)

			return
		}

		a.answer(w, object{"kind": "PersistentVolume", "apiVersion": "v1", "metadata": object{"name": name}, "spec": object{"claimRef": object{"namespace": "shop", "name": strings.TrimPrefix(name, "pv-")}}})
	default:
		a.missing(w)
	}
}

// podWith is a pod of namespace shop with a volume.
func podWith(name string, volume object, owner ...object) object {
	volume["name"] = "data"

	return object{
		"metadata": object{"namespace": "shop", "name": name, "uid": name, "ownerReferences": owner},
		"spec":     object{"nodeName": "worker-1", "volumes": []object{volume}}, "status": object{"phase": "Running"},
	}
}

func claim(name string) object { return object{"persistentVolumeClaim": object{"claimName": name}} }

func agent() object {
	return object{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "controller": true}
}

func attachment(node, volume string) object {
	return object{
		"metadata": object{"name": "va-" + volume}, "spec": object{"attacher": "rbd.csi.ceph.com", "nodeName": node, "source": object{"persistentVolumeName": volume}},
		"status": object{"attached": true, "detachError": object{"message": "rbd: image\n has watchers"}},
	}
}

func inline(handle string) object {
	a := attachment("worker-1", "inline")
	a["spec"].(object)["source"] = object{"inlineVolumeSpec": object{"csi": object{"driver": "rbd.csi.ceph.com", "volumeHandle": handle}}}

	return a
}

// TestDrainVolumes: after the evictions a drain waits for the node's volumes that no pod uses which stays, and names the
// ones that stay attached.
func TestDrainVolumes(t *testing.T) {
	t.Parallel()

	const attachments = "/apis/storage.k8s.io/v1/volumeattachments"

	disk := func(id string) object { return object{"awsElasticBlockStore": object{"volumeID": id}} }
	stuck := "cannot drain worker-1: 1 volume is still attached after 1m0s: "

	for _, c := range []struct {
		name string
		api  volumeAPI
		off  bool
		took time.Duration // At least; a second more at most.
		err  string
		hint string
		left int // How many pods left.
	}{
		{name: "no volumes", api: volumeAPI{pods: []object{podWith("db", object{"emptyDir": object{}})}}, left: 1},
		{
			name: "detached late", took: 8 * time.Second, left: 1,
			api: volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")}, detach: map[string]time.Duration{"va-pv-db": 8 * time.Second}},
		},
		{
			name: "never detached", took: time.Minute, left: 1, hint: "kubectl describe volumeattachment va-pv-db",
			api: volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")}},
			err: stuck + "pv-db (claim shop/db) of pod shop/db, driver rbd.csi.ceph.com: rbd: image has watchers",
		},
		{
			name: "one of two", took: time.Minute, left: 2,
			api: volumeAPI{
				pods:        []object{podWith("db", claim("db")), podWith("web", claim("web"))},
				attachments: []object{attachment("worker-1", "pv-db"), attachment("worker-1", "pv-web")}, detach: map[string]time.Duration{"va-pv-db": time.Second},
			},
			err: stuck + "pv-web (claim shop/web) of pod shop/web",
		},
		{
			name: "made for the pod", took: time.Minute, left: 1,
			api: volumeAPI{pods: []object{podWith("db", object{"ephemeral": object{}})}, attachments: []object{attachment("worker-1", "pv-db-data")}},
			err: stuck + "pv-db-data (claim shop/db-data) of pod shop/db",
		},
		{
			name: "defined in the pod", took: time.Minute, left: 1, err: stuck + "vol-1 of pod shop/db",
			api: volumeAPI{pods: []object{podWith("db", disk("aws://zone/vol-1"))}, attachments: []object{inline("vol-1")}},
		},
		{
			name: "left by an earlier drain", took: time.Minute, api: volumeAPI{attachments: []object{attachment("worker-1", "pv-db")}},
			err: stuck + "pv-db (claim shop/db), driver rbd.csi.ceph.com",
		},
		{
			name: "its object was deleted", took: time.Minute, err: stuck + "pv-deleted, driver",
			api: volumeAPI{pods: []object{podWith("agent", claim("deleted"), agent())}, attachments: []object{attachment("worker-1", "pv-deleted")}},
		},
		{name: "of another node", left: 1, api: volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-2", "pv-db")}}},
		{name: "of a DaemonSet", api: volumeAPI{pods: []object{podWith("agent", claim("agent"), agent())}, attachments: []object{attachment("worker-1", "pv-agent")}}},
		{
			name: "shared with a DaemonSet", left: 1,
			api: volumeAPI{pods: []object{podWith("agent", claim("both"), agent()), podWith("db", claim("both"))}, attachments: []object{attachment("worker-1", "pv-both")}},
		},
		{name: "not waited for", off: true, left: 1, api: volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")}}},
		{
			name: "forbidden", err: "cannot drain worker-1: cannot read which volumes are attached to worker-1: Forbidden", hint: "list volumeattachments.storage.k8s.io",
			api: volumeAPI{pods: []object{podWith("db", claim("db"))}, status: map[string]int{attachments: 403}},
		},
		{
			name: "forbidden volumes", err: "cannot read which volumes are attached to worker-1: Forbidden", hint: "get persistentvolumes",
			api: volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")}, status: map[string]int{"/api/v1/persistentvolumes/pv-db": 403}},
		},
		{
			name: "an API that answers again", took: 10 * time.Second, left: 1,
			api: volumeAPI{
				pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")},
				detach: map[string]time.Duration{"va-pv-db": 3 * time.Second}, status: map[string]int{attachments + "/va-pv-db": 500}, until: 10 * time.Second,
			},
		},
		{
			name: "an API that does not", took: time.Minute, left: 1, err: "waited 1m0s for the volumes of worker-1 to be detached",
			api: volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")}, status: map[string]int{attachments + "/va-pv-db": 500}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				api := c.api
				api.began = time.Now()
				k := clientOf(t, &api)

				left, err := k.Drain(t.Context(), "worker-1", DrainOptions{Timeout: time.Minute, Volumes: VolumeWait{Wait: !c.off, Timeout: time.Minute}})

				if took := time.Since(api.began).Truncate(time.Second); took < c.took || took > c.took+2*time.Second {
					t.Errorf("it took %s, want %s", took, c.took)
				}

				if left != c.left || len(api.evicted) != c.left || !c.off && api.before == 0 && api.status[attachments] == 0 {
					t.Errorf("%d pods left, evicted %v, %d reads before", left, api.evicted, api.before)
				}

				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || !strings.Contains(strings.Join(errs.Hints(err), " "), c.hint) {
					t.Errorf("%v, hints %q", err, errs.Hints(err))
				}

				if stuck := strings.Contains(c.err, "still attached"); stuck != (len(StillAttached(err)) == 1) {
					t.Errorf("volumes %+v", StillAttached(err))
				}
			})
		})
	}
}

// TestDrainVolumesInterrupted: an interruption ends the wait at once.
func TestDrainVolumesInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")}, began: time.Now()}
		stop := errors.New("interrupted")

		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(stop) })

		left, err := clientOf(t, api).Drain(ctx, "worker-1", DrainOptions{Timeout: time.Minute, Volumes: VolumeWait{Wait: true, Timeout: time.Minute}})
		if left != 1 || !errors.Is(err, stop) || time.Since(api.began) > 11*time.Second {
			t.Errorf("%d pods left after %s: %v", left, time.Since(api.began), err)
		}
	})
}

// limited is an API that client-go's rate limiter keeps requests from, after a while.
type limited struct {
	*volumeAPI

	after time.Duration
}

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if time.Since(l.began) >= l.after {
		return nil, errors.New("rate: Wait(n=1) would exceed context deadline")
	}

	return l.volumeAPI.RoundTrip(r)
}

// TestDrainVolumesLastLook: a last look that fails leaves what was read before, and one that fails earlier does not.
func TestDrainVolumesLastLook(t *testing.T) {
	t.Parallel()

	for after, stuck := range map[time.Duration]int{58500 * time.Millisecond: 1, 50 * time.Second: 0} {
		synctest.Test(t, func(t *testing.T) {
			api := &volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")}, began: time.Now()}

			_, err := clientOf(t, limited{api, after}).Drain(t.Context(), "worker-1", DrainOptions{Timeout: time.Minute, Volumes: VolumeWait{Wait: true, Timeout: time.Minute}})
			if err == nil || len(StillAttached(err)) != stuck {
				t.Errorf("after %s: %v", after, err)
			}
		})
	}
}

// silent is an API that stops answering once pods were evicted.
type silent struct{ *volumeAPI }

func (s silent) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(s.evicted) == 0 || strings.HasSuffix(r.URL.Path, "/eviction") || strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/") {
		return s.volumeAPI.RoundTrip(r)
	}

	<-r.Context().Done()

	return nil, r.Context().Err()
}

// TestDrainVolumesUnread: volumes that could not be read once are an error, not none.
func TestDrainVolumesUnread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &volumeAPI{pods: []object{podWith("db", claim("db"))}, attachments: []object{attachment("worker-1", "pv-db")}, began: time.Now()}

		left, err := clientOf(t, silent{api}).Drain(t.Context(), "worker-1", DrainOptions{Timeout: time.Minute, Volumes: VolumeWait{Wait: true, Timeout: 5 * time.Second}})
		if left != 1 || err == nil || !strings.Contains(err.Error(), "waited 5s for the volumes of worker-1 to be detached: deadline passed") || StillAttached(err) != nil {
			t.Errorf("%d pods left: %v", left, err)
		}
	})
}

func clientOf(t *testing.T, transport http.RoundTripper) *Client {
	t.Helper()

	c, err := fromRest(&rest.Config{Host: "http://kubernetes.test", Transport: transport}, "test")
	if err != nil {
		t.Fatal(err)
	}

	return c
}
