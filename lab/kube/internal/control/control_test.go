package control_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/lab/kube/internal/bed"
	"github.com/talosmate/talosmate/lab/kube/internal/control"
	"github.com/talosmate/talosmate/lab/kube/internal/kubelet"
)

// recorder answers for one node "a" and writes down what it is asked.
type recorder struct{ calls []string }

func (r *recorder) known(name string) error {
	if name != "a" {
		return fmt.Errorf("%w: %s", kubelet.ErrUnknownNode, name)
	}
	return nil
}

func (r *recorder) Nodes() []kubelet.State { return []kubelet.State{{Name: "a"}} }

func (r *recorder) Node(name string) (kubelet.State, error) {
	return kubelet.State{Name: name}, r.known(name)
}

func (r *recorder) Add(s kubelet.Spec) (kubelet.State, error) {
	if s.Name == "a" {
		return kubelet.State{}, kubelet.ErrNodeExists
	}
	r.calls = append(r.calls, "add "+s.Name+" "+s.InternalIP)
	return kubelet.State{Name: s.Name}, nil
}

func (r *recorder) Change(name string, c kubelet.Change) (kubelet.State, error) {
	if err := r.known(name); err != nil {
		return kubelet.State{}, err
	}
	call := "change " + name
	if c.Up != nil {
		call += fmt.Sprint(" up=", *c.Up)
	}
	if c.BootID != nil {
		call += " boot=" + *c.BootID
	}
	if c.Ready != nil {
		call += fmt.Sprint(" ready=", *c.Ready)
	}
	r.calls = append(r.calls, call)
	return kubelet.State{Name: name}, nil
}

func (r *recorder) Remove(_ context.Context, name string, keep bool) error {
	r.calls = append(r.calls, fmt.Sprint("remove ", name, " keep=", keep))
	return r.known(name)
}

func (r *recorder) Status() control.Status {
	return control.Status{Kubeconfig: "/x/kubeconfig", Pids: []int{}, APIServer: "up"}
}

func (r *recorder) Break(m bed.Mode, span time.Duration) error {
	if span == 13*time.Second {
		return bed.ErrOutage
	}
	r.calls = append(r.calls, fmt.Sprint("break ", m, " ", span))
	return nil
}

func (r *recorder) Configure(_ context.Context, s bed.Settings) error {
	if len(s.Args) == 0 {
		return fmt.Errorf("%w: boom", bed.ErrUnready)
	}
	r.calls = append(r.calls, fmt.Sprint("configure ", s.Args, " ", len(s.Files)))
	return nil
}

func TestHandler(t *testing.T) {
	for _, tc := range []struct {
		method, path, body string
		code               int
		call, answer       string
	}{
		{"GET", "/status", "", 200, "", `"apiserver":"up"`},
		{"GET", "/nodes", "", 200, "", `{"nodes":[{"name":"a"`},
		{"GET", "/nodes/a", "", 200, "", `{"name":"a"`},
		{"GET", "/nodes/b", "", 404, "", "no such node"},
		{"POST", "/nodes/a", `{"up":false}`, 200, "change a up=false", ""},
		{"POST", "/nodes/a", `{"up":true,"boot_id":"x","ready":false}`, 200, "change a up=true boot=x ready=false", ""},
		{"POST", "/nodes/b", `{"up":false}`, 404, "", "no such node"},
		{"POST", "/nodes/a", `{"Up":false,"bootid":""}`, 400, "", "bootid"},
		{"POST", "/nodes/a", `{"up":`, 400, "", "EOF"},
		{"PUT", "/nodes/c", `{"internal_ip":"127.0.1.9"}`, 201, "add c 127.0.1.9", ""},
		{"PUT", "/nodes/c", `{"internal_ip":"nine"}`, 400, "", "not an IP address"},
		{"PUT", "/nodes/c", `{"name":"d","internal_ip":"127.0.1.9"}`, 400, "", "not that in the path"},
		{"PUT", "/nodes/a", `{"internal_ip":"127.0.1.9"}`, 409, "", "exists"},
		{"DELETE", "/nodes/a", "", 200, "remove a keep=false", `{"removed":"a"}`},
		{"DELETE", "/nodes/a?objects=keep", "", 200, "remove a keep=true", ""},
		{"DELETE", "/nodes/b", "", 404, "remove b keep=false", ""},
		{"POST", "/apiserver/outage", `{"seconds":30}`, 202, "break refuse 30s", ""},
		{"POST", "/apiserver/outage", `{"seconds":0.5,"mode":"hang"}`, 202, "break hang 500ms", ""},
		{"POST", "/apiserver/outage", `{"seconds":13}`, 409, "", bed.ErrOutage.Error()},
		{"POST", "/apiserver/outage", `{"seconds":0}`, 400, "", "seconds"},
		{"POST", "/apiserver/outage", `{"seconds":3,"mode":"burn"}`, 400, "", "mode"},
		{"PUT", "/apiserver", `{"args":["--a=b"],"files":{"/c/d.yaml":"e"}}`, 200, "configure [--a=b] 1", `"apiserver":"up"`},
		{"PUT", "/apiserver", `{}`, 503, "", "boom"},
		{"PUT", "/apiserver", `{"args":["a"]}`, 400, "", "not a flag"},
		{"PUT", "/apiserver", `{"files":{"/../x":""}}`, 400, "", "not an absolute path"},
		{"GET", "/other", "", 404, "", ""},
		{"PATCH", "/nodes/a", "", 405, "", ""},
	} {
		t.Run(tc.method+" "+tc.path+" "+tc.body, func(t *testing.T) {
			r := &recorder{}
			w := httptest.NewRecorder()
			control.Handler(r, r).ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
			if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.answer) {
				t.Errorf("got %d %s, want %d with %s", w.Code, w.Body, tc.code, tc.answer)
			}
			if got := strings.Join(r.calls, ";"); got != tc.call {
				t.Errorf("calls %q, want %q", got, tc.call)
			}
			if tc.code != http.StatusNotFound && tc.code != http.StatusMethodNotAllowed && w.Header().Get("Content-Type") != "application/json" {
				t.Error("not JSON")
			}
		})
	}
}
