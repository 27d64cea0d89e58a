package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

// palette styles text. Without colour it is bold or reversed at most, which NO_COLOR allows.
type palette struct{ color bool }

func (p palette) in(c ansi.Color, s string) string {
	if !p.color {
		return s
	}

	return ansi.NewStyle().ForegroundColor(c).Styled(s)
}

func (p palette) good(s string) string { return p.in(ansi.Green, s) }
func (p palette) warn(s string) string { return p.in(ansi.Yellow, s) }
func (p palette) bad(s string) string  { return p.in(ansi.Red, s) }
func (p palette) bold(s string) string { return ansi.NewStyle().Bold().Styled(s) }
func (p palette) selected(s string) string {
	return ansi.NewStyle().Reverse(true).Styled(ansi.Strip(s))
}

// View implements tea.Model.
func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.screen(), "\n"))
	v.AltScreen = true

	return v
}

// screen is the lines of the whole screen, none of them wider than it.
func (m *model) screen() []string {
	var lines []string

	if m.pane == overview {
		lines = m.overview()
	} else {
		lines = m.text()
	}

	return lists.Map(lines[:min(len(lines), m.height)], func(line string) string { return ansi.Truncate(line, m.width, "…") })
}

func (m *model) text() []string {
	room := max(1, m.height-2)

	lines := m.lines
	if len(lines) == 0 {
		lines = []string{"reading …"}
	}

	from := min(m.offset, max(0, len(lines)-1))
	shown := lines[from:min(len(lines), from+room)]
	out := append([]string{m.paint.bold(iostreams.Line(m.title))}, shown...)

	for len(out) < m.height-1 {
		out = append(out, "")
	}

	keys := "q back  up/down scroll"
	if m.pane == logging {
		keys += "  left/right service  d describe"
	}

	if m.pane == describing {
		keys += "  l logs"
	}

	return append(out, m.paint.bold(fmt.Sprintf("%s  %d-%d of %d", keys, from+1, from+len(shown), len(lines))))
}

func (m *model) overview() []string {
	all := m.shown()
	checks, upgrade := m.checks(), m.running()

	// Nodes come first; the checks and the upgrade share what is left, and have at least half of the screen.
	room := m.height - 3 // The headline, the header of the table, the keys.
	below := len(checks) + len(upgrade)
	forNodes := min(len(all), max(room-below, room/2, 1))

	out := []string{m.headline(), m.paint.bold(m.row(columnHeads(m), false))}
	out = append(out, m.rows(all, forNodes)...)

	left := max(0, m.height-1-len(out))
	forUpgrade := min(len(upgrade), max(left-len(checks), left/2))
	forChecks := min(len(checks), left-forUpgrade)

	out = append(out, cut(checks, forChecks)...)
	out = append(out, cut(upgrade, forUpgrade)...)

	for len(out) < m.height-1 {
		out = append(out, "")
	}

	return append(out, m.footer(len(all)))
}

// cut keeps the first lines, and says in the last how many it does not.
func cut(all []string, room int) []string {
	if len(all) <= room || room <= 0 {
		return all[:min(len(all), max(room, 0))]
	}

	return append(slices.Clone(all[:room-1]), fmt.Sprintf("  … %d more", len(all)-room+1))
}

func (m *model) headline() string {
	ready := 0

	for _, n := range m.nodes {
		if n.err == "" && n.last.ready {
			ready++
		}
	}

	parts := []string{m.paint.bold("talosmate top"), iostreams.Line(m.context)}
	nodes := fmt.Sprintf("%d/%d ready", ready, len(m.nodes))

	if ready == len(m.nodes) {
		parts = append(parts, m.paint.good(nodes))
	} else {
		parts = append(parts, m.paint.bad(nodes))
	}

	switch {
	case m.problem != "":
		parts = append(parts, m.paint.bad(m.problem))
	case m.hasHealth && m.health.Healthy:
		parts = append(parts, m.paint.good("healthy"))
	case m.hasHealth:
		parts = append(parts, m.paint.bad(fmt.Sprintf("NOT healthy: %d failed, %d unknown", m.health.Summary.Fail, m.health.Summary.Unknown)))
	}

	if m.upgrade.Lock.Held {
		parts = append(parts, m.paint.warn("locked by "+iostreams.Line(m.upgrade.Lock.Holder)))
	}

	return strings.Join(append(parts, m.now().UTC().Format(time.TimeOnly)), "  ")
}

