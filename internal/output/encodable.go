package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
)

// encodableRows returns the rows that JSON can hold, and for each other row an error that names its node. With keep
// these rows stay too, without the values that JSON cannot hold.
func encodableRows(rows []any, keep bool) ([]any, []*errs.Error) {
	var failed []*errs.Error

	kept := rows

	for i, row := range rows {
		if _, err := json.Marshal(row); err == nil {
			if len(failed) > 0 && !keep {
				kept = append(kept, row)
			}

			continue
		}

		if len(failed) == 0 {
			kept = append([]any{}, rows[:i]...) // the caller's rows stay as they are
			if keep {
				kept = append([]any{}, rows...)
			}
		}

		clean, lost := encodable(row)
		failed = append(failed, lost)

		if keep {
			kept[i] = clean
		}
	}

	return kept, failed
}

// encodable copies a value without what JSON cannot hold. The error names what was removed, and its node.
func encodable(v any) (any, *errs.Error) {
	c := cleaner{}
	out := c.clean(reflect.ValueOf(&v).Elem(), "").Interface()

	if len(c.lost) == 0 {
		c.lost = []string{"a value"}
	}

	what := strings.Join(c.lost[:min(3, len(c.lost))], ", ")
	if len(c.lost) > 3 {
		what += fmt.Sprintf(" and %d more", len(c.lost)-3)
	}

	e := &errs.Error{Exit: errs.Failed, Node: c.node, Hostname: c.hostname, Err: fmt.Errorf("cannot show what was answered: %s", what)}
	if c.node != "" {
		e.Err = fmt.Errorf("cannot show the answer of %s: %s", c.node, what)
	}

	return out, e
}

// cleaner copies a value. It records what it removed, and the node of the innermost row that contained it.
type cleaner struct {
	lost           []string
	node, hostname string
}

func (c *cleaner) drop(v reflect.Value, path, what string) reflect.Value {
	c.lost = append(c.lost, strings.TrimPrefix(path, ".")+" "+what)

	return reflect.Zero(v.Type())
}

func (c *cleaner) clean(v reflect.Value, path string) reflect.Value {
	if !v.IsValid() {
		return v
	}

	if t, is := v.Interface().(time.Time); is {
		if _, err := t.MarshalJSON(); err != nil {
			return c.drop(v, path, "is not a time between the years 0 and 9999")
		}

		return v
	}

	out := reflect.New(v.Type()).Elem()
	out.Set(v)

	switch v.Kind() { //nolint:exhaustive // the other kinds can be encoded, or never occur
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return c.drop(v, path, "is not a finite number")
		}
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			break
		}

		before := len(c.lost)
		inner := c.clean(v.Elem(), path)

		switch {
		case len(c.lost) > before && (inner.Kind() != reflect.Struct || inner.Type() == reflect.TypeOf(time.Time{})) && inner.IsZero():
			return reflect.Zero(v.Type()) // it can be omitted
		case v.Kind() == reflect.Interface:
			out.Set(inner)
		default:
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(inner)
		}
	case reflect.Struct:
		c.structure(v, out, path)
	case reflect.Slice:
		if !v.IsNil() {
			out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		}

		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			out.Index(i).Set(c.clean(v.Index(i), fmt.Sprintf("%s[%d]", path, i)))
		}
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		}

		for _, key := range v.MapKeys() {
			out.SetMapIndex(key, c.clean(v.MapIndex(key), path+"."+fmt.Sprint(key)))
		}
	}

	return c.own(v, out, path)
}

// own calls the encoder of a type that encodes itself.
func (c *cleaner) own(v, out reflect.Value, path string) reflect.Value {
	m, is := out.Interface().(json.Marshaler)
	if !is || (out.Kind() == reflect.Pointer && out.IsNil()) {
		return out
	}

	if _, err := m.MarshalJSON(); err != nil {
		return c.drop(v, path, "cannot be encoded")
	}

	return out
}

func (c *cleaner) structure(v, out reflect.Value, path string) {
	before := len(c.lost)

	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")

		if !out.Field(i).CanSet() || name == "-" {
			continue
		}

		switch {
		case field.Anonymous && name == "":
			out.Field(i).Set(c.clean(v.Field(i), path))
		case name == "":
			out.Field(i).Set(c.clean(v.Field(i), path+"."+field.Name))
		default:
			out.Field(i).Set(c.clean(v.Field(i), path+"."+name))
		}
	}

	if len(c.lost) == before || c.node != "" {
		return
	}

	if node := v.FieldByName("Node"); node.IsValid() && node.Kind() == reflect.String {
		c.node = node.String()
	}

	if hostname := v.FieldByName("Hostname"); c.node != "" && hostname.IsValid() && hostname.Kind() == reflect.String {
		c.hostname = hostname.String()
	}
}

// partly is the error of a list of which some rows could not be shown.
func partly(failed []*errs.Error, succeeded int, question bool) error {
	if len(failed) == 0 {
		return nil
	}

	return &errs.Nodes{Errors: failed, Succeeded: succeeded, Question: question}
}

// joined is errors.Join that keeps a nil error nil and a single error as it is.
func joined(a, b error) error {
	if a == nil {
		return b
	}

	if b == nil {
		return a
	}

	return errors.Join(a, b)
}
