package copier_test

import (
	"testing"

	"github.com/jinzhu/copier"
)

func TestCopy(t *testing.T) {
	type prefs struct{ A, B bool }

	var to prefs
	if err := copier.Copy(&to, prefs{A: true}); err != nil || to != (prefs{A: true}) {
		t.Fatalf("got %+v, %v", to, err)
	}

	for _, from := range []any{struct{ A bool }{}, &prefs{}, 1, nil} {
		if err := copier.Copy(&to, from); err == nil {
			t.Errorf("%T was copied", from)
		}
	}

	for _, to := range []any{to, (*prefs)(nil), nil} {
		if err := copier.Copy(to, prefs{}); err == nil {
			t.Errorf("to %T was copied", to)
		}
	}
}
