package rollout

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
)

// Measures of the timeline, in pixels.
const (
	timelineWidth = 1000
	timelineRow   = 26
	timelineTop   = 56
	timelineEdge  = 24 // To each side.
	glyph         = 6.6
	maxNameChars  = 28
)

// phase is how a stage is drawn. The colours are those of Okabe and Ito, which people see apart whatever colours they see;
// what is beyond their number has a pattern.
type phase struct {
	name, fill, ink string
	stages          []string // The stages that are drawn so.
}

const (
	apiDown = "API down"
	between = "between nodes"
)

func phases() []phase {
	return []phase{
		{"preflight", "#bbbbbb", "#000000", []string{"preflight"}},
		{"pull", "#56b4e9", "#000000", []string{"pull"}},
		{"cordon", "#f0e442", "#000000", []string{"cordon", "uncordon"}},
		{"drain", "#e69f00", "#000000", []string{"drain"}},
		{"install", "#009e73", "#ffffff", []string{"install"}},
		{"reboot", "#0072b2", "#ffffff", []string{"reboot"}},
		{"wait", "url(#wait)", "#000000", []string{"wait"}},
		{apiDown, "#d55e00", "#000000", nil},
		{"kubernetes", "url(#kubernetes)", "#000000", []string{"kubernetes"}},
		{"verify", "#cc79a7", "#000000", []string{"verify"}},
		{"rollback", "#000000", "#ffffff", []string{"rollback"}},
		{between, "url(#between)", "#000000", nil},
		{"other", "#ffffff", "#000000", nil},
	}
}

// patterns are fills that differ by their form.
const patterns = `<defs>
<pattern id="wait" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#ffffff"/><circle cx="3" cy="3" r="1.2" fill="#555555"/></pattern>
<pattern id="kubernetes" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#ffffff"/><path d="M0 3h6" stroke="#0072b2" stroke-width="2"/></pattern>
<pattern id="between" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#ffffff"/><path d="M-1 7L7 -1M-1 1L1 -1M5 7L7 5" stroke="#555555" stroke-width="1.2"/></pattern>
</defs>
`

// bar is a phase of a row.
type bar struct {
	phase    phase
	what     string
	from, to time.Time
}

// line is a row of the timeline: a node, or what was waited for between nodes.
type line struct {
	name string
	bars []bar
}

// WriteTimeline draws who did what when as an SVG: a row a node, a bar a stage, the time without its API over it, and what was
// waited for between nodes.
func WriteTimeline(w io.Writer, r ApplyResult) error {
	rows := linesOf(r)
	end := r.FinishedAt

	longest := 0
	for _, row := range rows {
		longest = max(longest, len([]rune(shortName(row.name))))

		for _, b := range row.bars {
			if b.to.After(end) {
				end = b.to
			}
		}
	}

	took := max(r.FinishedAt.Sub(r.StartedAt), time.Millisecond)
	step, ticks := tickStep(max(end.Sub(r.StartedAt), time.Millisecond))
	left := timelineEdge + float64(longest)*glyph + 12
	plot := timelineWidth - timelineEdge - left
	x := func(at time.Time) float64 {
		return left + float64(at.Sub(r.StartedAt))/float64(step*time.Duration(ticks))*plot
	}

	legend, legendRows := placeLegend(used(rows), left)
	bottom := timelineTop + len(rows)*timelineRow
	height := bottom + 34 + legendRows*18 + timelineEdge/2

	var b strings.Builder

	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img">`+"\n",
		timelineWidth, height, timelineWidth, height)

	title := fmt.Sprintf("%s to %s: %s, %s", escape(r.Cluster), escape(r.To), r.Status, span(took.Seconds()))
	fmt.Fprintf(&b, "<title>%s</title>\n%s"+`<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", title, patterns, timelineWidth, height)
	fmt.Fprintf(&b, `<text x="%d" y="26" font-size="15">%s</text>`+"\n", timelineEdge, title)

	for i := range ticks + 1 {
		at := left + float64(i)/float64(ticks)*plot
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#dddddd"/><text x="%.1f" y="%d" fill="#444444" text-anchor="middle" font-size="11">%s</text>`+"\n",
			at, timelineTop-8, at, bottom, at, bottom+16, tickLabel(step*time.Duration(i)))
	}

	for i, row := range rows {
		y := timelineTop + i*timelineRow
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+14, escape(shortName(row.name)))

		for _, bar := range row.bars {
			drawBar(&b, row.name, bar, x(bar.from), x(bar.to), y)
		}
	}

	for _, k := range legend {
		y := bottom + 34 + k.row*18
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="12" height="12" fill="%s" stroke="#333333" stroke-width="0.7"/><text x="%.1f" y="%d" font-size="11">%s</text>`+"\n",
			k.x, y, k.phase.fill, k.x+17, y+10, k.phase.name)
	}

	b.WriteString("</svg>\n")

	_, err := io.WriteString(w, b.String())

	return err
}

// drawBar draws a phase. Its name is in it where there is room, so that no colour has to be known.
func drawBar(b *strings.Builder, row string, bar bar, from, to float64, y int) {
	top, height := y, timelineRow-8
	if bar.phase.name == apiDown {
		top, height = y+5, timelineRow-18 // the wait stays visible around it
	}

	width := max(1, to-from)
	fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" stroke="#333333" stroke-width="0.7"><title>%s: %s, %s</title></rect>`+"\n",
		from, top, width, height, bar.phase.fill, escape(row), escape(bar.what), span(bar.to.Sub(bar.from).Seconds()))

	if solid := strings.HasPrefix(bar.phase.fill, "#"); solid && bar.phase.name != apiDown && width > float64(len(bar.what))*glyph+6 {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" font-size="11" fill="%s" pointer-events="none">%s</text>`+"\n",
			from+width/2, y+13, bar.phase.ink, escape(bar.what))
	}
}

