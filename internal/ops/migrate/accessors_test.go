package migrate

import (
	"io"
	"reflect"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/stretchr/testify/assert"
)

func TestAccessors(t *testing.T) {
	t.Parallel()

	all := accessors()
	assert.Contains(t, all, reflect.TypeFor[config.Config]())

	for of, methods := range all {
		assert.Len(t, methods, of.NumMethod(), "%s", of)

		for i, m := range methods {
			want := of.Method(i)
			assert.Equal(t, want.Name, m.name, "%s", of)
			assert.Equal(t, of, m.call.Type().In(0), "%s.%s", of, m.name)
			assert.Equal(t, want.Type.NumOut(), m.call.Type().NumOut(), "%s.%s", of, m.name)
		}
	}
}

func TestUnknownAccessors(t *testing.T) {
	t.Parallel()

	r := reading{accessors(), map[string]string{}}

	unknown := io.MultiReader()

	assert.PanicsWithValue(t, "no accessors are known of io.Reader", func() {
		r.value(reflect.ValueOf(&unknown).Elem(), reflect.TypeFor[io.Reader](), "Machine")
	}, "what cannot be compared is not the same")
}
