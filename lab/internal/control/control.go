// Package control is the lab's control endpoint: HTTP with JSON on loopback, to break the cluster on purpose and to
// inspect it.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/talosmate/talosmate/lab/internal/cluster"
	"github.com/talosmate/talosmate/lab/internal/faults"
)

// Request is one command, as talosmate-lab ctl sends it to POST /ctl.
type Request struct {
	Verb   string            `json:"verb"`
	Node   string            `json:"node,omitempty"`
	Params map[string]string `json:"params,omitempty"`
}

// Failure is the answer to a request that failed.
type Failure struct {
	Error string `json:"error"`
}

// Server serves the control endpoint of one cluster.
type Server struct {
	cluster *cluster.Cluster
	stop    func()
	http    *http.Server
	url     string
}

// New makes a control endpoint; stop is called when a request ends the lab.
func New(c *cluster.Cluster, stop func()) *Server { return &Server{cluster: c, stop: stop} }

// Start listens on a free loopback port.
func (s *Server) Start() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /ctl", s.serve)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }) //nolint:errcheck

	s.url = "http://" + ln.Addr().String()
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	go s.http.Serve(ln) //nolint:errcheck // ends with Close

	return nil
}

// URL is where the endpoint listens.
func (s *Server) URL() string { return s.url }

// Close ends the endpoint.
func (s *Server) Close() {
	if s.http != nil {
		s.http.Close() //nolint:errcheck
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	var req Request

	w.Header().Set("Content-Type", "application/json")

	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		answer(w, http.StatusBadRequest, Failure{Error: err.Error()})

		return
	}

	out, err := s.Do(r.Context(), req)

	switch {
	case errors.Is(err, cluster.ErrNoNode):
		answer(w, http.StatusNotFound, Failure{Error: err.Error()})
	case err != nil:
		answer(w, http.StatusBadRequest, Failure{Error: err.Error()})
	default:
		answer(w, http.StatusOK, out)
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	w.WriteHeader(code)

	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(body) //nolint:errcheck // the caller has disconnected
}

// done is the answer of commands without a result.
type done struct {
	OK bool `json:"ok"`
}

// handler executes one verb.
type handler func(ctx context.Context, r Request) (any, error)

// Do executes a request.
func (s *Server) Do(ctx context.Context, r Request) (any, error) {
	h, ok := s.verbs()[r.Verb]
	if !ok {
		return nil, fmt.Errorf("unknown verb %q", r.Verb)
	}

	return h(ctx, r)
}

func (s *Server) verbs() map[string]handler {
	return map[string]handler{
		"nodes":             s.nodes,
		"state":             s.state,
		"timeline":          func(_ context.Context, r Request) (any, error) { return s.cluster.Timeline.Of(r.Node), nil },
		"kubernetes-outage": s.outage,
		"requests":          s.requests,
		"power":             s.onNode(s.power),
		"hang":              s.onNode(s.hang),
		"fault":             s.onNode(s.fault),
		"clear":             s.onNode(s.clear),
		"service":           s.onNode(s.service),
		"etcd-alarm":        s.onNode(s.etcdAlarm),
		"etcd-move-leader":  s.onNode(s.etcdMoveLeader),
		"etcd-unhealthy":    s.onNode(s.etcdUnhealthy),
		"etcd-skew":         s.onNode(s.etcdSkew),
		"etcd-leader":       s.etcdLeader,
		"etcd-fill":         s.etcdFill,
		"etcd-put":          s.etcdPut,
		"etcd-get":          s.etcdGet,
		"etcd-dump":         s.onNode(s.etcdDump),
		"etcd-inspect":      s.etcdInspect,
		"etcd-compact":      s.etcdCompact,
		"image-add":         s.onNode(s.imageAdd),
		"image-list":        s.onNode(s.imageList),
		"image-gc":          s.onNode(s.imageGC),
		"log":               s.onNode(s.log),
		"file":              s.onNode(s.file),
		"kernel":            s.onNode(s.kernel),
		"stop":              func(context.Context, Request) (any, error) { go s.stop(); return done{true}, nil },
		"config":            s.onNode(s.config),
		"wait":              s.onNode(s.wait),
	}
}

// onNode finds the node first.
func (s *Server) onNode(act func(context.Context, *cluster.Member, Request) (any, error)) handler {
	return func(ctx context.Context, r Request) (any, error) {
		m, err := s.cluster.Find(r.Node)
		if err != nil {
			return nil, err
		}

		return act(ctx, m, r)
	}
}

// NodeSummary is one row of ctl nodes.
type NodeSummary struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Type    string `json:"type"`
	Version string `json:"version"`
	Stage   string `json:"stage"`
	Up      bool   `json:"up"`
	Powered bool   `json:"powered"`
	BootID  string `json:"boot_id"`
	// EtcdHealthy reports whether its etcd member runs and serves.
	EtcdHealthy bool `json:"etcd_healthy"`
	// Clients is how many connections it has that do not come from another node.
	Clients int `json:"clients"`
}

