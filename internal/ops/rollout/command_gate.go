package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// CommandGate is a shell command that must succeed before a node is started. Its standard input is the
// GateInput as JSON; its last line is reported while it fails.
func CommandGate(text string) UserGate {
	return UserGate{Kind: "command", Text: text, Check: func(ctx context.Context, in GateInput) (bool, string, error) {
		raw, err := json.Marshal(in)
		if err != nil {
			return false, "", fmt.Errorf("cannot encode the gate's input: %w", err)
		}

		cmd := exec.CommandContext(ctx, "sh", "-c", text) //nolint:gosec // G204: the text of --gate-command, which the user wrote; what nodes say is on its stdin, never in the text
		cmd.Stdin = strings.NewReader(string(raw))
		cmd.Env = append(cmd.Environ(), "TALOSMATE_NEXT_NODE="+in.Next, "TALOSMATE_TO="+in.To,
			fmt.Sprintf("TALOSMATE_UPGRADED=%d", in.Upgraded), fmt.Sprintf("TALOSMATE_REMAINING=%d", in.Remaining))
		cmd.WaitDelay = time.Second

		out, err := cmd.CombinedOutput()

		var exit *exec.ExitError

		switch {
		case err == nil:
			return true, "", nil
		case ctx.Err() != nil:
			return false, "it was still running", nil
		case errors.As(err, &exit) && exit.ExitCode() != 127:
			return false, fmt.Sprintf("%v: %s", err, lastLine(string(out))), nil
		default:
			return false, "", fmt.Errorf("cannot run the gate %q: %w: %s", text, err, lastLine(string(out)))
		}
	}}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")

	return lines[len(lines)-1]
}
