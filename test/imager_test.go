package test

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/talosmate/talosmate/internal/testing/factorystub"
	"github.com/talosmate/talosmate/internal/testing/imagerstub"
)

// imagerBed is the command `imager`: a real container engine and a real registry with a release's images and a stub
// imager. It sets REGISTRY, the registry's host, and BASE, where the images are, and puts the engine on the PATH, also
// under docker's name.
func imagerBed(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()

	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) > 0 {
			ts.Fatalf("usage: imager")
		}

		bed := imagerstub.Start(t)
		bed.AsDocker(t)

		ts.Setenv("REGISTRY", bed.Host)
		ts.Setenv("BASE", bed.Base)
		ts.Setenv("PATH", bed.Bin()+string(os.PathListSeparator)+ts.Getenv("PATH"))
	}
}

// factoryServer is the command `factory`: it sets FACTORY to the URL of a stub Image Factory.
func factoryServer(t *testing.T) func(*testscript.TestScript, bool, []string) {
	t.Helper()

	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) > 0 {
			ts.Fatalf("usage: factory")
		}

		ts.Setenv("FACTORY", factorystub.Serve(t))
	}
}