// column is one of the node's values.
type column struct {
	head  string
	width int
	right bool
	least int // The least width of the screen that has it.
}

func columns() []column {
	return []column{
		{head: "NODE", width: 18},
		{head: "TYPE", width: 6},
		{head: "VERSION", width: 9},
		{head: "STAGE", width: 11},
		{head: "CPU", width: 4, right: true},
		{head: "MEM", width: 4, right: true},
		{head: "DISK", width: 4, right: true},
		{head: "ETCD", width: 8},
		{head: "LOAD", width: 6, right: true, least: 100},
		{head: "ADDRESS", width: 24, least: 120},
		{head: "DB SIZE", width: 9, right: true, least: 140},
		{head: "NOTE", width: 120, least: 100},
	}
}

func columnHeads(m *model) []string {
	heads := lists.Map(columns(), func(c column) string { return c.head })
	at := slices.Index([]string{byName, byState, byCPU, byMemory, byDisk}, m.order)
	at = []int{0, 3, 4, 5, 6}[max(at, 0)]

	mark := "↓"
	if m.reversed {
		mark = "↑"
	}

	if len(heads[at]) < columns()[at].width {
		heads[at] += mark
	}

	return heads
}

// row lines up the cells of a node, or of the header.
func (m *model) row(cells []string, selected bool) string {
	var out strings.Builder

	for i, c := range columns() {
		if m.width < c.least {
			continue
		}

		if out.Len() > 0 {
			out.WriteString(" ")
		}

		cell := ansi.Truncate(cells[i], c.width, "…")
		pad := strings.Repeat(" ", max(0, c.width-ansi.StringWidth(cell)))

		if c.right {
			cell = pad + cell
		} else {
			cell += pad
		}

		out.WriteString(cell)
	}

	line := strings.TrimRight(out.String(), " ")
	if selected {
		return m.paint.selected(line)
	}

	return line
}

// rows are the rows of the nodes that fit, the selected one among them.
func (m *model) rows(all []*node, room int) []string {
	if len(all) == 0 {
		return []string{"no node passes the filter"}
	}

	at := max(0, slices.IndexFunc(all, func(n *node) bool { return n.member.Node == m.selected }))
	from := 0

	note := len(all) > room && room > 1
	if note {
		room--
	}

	if at >= room {
		from = at - room + 1
	}

	to := min(len(all), from+room)

	out := lists.Map(all[from:to], func(n *node) string { return m.row(m.cells(n), n.member.Node == m.selected) })
	if note {
		out = append(out, fmt.Sprintf("  … %d more nodes", len(all)-(to-from)))
	}

	return out
}

func (m *model) cells(n *node) []string {
	kind := map[string]string{"controlplane": "cp"}[n.member.Type]
	etcd, size := m.etcdOf(n)
	version := cmp.Or(n.last.version, n.member.TalosVersion)

	note := n.err
	if bad := unhealthy(n.last.services); note == "" && len(bad) > 0 {
		note = "unhealthy: " + strings.Join(bad, ", ")
	}

	load := "-"
	if n.err == "" && n.last.load >= 0 && n.known {
		load = fmt.Sprintf("%.2f", n.last.load)
	}

	cells := []string{
		n.name(), cmp.Or(kind, n.member.Type), version, m.stage(n), share(n, n.cpu), share(n, n.last.memory), share(n, n.last.disk), etcd,
		load, n.member.Node, size, note,
	}

	for i, cell := range cells {
		cells[i] = cmp.Or(iostreams.Line(cell), "-")
	}

	switch {
	case n.err != "":
		cells[3], cells[11] = m.paint.bad(cells[3]), m.paint.bad(cells[11])
	case n.known && !n.last.ready:
		cells[3] = m.paint.warn(cells[3])
	}

	for i, used := range map[int]float64{5: n.last.memory, 6: n.last.disk} {
		switch { // as `health` judges a disk
		case used >= 0.95:
			cells[i] = m.paint.bad(cells[i])
		case used >= 0.85:
			cells[i] = m.paint.warn(cells[i])
		}
	}

	return cells
}

// stage is a node's stage in a word or two.
func (m *model) stage(n *node) string {
	switch {
	case n.err != "":
		return "no answer"
	case !n.known:
		return "…"
	case !n.last.ready && n.last.stage == "running":
		return "not ready"
	default:
		return cmp.Or(n.last.stage, "unknown")
	}
}

