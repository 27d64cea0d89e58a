package condition_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/condition"
)

// TestObjects: an expression reads Kubernetes objects, each once and not too many, and only where it asks for them.
func TestObjects(t *testing.T) {
	t.Parallel()

	away := errors.New("the API server is down")
	read := 0

	objects := func(_ context.Context, version, kind, namespace, name string) (map[string]any, error) {
		if read++; kind == "Away" {
			return nil, away
		}

		return map[string]any{"id": version + " " + kind + " " + namespace + " " + name, "replicas": float64(3)}, nil
	}

	for _, c := range []struct {
		text  string
		holds bool
		reads int
		err   string
	}{
		{`k8s("v1", "Pod", "shop", next).id == "v1 Pod shop n1"`, true, 1, ""},
		{`k8s("v1", "Pod", "shop", "db").replicas > 2 && k8s("v1", "Pod", "shop", "db").replicas < 2`, false, 1, ""},
		{`next == "n1" || k8s("v1", "Pod", "shop", "db").replicas > 2`, true, 0, ""},
		{`has(k8s("v1", "Pod", "shop", "db").status)`, false, 1, ""},
		{`k8s("v1", "Pod", "shop", "db").status.phase == "x"`, false, 1, "no such key: status"},
		{`k8s("v1", "Away", "shop", "db").id == ""`, false, 1, "cannot read Away shop/db: the API server is down"},
		{`k8s("v1", "Away", "", "db").id == ""`, false, 1, "cannot read Away db"},
		{`many.all(m, k8s("v1", "Pod", "", m).replicas == 3)`, false, 32, "reads more than 32 objects"},
	} {
		read = 0

		cond, err := condition.CompileWithObjects(c.text, objects, "next", "many")
		if err != nil {
			t.Fatal(err)
		}

		many := []string{}
		for i := range 100 {
			many = append(many, fmt.Sprint(i))
		}

		holds, err := cond.HoldsNow(t.Context(), map[string]any{"next": "n1", "many": many})
		if holds != c.holds || read != c.reads || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %t after %d reads, %v", c.text, holds, read, err)
		}

		var unread *condition.ObjectError
		if strings.Contains(c.text, "Away") != (errors.As(err, &unread) && errors.Is(unread, away)) {
			t.Errorf("%s: %v", c.text, err)
		}
	}

	for _, text := range []string{`k8s("v1", "Pod", "shop")`, `k8s(1, "Pod", "shop", "x").a == 1`} {
		if _, err := condition.CompileWithObjects(text, objects); err == nil {
			t.Errorf("%s is compiled", text)
		}
	}

	if _, err := condition.Compile(`k8s("v1", "Pod", "shop", "db").a == 1`); err == nil {
		t.Error("only gates have k8s")
	}
}
