package upgrade

import (
	"encoding/json"
	"time"

	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/imageref"
	"github.com/talosmate/talosmate/internal/registry"
)

// MarkerAnnotation is where a Kubernetes node carries what an upgrade has done to it. Nothing in Talos's API
// shows that an install waits for its reboot, and a second install would overwrite the slot that is running.
const MarkerAnnotation = "talosmate.dev/upgrade"

// purpose is what our cordons are for; those of an earlier run with the same purpose are ours.
const purpose = "talosmate upgrade"

// Purpose is how the reasons of an upgrade's cordons begin.
func Purpose() string { return purpose }

// Phases of a marker.
const (
	markerInstalling = "installing" // Written before the install.
	markerInstalled  = "installed"  // Written after it; a reboot is due.
	// Written before the legacy API's one request, which installs and reboots. It only says that the node may
	// be on its way: the server itself keeps a second request from coming between.
	markerRequested = "requested"
)

// Marker is the value of the annotation.
type Marker struct {
	Image  string    `json:"image"`   // The image, digest-pinned where known.
	Target string    `json:"target"`  // The version wanted.
	BootID string    `json:"boot_id"` // The boot in which the install ran.
	Phase  string    `json:"phase"`
	Time   time.Time `json:"time"`
	Unmet  []string  `json:"unmet,omitempty"` // What was unmet before.
}

func (m Marker) String() string {
	text, err := json.Marshal(m)
	if err != nil {
		return ""
	}

	return string(text)
}

// ParseMarker reads a marker; ok is false when there is none.
func ParseMarker(text string) (m Marker, ok bool) {
	if text == "" || foreign.JSON([]byte(text), &m) != nil {
		return Marker{}, false
	}

	return m, true
}

// installed reports whether the image was installed and waits for its reboot.
func (m Marker) installed(image registry.Installer) bool {
	repository := imageref.Repository(imageref.Split(m.Image).Repository)

	return m.Phase == markerInstalled && m.Target == Target(image) && repository == imageref.Repository(image.Repository())
}

// Installed reports whether the install finished and waits for its reboot.
func (m Marker) Installed() bool { return m.Phase == markerInstalled }
