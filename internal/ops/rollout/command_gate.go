package rollout

import (
	"context"
	"errors"
	"fmt"

	"github.com/talosmate/talosmate/internal/command"
)

// CommandGate is a shell command that must succeed before a node is started. Its standard input is the
// GateInput as JSON; its last line is reported while it fails.
func CommandGate(text string) UserGate {
	return UserGate{Kind: "command", Text: text, Check: func(ctx context.Context, in GateInput) (bool, string, error) {
		_, err := command.Run(ctx, text, []string{
			"TALOSMATE_NEXT_NODE=" + in.Next, "TALOSMATE_TO=" + in.To,
			fmt.Sprintf("TALOSMATE_UPGRADED=%d", in.Upgraded), fmt.Sprintf("TALOSMATE_REMAINING=%d", in.Remaining),
		}, in)

		switch {
		case err == nil:
			return true, "", nil
		case ctx.Err() != nil:
			return false, "it was still running", nil
		case errors.Is(err, command.ErrFailed):
			return false, err.Error(), nil
		default:
			return false, "", fmt.Errorf("cannot check the gate %q: %w", text, err)
		}
	}}
}