func (s *Server) nodes(context.Context, Request) (any, error) {
	out := []NodeSummary{}

	for _, m := range s.cluster.Members() {
		out = append(out, NodeSummary{
			Name: m.Name, Address: m.Address.String(), Type: m.Type(), Version: m.Version(), Stage: m.Stage().String(),
			Up: m.Up(), Powered: m.Powered(), BootID: m.BootID(), EtcdHealthy: m.EtcdHealthy(),
			Clients: s.clients(m),
		})
	}

	return out, nil
}

func (s *Server) clients(m *cluster.Member) int {
	n := 0

	for _, peer := range m.API.Peers() {
		if !slices.ContainsFunc(s.cluster.Members(), func(o *cluster.Member) bool { return o.Address == peer }) {
			n++
		}
	}

	return n
}

func (s *Server) state(_ context.Context, r Request) (any, error) {
	if r.Node != "" {
		m, err := s.cluster.Find(r.Node)
		if err != nil {
			return nil, err
		}

		return m.Dump(), nil
	}

	out := map[string]any{}
	for _, m := range s.cluster.Members() {
		out[m.Name] = m.Dump()
	}

	return out, nil
}

// RequestCounts is the answer of ctl requests.
type RequestCounts struct {
	Nodes map[string]cluster.Counts `json:"nodes"`
	// Mutations is how many state-changing requests nodes executed.
	Mutations int `json:"mutations"`
	// MutationsReceived is how many of them clients sent, whichever node executed them.
	MutationsReceived int `json:"mutations_received"`
	Executed          int `json:"executed"`
	Received          int `json:"received"`
}

func (s *Server) requests(_ context.Context, r Request) (any, error) {
	if r.Params["reset"] == "true" {
		s.cluster.Requests.Reset()

		return done{true}, nil
	}

	node := r.Node
	if node != "" {
		m, err := s.cluster.Find(node)
		if err != nil {
			return nil, err
		}

		node = m.Name
	}

	method := r.Params["method"]
	out := RequestCounts{Nodes: s.cluster.Requests.Snapshot(node, func(m string) bool { return method == "" || faults.Matches(method, m) })}

	for _, c := range out.Nodes {
		out.Mutations += c.Mutations
		out.MutationsReceived += c.MutationsReceived

		for _, n := range c.Executed {
			out.Executed += n
		}

		for _, n := range c.Received {
			out.Received += n
		}
	}

	return out, nil
}

func onOff(r Request) (bool, error) {
	switch r.Params["state"] {
	case "on":
		return true, nil
	case "off":
		return false, nil
	default:
		return false, fmt.Errorf("want on or off, not %q", r.Params["state"])
	}
}

func (s *Server) power(_ context.Context, m *cluster.Member, r Request) (any, error) {
	on, err := onOff(r)
	if err != nil {
		return nil, err
	}

	if on {
		m.PowerOn()
	} else {
		m.PowerOff("power off")
	}

	return done{true}, nil
}

func (s *Server) hang(_ context.Context, m *cluster.Member, r Request) (any, error) {
	on, err := onOff(r)
	if err != nil {
		return nil, err
	}

	m.API.Hang(on)
	m.Note("hang", r.Params["state"])

	return done{true}, nil
}

func (s *Server) fault(_ context.Context, m *cluster.Member, r Request) (any, error) {
	f, err := faults.Parse(r.Params["spec"])
	if err != nil {
		return nil, err
	}

	m.Faults.Arm(f)

	return m.Faults.List(), nil
}

func (s *Server) clear(_ context.Context, m *cluster.Member, r Request) (any, error) {
	return map[string]int{"cleared": m.Faults.Clear(r.Params["name"])}, nil
}

func (s *Server) service(_ context.Context, m *cluster.Member, r Request) (any, error) {
	id := r.Params["id"]

	var err error

	switch r.Params["state"] {
	case "fail":
		err = m.FailService(id, "health check failed by the lab")
	case "ok":
		err = m.FailService(id, "")
	case "stop":
		err = m.KillService(id)
	default:
		err = fmt.Errorf("want fail, ok or stop, not %q", r.Params["state"])
	}

	return done{err == nil}, err
}

func number(r Request, name string, fallback int64) (int64, error) {
	text := r.Params[name]
	if text == "" {
		return fallback, nil
	}

	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}

	return n, nil
}

// wait returns once the node is up and ready, or the deadline has passed.
func (s *Server) wait(ctx context.Context, m *cluster.Member, r Request) (any, error) {
	timeout := 30 * time.Second

	if text := r.Params["timeout"]; text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}

		timeout = d
	}

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()

	for !m.Ready() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("node %s is not ready: stage %s", m.Name, m.Stage())
		}
	}

	return m.Dump(), nil
}

// outage makes the Kubernetes API server unavailable for a while.
func (s *Server) outage(ctx context.Context, r Request) (any, error) {
	d, err := time.ParseDuration(r.Params["duration"])
	if err != nil {
		return nil, err
	}

	err = s.cluster.Outage(ctx, d.Seconds(), r.Params["mode"])

	return done{err == nil}, err
}
