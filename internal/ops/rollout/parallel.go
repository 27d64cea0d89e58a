package rollout

import (
	"strconv"
	"strings"

	"github.com/talosmate/talosmate/internal/errs"
)

// Parallel reads a number or a percentage of n; of a percentage the floor counts, and at least one.
func Parallel(text string, n int) (int, error) {
	if text == "" {
		return 1, nil
	}

	number, percent := strings.CutSuffix(text, "%")

	v, err := strconv.Atoi(number)

	switch {
	case err != nil || v < 1 || (percent && v > 100):
		return 0, errs.Usagef("bad --max-parallel %q", text).WithHint("a number from 1, or a percentage from 1%% to 100%%")
	case percent:
		return max(1, n*v/100), nil
	default:
		return v, nil
	}
}