func share(n *node, ratio float64) string {
	if n.err != "" || !n.known || ratio < 0 {
		return "-"
	}

	return fmt.Sprintf("%.0f%%", ratio*100)
}

func unhealthy(services []talos.Service) []string {
	bad := lists.Filter(services, func(s talos.Service) bool { return s.Health == "unhealthy" })

	return lists.Map(bad, func(s talos.Service) string { return s.ID })
}

// etcdOf is a node's role in etcd, and the size of its database.
func (m *model) etcdOf(n *node) (role, size string) {
	at := slices.IndexFunc(m.etcd, func(s talos.EtcdStatus) bool { return s.Node == n.member.Node })

	switch {
	case at < 0:
		return "", ""
	case m.etcd[at].Error != "":
		return "no answer", ""
	case m.etcd[at].Learner:
		role = "learner"
	case m.etcd[at].Leader:
		role = "leader"
	default:
		role = "follower"
	}

	return role, output.Bytes(m.etcd[at].DBSizeBytes)
}

// checks are the lines about what does not pass.
func (m *model) checks() []string {
	var out []string

	if m.etcdErr != "" {
		out = append(out, m.paint.bad("etcd: "+m.etcdErr))
	}

	if m.healthErr != "" {
		out = append(out, m.paint.bad("health: "+m.healthErr))
	}

	for _, status := range []string{health.Fail, health.Unknown, health.Warn} {
		for _, f := range m.health.Findings {
			if f.Status != status {
				continue
			}

			word := fmt.Sprintf("%-7s", status)
			if status == health.Warn {
				word = m.paint.warn(word)
			} else {
				word = m.paint.bad(word)
			}

			out = append(out, fmt.Sprintf("  %s %-20s %-14s %s", word, iostreams.Line(f.ID), iostreams.Line(cmp.Or(f.Hostname, f.Node, "-")), iostreams.Line(f.Message)))
		}
	}

	switch {
	case len(out) > 0:
		return append([]string{m.paint.bold("CHECKS")}, out...)
	case !m.hasHealth:
		return []string{m.paint.bold("CHECKS"), "  reading …"}
	default:
		return []string{m.paint.bold("CHECKS"), m.paint.good(fmt.Sprintf("  all %d pass", m.health.Summary.OK))}
	}
}

// phases is how many lines of the journal are shown.
const phases = 6

// running are the lines about an upgrade: who runs it, where its nodes are, what it did last.
func (m *model) running() []string {
	u := m.upgrade
	if !m.hasUpgrade || u.Clean && m.upgradeErr == "" {
		return nil
	}

	out := []string{m.paint.bold("UPGRADE")}

	if u.Lock.Held {
		out = append(out, "  "+iostreams.Line(fmt.Sprintf("%s runs %s since %s", u.Lock.Holder, u.Lock.Command, u.Lock.AcquiredAt.UTC().Format(time.TimeOnly))))
	}

	for _, n := range u.Nodes {
		if n.State == rollout.StateClean && !n.OurCordon {
			continue
		}

		if n.State == rollout.StateUnknown && n.Target == "" && !u.Lock.Held {
			continue // a node that does not answer is shown above
		}

		out = append(out, "  "+iostreams.Line(fmt.Sprintf("%-14s %-10s %s", cmp.Or(n.Hostname, n.Node), n.State, n.Message)))
	}

	if u.Lock.Held {
		for _, e := range u.Journal[max(0, len(u.Journal)-phases):] {
			out = append(out, "  "+iostreams.Line(fmt.Sprintf("%s %-14s %-10s %s", e.Time.UTC().Format(time.TimeOnly), cmp.Or(e.Node, "-"), e.Stage, e.Message)))
		}
	}

	if len(out) == 1 {
		return nil
	}

	return out
}

func (m *model) footer(shown int) string {
	switch {
	case m.filtering:
		return m.paint.bold(fmt.Sprintf("filter: %s_   enter keeps it, esc ends it", m.filter))
	case m.filter != "":
		return m.paint.bold(fmt.Sprintf("%d of %d nodes contain %q, esc shows all  ? help  q quit", shown, len(m.nodes), m.filter))
	case m.warning != "":
		return m.paint.warn("q quit  ? help  " + m.warning)
	default:
		return m.paint.bold("d describe  l logs  s sort: " + m.order + "  r reverse  / filter  ? help  q quit")
	}
}
