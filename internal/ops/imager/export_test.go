package imager

import (
	"strings"

	"github.com/talosmate/talosmate/internal/container"
)

// Argv is the command for a build whose images have made-up digests.
func Argv(b Build, engineName, user string) ([]string, error) {
	t, err := b.check()
	if err != nil {
		return nil, err
	}

	digest := "sha256:" + strings.Repeat("d", 64)
	inputs := []Input{{Role: RoleImager, Name: RoleImager, Reference: b.Registry + "/imager:" + b.TalosVersion, Digest: digest}}

	if t.profile.Kind == KindInstaller {
		inputs = append(inputs, Input{Role: RoleBaseInstaller, Reference: b.Registry + "/installer-base:" + b.TalosVersion, Digest: digest})
	}

	e := &container.Engine{Name: engineName}
	h := host{out: "/results", privileged: NeedsLoopDevices(t.version, t.profile.Kind)}

	if RunsAsUser(t.version) {
		h.user = user
	}

	return e.Argv(b.spec(t, inputs, h)), nil
}

// The catalogue's rules, for tests of their own.
var (
	PickExtension = pickExtension //nolint:gochecknoglobals // a test's door
	Compatible    = compatible    //nolint:gochecknoglobals // a test's door
	Own           = own           //nolint:gochecknoglobals // a test's door
)

// Owner is owner.
func Owner(uid, gid int) owner { return owner{uid, gid} }
