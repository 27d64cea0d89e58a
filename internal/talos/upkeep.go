package talos

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/lists"
)

// Upkeep is the scrubbing or trimming of a volume's file system.
type Upkeep struct {
	NodeRef

	Volume          string     `json:"volume"`           // The volume's ID.
	Work            string     `json:"work"`             // scrub or trim.
	Filesystem      string     `json:"filesystem"`       // xfs, ext4, …
	Mountpoint      string     `json:"mountpoint"`       // The mount point, once it was scrubbed.
	IntervalSeconds float64    `json:"interval_seconds"` // The time between two runs.
	Next            *time.Time `json:"next,omitempty"`   // When it runs next.
	Last            *time.Time `json:"last,omitempty"`   // When it was last scrubbed; Talos does not keep it for trims.
	DurationSeconds float64    `json:"duration_seconds"` // How long that took.
	Result          string     `json:"result"`           // How that ended, in Talos's words.
}

// Upkeep lists the scheduled scrubs and trims of Talos 1.14, and how the last scrub ended. Roles: reader, operator,
// admin.
func (n *Node) Upkeep(ctx context.Context) ([]Upkeep, error) {
	type schedule struct {
		Filesystem string    `json:"filesystem"`
		Interval   string    `json:"interval"`
		NextScrub  time.Time `json:"nextScrub"`
		NextTrim   time.Time `json:"nextTrim"`
	}

	list := func(work, typ, since string) ([]Upkeep, error) {
		return View[schedule, Upkeep]{
			Namespace: "runtime", Type: typ, Since: since,
			Row: func(id string, s schedule) Upkeep {
				next := s.NextScrub
				if next.IsZero() {
					next = s.NextTrim
				}

				return Upkeep{Volume: id, Work: work, Filesystem: s.Filesystem, IntervalSeconds: seconds(s.Interval), Next: whenSet(next)}
			},
		}.List(ctx, n)
	}

	scrubs, err := list("scrub", "FSScrubSchedules.block.talos.dev", "v1.14")
	if err != nil {
		return nil, err
	}

	type status struct {
		Mountpoint string    `json:"mountpoint"`
		Status     string    `json:"status"`
		Time       time.Time `json:"time"`
		Duration   string    `json:"duration"`
	}

	past, err := View[status, Upkeep]{
		Namespace: "runtime", Type: "FSScrubStatuses.block.talos.dev",
		Row: func(id string, s status) Upkeep {
			return Upkeep{Volume: id, Mountpoint: s.Mountpoint, Last: whenSet(s.Time), DurationSeconds: seconds(s.Duration), Result: s.Status}
		},
	}.List(ctx, n)
	if err != nil {
		return nil, err
	}

	for i, u := range scrubs {
		if at := slices.IndexFunc(past, func(p Upkeep) bool { return p.Volume == u.Volume }); at >= 0 {
			p := past[at]
			scrubs[i].Mountpoint, scrubs[i].Last, scrubs[i].DurationSeconds, scrubs[i].Result = p.Mountpoint, p.Last, p.DurationSeconds, p.Result
		}
	}

	trims, err := list("trim", "VolumeTrimSchedules.block.talos.dev", "")

	out := slices.Concat(scrubs, trims)
	lists.Sort(out, func(a, b Upkeep) int { return strings.Compare(a.Volume, b.Volume) })

	return out, err
}

// seconds reads a duration in Go's form; 0 where there is none.
func seconds(text string) float64 {
	d, _ := time.ParseDuration(text)

	return d.Seconds()
}
