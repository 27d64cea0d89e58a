package factory_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/ops/factory"
	"github.com/talosmate/talosmate/internal/testing/golden"
)

func TestAssets(t *testing.T) {
	t.Parallel()

	for name, w := range map[string]factory.Want{
		"metal":            {Factory: factory.DefaultURL, Version: "1.13.9", Platform: "metal", Arch: "amd64"},
		"metal.secureboot": {Factory: factory.DefaultURL, Version: "v1.13.9", Platform: "metal", Arch: "arm64", SecureBoot: true},
		"digital-ocean":    {Factory: factory.DefaultURL, Version: "v1.13.9", Platform: "digital-ocean", Arch: "amd64"},
		"own":              {Factory: "https://factory.lan:8443/sub", Version: "v1.14.0-rc.1", Platform: "vmware", Arch: "amd64", Schematic: strings.Repeat("ab", 32)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			list, err := factory.Assets(w)
			if err != nil {
				t.Fatal(err)
			}

			var out strings.Builder
			for _, a := range list {
				fmt.Fprintf(&out, "%s %s %s\n", a.Kind, a.Name, a.URL)
			}

			golden.Assert(t, "assets."+name, []byte(out.String()))
		})
	}

	for label, w := range map[string]factory.Want{
		"a bad ID":           {Factory: factory.DefaultURL, Version: "v1.13.9", Platform: "metal", Arch: "amd64", Schematic: "x"},
		"a bad platform":     {Factory: factory.DefaultURL, Version: "v1.13.9", Platform: "iso", Arch: "amd64"},
		"a later platform":   {Factory: factory.DefaultURL, Version: "v1.13.9", Platform: "alibabacloud", Arch: "amd64"},
		"a bad architecture": {Factory: factory.DefaultURL, Version: "v1.13.9", Platform: "metal", Arch: "x86"},
		"a bad version":      {Factory: factory.DefaultURL, Version: "latest", Platform: "metal", Arch: "amd64"},
		"a bad URL":          {Factory: "factory", Version: "v1.13.9", Platform: "metal", Arch: "amd64"},
	} {
		if _, err := factory.Assets(w); err == nil {
			t.Errorf("%s was accepted", label)
		}
	}
}
