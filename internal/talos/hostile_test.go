package talos

import (
	"context"
	"errors"
	"strings"
	"testing"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"google.golang.org/grpc"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// specServer serves one resource whose spec is its text.
type specServer struct {
	cosi.UnimplementedStateServer
	spec string
}

func (s specServer) Get(context.Context, *cosi.GetRequest) (*cosi.GetResponse, error) {
	return &cosi.GetResponse{Resource: &cosi.Resource{
		Metadata: &cosi.Metadata{Namespace: "config", Type: "Things.example.dev", Id: "x"}, Spec: &cosi.Spec{YamlSpec: s.spec},
	}}, nil
}

func TestAliasesOfANodeAreItsError(t *testing.T) {
	nested := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for _, level := range []string{"ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"} {
		nested += level[1:] + ": &" + level[1:] + " [" + strings.TrimSuffix(strings.Repeat("*"+level[:1]+",", 9), ",") + "]\n"
	}

	for name, spec := range map[string]string{"cycle": "a: &x\n  b: *x\n", "nested": nested} {
		n := fakeNode(t, func(s *grpc.Server) { cosi.RegisterStateServer(s, specServer{spec: spec}) })

		_, err := n.Resource(t.Context(), "config", "Things.example.dev", "x")
		if !errors.Is(err, foreign.ErrTooLarge) || !strings.Contains(err.Error(), "on 10.0.0.1 (n1)") {
			t.Errorf("%s: the resource gave %v", name, err)
		}

		if _, err = n.MachineConfig(t.Context()); !errors.Is(err, foreign.ErrTooLarge) {
			t.Errorf("%s: the machine configuration gave %v", name, err)
		}

		if _, err = n.ConfigFacts(t.Context()); err == nil {
			t.Errorf("%s: the facts gave no error", name)
		}
	}
}

func TestAPanicIsThatNodesError(t *testing.T) {
	c, err := NewCluster(nil, "test", conn.Options{Insecure: true, Concurrency: 2})
	if err != nil {
		t.Fatal(err)
	}

	targets := []Target{{Address: "10.0.0.1"}, {Address: "10.0.0.2"}}
	ask := func(_ context.Context, n *Node) (int, error) {
		if n.Address == "10.0.0.1" {
			panic("broken")
		}

		return 1, nil
	}

	for name, outcomes := range map[string][]Outcome[int]{
		"Each":       Each(t.Context(), c, targets, ask),
		"EachStream": EachStream(t.Context(), c, targets, true, ask),
		"EachChange": EachChange(t.Context(), c, targets, ask),
	} {
		good, err := Collect(outcomes, false)

		entries := errs.Entries(err)
		if len(good) != 1 || len(entries) != 1 || entries[0].Node != "10.0.0.1" || !strings.Contains(entries[0].Message, "internal error: broken") {
			t.Errorf("%s: %d good, %v", name, len(good), entries)
		}
	}
}
