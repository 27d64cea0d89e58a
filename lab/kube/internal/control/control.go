// Package control is the HTTP interface to change the machines and the API server of a running bed.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/talosmate/talosmate/lab/kube/internal/bed"
	"github.com/talosmate/talosmate/lab/kube/internal/kubelet"
)

// Machines has the calls that the interface makes to the kubelets.
type Machines interface {
	Nodes() []kubelet.State
	Node(name string) (kubelet.State, error)
	Add(spec kubelet.Spec) (kubelet.State, error)
	Change(name string, c kubelet.Change) (kubelet.State, error)
	Remove(ctx context.Context, name string, keepObjects bool) error
}

// Cluster has the calls that the interface makes to the control plane.
type Cluster interface {
	Status() Status
	// Break makes the API server unavailable for a while and returns when it is down.
	Break(mode bed.Mode, span time.Duration) error
	// Configure starts the API server again with other settings and returns when it is ready.
	Configure(ctx context.Context, s bed.Settings) error
}

// Status describes a bed. It is also the line that `kubebed up` prints when
// the bed is ready.
type Status struct {
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string `json:"kubeconfig"`
	// Server is the API server's URL.
	Server string `json:"server"`
	// Control is the URL of this interface.
	Control string `json:"control"`
	// Pid is the supervisor's process: SIGTERM to it ends the bed.
	Pid int `json:"pid"`
	// Pids are those of the children. An outage that refuses connections changes them.
	Pids []int `json:"pids"`
	// Processes are the same by name.
	Processes map[string]int `json:"processes"`
	// APIServer is "up", or how it is down: "refuse", "hang", "restart" or "unready".
	APIServer string `json:"apiserver"`
}

// Outage is the body of POST /apiserver/outage.
type Outage struct {
	// Seconds may have a fraction.
	Seconds float64 `json:"seconds"`
	// Mode is "refuse" (the default) or "hang".
	Mode bed.Mode `json:"mode,omitempty"`
}

// maxOutage limits an outage, so that a mistake does not look like a hung test.
const maxOutage = time.Hour

// Handler serves the interface.
func Handler(machines Machines, cluster Cluster) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, cluster.Status())
	})
	mux.HandleFunc("GET /nodes", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"nodes": machines.Nodes()})
	})
	mux.HandleFunc("GET /nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		state, err := machines.Node(r.PathValue("name"))
		answerOr(w, http.StatusOK, state, err)
	})
	mux.HandleFunc("PUT /nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		var spec kubelet.Spec
		if !read(w, r, &spec) {
			return
		}
		if spec.Name == "" {
			spec.Name = r.PathValue("name")
		}
		if spec.Name != r.PathValue("name") {
			refuse(w, http.StatusBadRequest, errors.New("the name in the body is not that in the path"))
			return
		}
		if err := spec.Validate(); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		state, err := machines.Add(spec)
		answerOr(w, http.StatusCreated, state, err)
	})
	mux.HandleFunc("POST /nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		var c kubelet.Change
		if !read(w, r, &c) {
			return
		}
		state, err := machines.Change(r.PathValue("name"), c)
		answerOr(w, http.StatusOK, state, err)
	})
	mux.HandleFunc("DELETE /nodes/{name}", func(w http.ResponseWriter, r *http.Request) {
		keep := r.URL.Query().Get("objects") == "keep"
		err := machines.Remove(r.Context(), r.PathValue("name"), keep)
		answerOr(w, http.StatusOK, map[string]string{"removed": r.PathValue("name")}, err)
	})
	mux.HandleFunc("PUT /apiserver", func(w http.ResponseWriter, r *http.Request) {
		var s bed.Settings
		if !read(w, r, &s) {
			return
		}
		if err := s.Validate(); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		err := cluster.Configure(r.Context(), s)
		answerOr(w, http.StatusOK, cluster.Status(), err)
	})
	mux.HandleFunc("POST /apiserver/outage", func(w http.ResponseWriter, r *http.Request) {
		var o Outage
		if !read(w, r, &o) {
			return
		}
		if o.Mode == "" {
			o.Mode = bed.Refuse
		}
		span := time.Duration(o.Seconds * float64(time.Second))
		if (o.Mode != bed.Refuse && o.Mode != bed.Hang) || o.Seconds <= 0 || o.Seconds > maxOutage.Seconds() {
			refuse(w, http.StatusBadRequest, fmt.Errorf("want a mode of %s or %s and seconds from 0 to %.0f", bed.Refuse, bed.Hang, maxOutage.Seconds()))
			return
		}
		err := cluster.Break(o.Mode, span)
		answerOr(w, http.StatusAccepted, o, err)
	})
	return mux
}

// read decodes the body, which may be empty. Unknown fields are refused.
func read(w http.ResponseWriter, r *http.Request, v any) bool {
	const enough = 1 << 20
	if r.ContentLength == 0 {
		return true
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, enough))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return false
	}
	return true
}

func answerOr(w http.ResponseWriter, code int, v any, err error) {
	switch {
	case err == nil:
		answer(w, code, v)
	case errors.Is(err, kubelet.ErrUnknownNode):
		refuse(w, http.StatusNotFound, err)
	case errors.Is(err, kubelet.ErrNodeExists), errors.Is(err, bed.ErrOutage):
		refuse(w, http.StatusConflict, err)
	case errors.Is(err, bed.ErrUnready):
		refuse(w, http.StatusServiceUnavailable, err)
	default:
		refuse(w, http.StatusInternalServerError, err)
	}
}

func refuse(w http.ResponseWriter, code int, err error) {
	answer(w, code, map[string]string{"error": err.Error()})
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v) //nolint:errcheck,errchkjson // the caller has disconnected
}
