package upgrade

import (
	"context"
	"time"

	"github.com/talosmate/talosmate/internal/kube"
)

func heldBy(name string) Locker {
	return func(context.Context) (Held, error) {
		return nil, &kube.HeldError{State: kube.LockState{Held: true, Holder: name, Command: "talosmate upgrade apply", ExpiresAt: time.Now().Add(time.Minute)}}
	}
}
