// Package condition evaluates the user's CEL expressions over a document. It is a package of its own because linking
// CEL makes start-up slower: only what needs it imports it.
package condition

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/parser"

	"github.com/talosmate/talosmate/internal/errs"
)

// Condition is a compiled expression that is true or false.
type Condition struct {
	text    string
	program cel.Program
	reader  *reader // Nil without k8s.
}

// costLimit bounds the evaluation of an expression. Checks over a thousand nodes stay well below it.
const costLimit = 10_000_000

// Compile checks an expression over the named variables, each of any type. An expression that does not compile, or is
// not a condition, is a usage error.
func Compile(text string, variables ...string) (*Condition, error) {
	program, err := compile(text, cel.BoolType, "a condition", variables)
	if err != nil {
		return nil, err
	}

	return &Condition{text: text, program: program}, nil
}

// List is a compiled expression that is a list of texts.
type List struct {
	text    string
	program cel.Program
}

// CompileList is Compile for an expression that lists texts.
func CompileList(text string, variables ...string) (*List, error) {
	program, err := compile(text, cel.ListType(cel.DynType), "a list", variables)
	if err != nil {
		return nil, err
	}

	return &List{text: text, program: program}, nil
}

func compile(text string, want *cel.Type, name string, variables []string, more ...cel.EnvOption) (cel.Program, error) {
	slices.Sort(variables)

	options := append([]cel.EnvOption{
		ext.Strings(), ext.Sets(), cel.OptionalTypes(),
		// all(list, n, …) is easier to read than CEL's own list.all(n, …).
		cel.Macros(quantifier("all", parser.MakeAll), quantifier("exists", parser.MakeExists), quantifier("exists_one", parser.MakeExistsOne)),
	}, more...)
	for _, v := range variables {
		options = append(options, cel.Variable(v, cel.DynType))
	}

	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("cannot prepare the expression %q: %w", text, err)
	}

	ast, issues := env.Compile(text)
	if issues != nil && issues.Err() != nil {
		return nil, errs.Usagef("bad expression %q: %w", text, issues.Err()).WithHint("the variables are %v; see https://cel.dev", variables)
	}

	if out := ast.OutputType(); !out.IsAssignableType(want) && !want.IsAssignableType(out) && out != cel.DynType {
		return nil, errs.Usagef("the expression %q is a %s, not %s", text, out, name)
	}

	program, err := env.Program(ast, cel.CostLimit(costLimit), cel.InterruptCheckFrequency(100))
	if err != nil {
		return nil, errs.Usagef("bad expression %q: %w", text, err)
	}

	return program, nil
}

// quantifier is a CEL macro with the list as its first argument.
func quantifier(name string, expand cel.MacroFactory) cel.Macro {
	return cel.GlobalMacro(name, 3, func(eh cel.MacroExprFactory, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
		return expand(eh, args[0], args[1:])
	})
}

// Values are a document's JSON fields as the variables of expressions.
func Values(document any) (map[string]any, error) {
	raw, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}

	var values map[string]any
	if err = json.Unmarshal(raw, &values); err != nil {
		return nil, err
	}

	for key, v := range values {
		values[key] = whole(v)
	}

	return values, nil
}

// Texts evaluates the list.
func (l *List) Texts(values map[string]any) ([]string, error) {
	out, _, err := l.program.Eval(values)
	if err != nil {
		return nil, fmt.Errorf("cannot evaluate %q: %w", l.text, err)
	}

	native, err := out.ConvertToNative(reflect.TypeFor[[]string]())
	if err != nil {
		return nil, fmt.Errorf("cannot evaluate %q: it is not a list of texts", l.text)
	}

	texts, _ := native.([]string) // what it was converted to

	return texts, nil
}

// Holds evaluates the condition over a document, whose JSON fields are the variables.
func (c *Condition) Holds(document any) (bool, error) {
	values, err := Values(document)
	if err != nil {
		return false, fmt.Errorf("cannot encode the document for %q: %w", c.text, err)
	}

	out, _, err := c.program.Eval(values)
	if err != nil {
		return false, fmt.Errorf("cannot evaluate %q: %w", c.text, err)
	}

	held, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("cannot evaluate %q: it is not true or false", c.text)
	}

	return held, nil
}

// whole turns JSON numbers without a fraction into integers, since CEL arithmetic does not mix the two kinds.
func whole(v any) any {
	switch typed := v.(type) {
	case float64:
		if typed == float64(int64(typed)) {
			return int64(typed)
		}
	case []any:
		for i := range typed {
			typed[i] = whole(typed[i])
		}
	case map[string]any:
		for k := range typed {
			typed[k] = whole(typed[k])
		}
	}

	return v
}
