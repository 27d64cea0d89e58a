package cmdutil_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/talos"
)

func TestFileNames(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct{ in, want string }{
		{"10.0.0.1=cp-1 10.0.0.2=cp-2", "10.0.0.1=cp-1 10.0.0.2=cp-2"},
		{"10.0.0.1=../../x 10.0.0.2=/etc 10.0.0.3= 10.0.0.4=a\x00b 10.0.0.5=..", "10.0.0.1=10.0.0.1 10.0.0.2=10.0.0.2 10.0.0.3=10.0.0.3 10.0.0.4=10.0.0.4 10.0.0.5=10.0.0.5"},
		{"10.0.0.1=cp 10.0.0.2=CP", "10.0.0.1=10.0.0.1 10.0.0.2=10.0.0.2"},
		{"10.0.0.1=10.0.0.2 10.0.0.2=cp", "10.0.0.1=10.0.0.1 10.0.0.2=cp"},
		{"../x=../y 10.0.0.2=cp", "refused"},
	} {
		var targets []talos.Target

		want := map[string]string{}

		for _, pair := range strings.Split(tt.in, " ") {
			address, hostname, _ := strings.Cut(pair, "=")
			targets = append(targets, talos.Target{Address: address, Hostname: hostname})
		}

		for _, pair := range strings.Split(tt.want, " ") {
			address, name, _ := strings.Cut(pair, "=")
			want[address] = name
		}

		got, err := cmdutil.FileNames(targets)
		if (err != nil) != (tt.want == "refused") || err == nil && !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
}
