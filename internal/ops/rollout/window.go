package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
)

// Window is a maintenance window of every week: some days, from a time to another in the machine's own time
// zone. One that ends before it begins reaches into the next day.
type Window struct {
	text     string
	days     [7]bool
	from, to int // Minutes since midnight.
}

const dayMinutes = 24 * 60

// ParseWindow reads "Sat 02:00-05:00", "Mon-Fri 22:00-04:00", "Sat,Sun 00:00-24:00" or "02:00-05:00" for every
// day. The day is the one on which the window opens.
func ParseWindow(text string) (*Window, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no window is no error
	}

	w := &Window{text: text}
	fields := strings.Fields(text)

	bad := func(format string, args ...any) error {
		return errs.Usagef("bad --window %q: %s", text, fmt.Sprintf(format, args...)).WithHint(`for example "Sat 02:00-05:00" or "Mon-Fri 22:00-04:00"`)
	}

	switch len(fields) {
	case 1:
		for i := range w.days {
			w.days[i] = true
		}
	case 2:
		if err := w.parseDays(fields[0]); err != nil {
			return nil, bad("%v", err)
		}
	default:
		return nil, bad("want days and hours")
	}

	from, to, ok := strings.Cut(fields[len(fields)-1], "-")
	if !ok {
		return nil, bad("the hours want a from and a to")
	}

	var err error
	if w.from, err = minutes(from); err != nil {
		return nil, bad("%v", err)
	}

	if w.to, err = minutes(to); err != nil {
		return nil, bad("%v", err)
	}

	if w.from == w.to || w.from == dayMinutes && w.to == 0 {
		return nil, bad("it is empty")
	}

	return w, nil
}

func (w *Window) parseDays(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		first, last, span := strings.Cut(part, "-")

		from, err := weekday(first)
		if err != nil {
			return err
		}

		to := from
		if span {
			if to, err = weekday(last); err != nil {
				return err
			}
		}

		for d := from; ; d = (d + 1) % 7 {
			w.days[d] = true

			if d == to {
				break
			}
		}
	}

	return nil
}

func weekday(text string) (int, error) {
	for d := range 7 {
		name := time.Weekday(d).String()
		if strings.EqualFold(text, name) || strings.EqualFold(text, name[:3]) {
			return d, nil
		}
	}

	return 0, fmt.Errorf("%q is not a day", text)
}

func minutes(text string) (int, error) {
	if text == "24:00" {
		return dayMinutes, nil
	}

	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time of day", text)
	}

	return t.Hour()*60 + t.Minute(), nil
}

// Open reports whether the window is open at a time. A nil window always is.
func (w *Window) Open(at time.Time) bool {
	if w == nil {
		return true
	}

	today, yesterday := int(at.Weekday()), (int(at.Weekday())+6)%7
	minute := at.Hour()*60 + at.Minute()

	if w.from < w.to {
		return w.days[today] && minute >= w.from && minute < w.to
	}

	return w.days[today] && minute >= w.from || w.days[yesterday] && minute < w.to
}

// String is the window as it was written.
func (w *Window) String() string {
	if w == nil {
		return ""
	}

	return w.text
}
