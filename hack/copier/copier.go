// Package copier stands in for github.com/jinzhu/copier when talosmate is built from its workspace. yq copies one struct with
// it. The original looks methods up by names that it learns at run time, and because of that alone the linker keeps every
// exported method of every type: a fifth of the program.
package copier

import (
	"fmt"
	"reflect"
)

// Copy copies a struct to one of the same type, to a pointer of which to points. It refuses anything else.
func Copy(to, from any) error {
	dst, src := reflect.ValueOf(to), reflect.ValueOf(from)
	if dst.Kind() != reflect.Pointer || dst.IsNil() || src.Kind() != reflect.Struct || dst.Type().Elem() != src.Type() {
		return fmt.Errorf("cannot copy a %T to a %T", from, to)
	}

	dst.Elem().Set(src)

	return nil
}
