package condition

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/talosmate/talosmate/internal/errs"
)

// Objects reads a Kubernetes object, as JSON has it. The namespace of one that is in none is empty.
type Objects func(ctx context.Context, apiVersion, kind, namespace, name string) (map[string]any, error)

// objectLimit bounds the objects that one evaluation reads.
const objectLimit = 32

// reader gives an evaluation the function k8s(APIVERSION, KIND, NAMESPACE, NAME). Compiled functions know no context, so that
// one evaluation runs at a time.
type reader struct {
	objects Objects
	mu      sync.Mutex
	now     func(id [4]string) (map[string]any, error) // For the evaluation that runs.
}

func (r *reader) option() cel.EnvOption {
	text := cel.StringType

	return cel.Function("k8s", cel.Overload("k8s_object", []*cel.Type{text, text, text, text}, cel.DynType, cel.FunctionBinding(func(args ...ref.Val) ref.Val {
		var id [4]string

		for i, arg := range args {
			id[i], _ = arg.Value().(string) // what the overload says
		}

		object, err := r.now(id)
		if err != nil {
			return types.WrapErr(err)
		}

		return types.DefaultTypeAdapter.NativeToValue(object)
	})))
}

// during lets the evaluation read objects, each once and at most objectLimit.
func (r *reader) during(ctx context.Context, evaluate func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()

	read := map[[4]string]map[string]any{}

	r.now = func(id [4]string) (map[string]any, error) {
		if known := read[id]; known != nil {
			return known, nil
		}

		if len(read) == objectLimit {
			return nil, errs.Usagef("the expression reads more than %d objects", objectLimit)
		}

		object, err := r.objects(ctx, id[0], id[1], id[2], id[3])
		if err != nil {
			return nil, &ObjectError{fmt.Errorf("cannot read %s %s: %w", id[1], strings.TrimPrefix(id[2]+"/"+id[3], "/"), err)}
		}

		read[id], _ = whole(object).(map[string]any) // it is one

		return read[id], nil
	}

	return evaluate()
}

// ObjectError is the error of a condition because an object could not be read.
type ObjectError struct{ error }

// Unwrap is the cause.
func (e *ObjectError) Unwrap() error { return e.error }

// CompileWithObjects is Compile with the function k8s(APIVERSION, KIND, NAMESPACE, NAME), which gives a Kubernetes object.
func CompileWithObjects(text string, objects Objects, variables ...string) (*Condition, error) {
	r := &reader{objects: objects}

	program, err := compile(text, cel.BoolType, "a condition", variables, r.option())
	if err != nil {
		return nil, err
	}

	return &Condition{text: text, program: program, reader: r}, nil
}

// HoldsNow is Holds for a condition that may read objects.
func (c *Condition) HoldsNow(ctx context.Context, document any) (held bool, err error) {
	err = c.reader.during(ctx, func() error {
		held, err = c.Holds(document)

		return err
	})

	return held, err
}