// linesOf are the rows in the order in which the nodes began.
func linesOf(r ApplyResult) []line {
	var rows []line

	for _, n := range r.Nodes {
		i := slices.IndexFunc(rows, func(l line) bool { return l.name == n.NodeName() })
		if i < 0 {
			i, rows = len(rows), append(rows, line{name: n.NodeName()})
		}

		rows[i].bars = append(rows[i].bars, bars(n)...)
	}

	checks := line{name: between}

	for _, c := range r.Checks {
		if c.WaitedSeconds > 0 {
			checks.bars = append(checks.bars, bar{phaseNamed(between), c.Kind, c.Time, c.Time.Add(seconds(c.WaitedSeconds))})
		}
	}

	if len(checks.bars) > 0 {
		rows = append(rows, checks)
	}

	return rows
}

// bars are the stages of a node in time; the time without its API, which ends with the new boot's first answer, lies
// over the wait.
func bars(n upgrade.Result) []bar {
	var out, down []bar

	for i, s := range n.Stages {
		end := s.Time
		if i+1 < len(n.Stages) {
			end = n.Stages[i+1].Time
		} else if len(n.Stages) > 0 {
			end = n.Stages[0].Time.Add(seconds(n.ElapsedSeconds))
		}

		next := bar{phaseOf(s.Stage), s.Stage, s.Time, end}

		if last := len(out) - 1; last >= 0 && out[last].what == s.Stage {
			out[last].to = end // one stage with several messages is one bar
		} else {
			out = append(out, next)
		}

		if s.Stage == "wait" && strings.HasPrefix(s.Message, disruption.Back) && n.DowntimeSeconds > 0 {
			down = append(down, bar{phaseNamed(apiDown), apiDown, s.Time.Add(-seconds(n.DowntimeSeconds)), s.Time})
		}
	}

	return append(out, down...)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func phaseOf(stage string) phase {
	for _, p := range phases() {
		if slices.Contains(p.stages, stage) {
			return p
		}
	}

	return phaseNamed("other")
}

func phaseNamed(name string) phase {
	all := phases()

	return all[slices.IndexFunc(all, func(p phase) bool { return p.name == name })]
}

// used are the phases that a timeline has, in their usual order.
func used(rows []line) []phase {
	return slices.DeleteFunc(phases(), func(p phase) bool {
		return !slices.ContainsFunc(rows, func(l line) bool {
			return slices.ContainsFunc(l.bars, func(b bar) bool { return b.phase.name == p.name })
		})
	})
}

// entry is a phase at its place in the legend.
type entry struct {
	phase phase
	x     float64
	row   int
}

func placeLegend(list []phase, left float64) (out []entry, rows int) {
	x, rows := left, 1

	for _, p := range list {
		width := 17 + float64(len(p.name))*glyph + 16
		if x+width > timelineWidth-timelineEdge {
			x, rows = left, rows+1
		}

		out = append(out, entry{p, x, rows - 1})
		x += width
	}

	return out, rows
}

// tickStep divides a time into at most ten steps of a round length.
func tickStep(total time.Duration) (step time.Duration, ticks int) {
	const most = 10

	step = time.Millisecond

	for _, unit := range []struct {
		of    time.Duration
		times []int
	}{
		{time.Millisecond, []int{1, 2, 5, 10, 20, 50, 100, 200, 500}},
		{time.Second, []int{1, 2, 5, 10, 15, 30}},
		{time.Minute, []int{1, 2, 5, 10, 15, 30}},
		{time.Hour, []int{1, 2, 3, 6, 12, 24, 48, 96}},
	} {
		for _, n := range unit.times {
			if step = unit.of * time.Duration(n); total <= step*most {
				return step, int((total + step - 1) / step)
			}
		}
	}

	return step, int((total + step - 1) / step)
}

// tickLabel writes a round time without zeros that say nothing: 5m, not 5m0s.
func tickLabel(d time.Duration) string {
	text := d.String()

	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}

	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}

	return cmp.Or(text, "0s")
}

// shortName cuts the middle of a name that is too long for its column.
func shortName(name string) string {
	runes := []rune(iostreams.Line(name))
	if len(runes) <= maxNameChars {
		return string(runes)
	}

	half := (maxNameChars - 1) / 2

	return string(runes[:half]) + "…" + string(runes[len(runes)-half:])
}

func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(iostreams.Line(s))
}
