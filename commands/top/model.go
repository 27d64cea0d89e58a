package top

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/rollout"
	"github.com/talosmate/talosmate/internal/talos"
)

// node is a row of the view.
type node struct {
	member talos.Member
	last   sample
	known  bool    // Whether it ever answered.
	cpu    float64 // Used between the last two samples, 0 to 1; negative for unknown.
	err    string  // Why it did not answer the last time.
	fails  int     // How often in a row it did not.
	asking bool
}

func (n *node) name() string { return n.member.NodeName() }

// pane is what the screen shows.
type pane int

const (
	overview pane = iota
	help
	describing
	logging
)

// Orders of the nodes.
const (
	byName   = "name"
	byCPU    = "cpu"
	byMemory = "memory"
	byDisk   = "disk"
	byState  = "state"
)

func orders() []string { return []string{byName, byCPU, byMemory, byDisk, byState} }

// model is the state of the view. Update and View are called by one goroutine; what asks the cluster are commands.
type model struct {
	reader       *reader
	context      string
	interval     time.Duration
	now          func() time.Time
	paint        palette
	takeWarnings func() []string

	width, height int

	nodes   map[string]*node // By address.
	problem string           // Why the members could not be listed.
	warning string

	health     health.Result
	hasHealth  bool
	healthErr  string
	etcd       []talos.EtcdStatus
	etcdErr    string
	hasEtcd    bool
	upgrade    rollout.StatusResult
	hasUpgrade bool
	upgradeErr string

	selected  string // The address of a node.
	order     string
	reversed  bool
	filter    string
	filtering bool

	pane        pane
	service     string // Of the log that is shown.
	lines       []string
	offset      int
	follows     bool // The log's end stays in view.
	title       string
	generation  int // Of the pane's text: an answer for a pane that was left is dropped.
	interrupted bool
}

func newModel(r *reader, context string, interval time.Duration, now func() time.Time, color bool) *model {
	return &model{
		reader: r, context: context, interval: interval, now: now, paint: palette{color}, nodes: map[string]*node{}, order: byName,
		takeWarnings: func() []string { return nil }, width: 80, height: 24,
	}
}

// Messages.
type (
	nodeDue struct{ address string }
	nodeMsg struct {
		address string
		sample  sample
		err     error
	}
	membersMsg struct {
		list []talos.Member
		err  error
	}
	etcdMsg struct {
		rows []talos.EtcdStatus
		err  error
	}
	healthMsg struct {
		result health.Result
		err    error
	}
	upgradeMsg struct {
		result rollout.StatusResult
		err    error
	}
	clusterDue struct{}
	textMsg    struct {
		generation int
		text       []byte
		err        error
	}
	textDue struct{ generation int }
)

// Init implements tea.Model.
func (m *model) Init() tea.Cmd {
	return tea.Batch(append(m.askNew(), m.askEtcd())...)
}

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	for _, w := range m.takeWarnings() {
		m.warning = w
	}

	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	case nodeDue:
		return m, m.ask(msg.address)
	case nodeMsg:
		return m, m.take(msg)
	case textMsg:
		return m, m.takeText(msg)
	case textDue:
		if msg.generation == m.generation && m.pane == logging {
			return m, m.askLog()
		}
	default:
		return m, m.cluster(msg)
	}

	return m, nil
}

// cluster takes what is known of the cluster as a whole and asks for the next part: one at a time.
func (m *model) cluster(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case etcdMsg:
		m.etcd, m.etcdErr, m.hasEtcd = msg.rows, message(msg.err), true

		return func() tea.Msg {
			result, err := from(m.reader, m.reader.src.Health)

			return healthMsg{result, err}
		}
	case healthMsg:
		if msg.err == nil {
			m.health, m.hasHealth = msg.result, true
		}

		m.healthErr = message(msg.err)

		return func() tea.Msg {
			result, err := from(m.reader, m.reader.src.Upgrade)

			return upgradeMsg{result, err}
		}
	case upgradeMsg:
		m.upgrade, m.hasUpgrade, m.upgradeErr = msg.result, len(msg.result.Nodes) > 0, message(msg.err)

		return tea.Tick(m.interval, func(time.Time) tea.Msg { return clusterDue{} })
	case clusterDue:
		return func() tea.Msg {
			list, err := m.reader.members()

			return membersMsg{list, err}
		}
	case membersMsg:
		m.problem = message(msg.err)
		if msg.err == nil {
			m.setMembers(msg.list)
		}

		return tea.Batch(append(m.askNew(), m.askEtcd())...)
	}

	return nil
}

func (m *model) askEtcd() tea.Cmd {
	return func() tea.Msg {
		rows, err := from(m.reader, m.reader.src.Etcd)

		return etcdMsg{rows, err}
	}
}

// message is what an error says, in a line that a terminal can show.
func message(err error) string {
	if err == nil {
		return ""
	}

	return iostreams.Line(err.Error())
}

// setMembers keeps what is known of the nodes that stay.
func (m *model) setMembers(list []talos.Member) {
	nodes := map[string]*node{}

	for _, member := range list {
		n := m.nodes[member.Node]
		if n == nil {
			n = &node{cpu: -1}
		}

		n.member = member
		nodes[member.Node] = n
	}

	m.nodes = nodes

	if m.nodes[m.selected] == nil {
		m.selected = ""
		m.move(0)
	}
}

// askNew asks the nodes that were never asked.
func (m *model) askNew() []tea.Cmd {
	var out []tea.Cmd

	for address, n := range m.nodes {
		if !n.known && n.fails == 0 {
			out = append(out, m.ask(address))
		}
	}

	return out
}

// ask asks a node, unless it is being asked already or was removed.
func (m *model) ask(address string) tea.Cmd {
	n := m.nodes[address]
	if n == nil || n.asking {
		return nil
	}

	n.asking = true
	t := n.member.Target()

	return func() tea.Msg {
		s, err := m.reader.node(t)

		return nodeMsg{address, s, err}
	}
}

// slowest is the interval of a node that does not answer.
const slowest = 30 * time.Second

func (m *model) take(msg nodeMsg) tea.Cmd {
	n := m.nodes[msg.address]
	if n == nil {
		return nil
	}

	n.asking = false
	pause := m.interval

	if msg.err != nil {
		n.err, n.cpu = message(msg.err), -1
		n.fails++
		pause = min(m.interval<<min(n.fails, 8), max(slowest, m.interval))
	} else {
		var cpu talos.CPU

		if n.known && n.fails == 0 {
			cpu.SetLoad(n.last.times, msg.sample.times)
		}

		n.cpu = -1
		if cpu.Load != nil {
			n.cpu = cpu.Load.Used
		}

		n.last, n.known, n.err, n.fails = msg.sample, true, "", 0
	}

	return tea.Tick(pause, func(time.Time) tea.Msg { return nodeDue{msg.address} })
}

// shown lists the nodes that pass the filter, in order.
func (m *model) shown() []*node {
	var out []*node

	for _, n := range m.nodes {
		text := strings.ToLower(strings.Join([]string{n.name(), n.member.Node, n.member.Type, n.last.version, m.stage(n)}, " "))
		if strings.Contains(text, strings.ToLower(m.filter)) {
			out = append(out, n)
		}
	}

	lists.Sort(out, func(a, b *node) int {
		order := 0

		switch m.order { // what is used most comes first
		case byCPU:
			order = cmp.Compare(b.cpu, a.cpu)
		case byMemory:
			order = cmp.Compare(b.last.memory, a.last.memory)
		case byDisk:
			order = cmp.Compare(b.last.disk, a.last.disk)
		case byState:
			order = cmp.Or(cmp.Compare(b.fails, a.fails), strings.Compare(m.stage(a), m.stage(b)))
		}

		if order = cmp.Or(order, strings.Compare(a.name(), b.name()), strings.Compare(a.member.Node, b.member.Node)); m.reversed {
			order = -order
		}

		return order
	})

	return out
}

// move moves the selection by some rows.
func (m *model) move(by int) {
	all := m.shown()
	if len(all) == 0 {
		return
	}

	at := slices.IndexFunc(all, func(n *node) bool { return n.member.Node == m.selected })
	if at < 0 {
		at, by = 0, 0
	}

	m.selected = all[min(max(at+by, 0), len(all)-1)].member.Node
}

func (m *model) key(key string) tea.Cmd {
	switch {
	case key == "ctrl+c":
		m.interrupted = true

		return tea.Quit
	case key == "ctrl+z":
		return tea.Suspend
	case m.filtering:
		m.typed(key)

		return nil
	case m.pane == overview:
		return m.overviewKey(key)
	default:
		return m.paneKey(key)
	}
}

// typed edits the filter.
func (m *model) typed(key string) {
	switch {
	case key == "enter":
		m.filtering = false
	case key == "esc":
		m.filtering, m.filter = false, ""
	case key == "backspace":
		if r := []rune(m.filter); len(r) > 0 {
			m.filter = string(r[:len(r)-1])
		}
	case key == "space":
		m.filter += " "
	case len([]rune(key)) == 1 && len(m.filter) < 64:
		m.filter += iostreams.Line(key)
	}

	m.move(0)
}

func (m *model) overviewKey(key string) tea.Cmd {
	switch key {
	case "q":
		return tea.Quit
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-10)
	case "pgdown":
		m.move(10)
	case "home", "g":
		m.move(-len(m.nodes))
	case "end", "G":
		m.move(len(m.nodes))
	case "s":
		all := orders()
		m.order = all[(slices.Index(all, m.order)+1)%len(all)]
	case "r":
		m.reversed = !m.reversed
	case "/":
		m.filtering = true
	case "esc":
		m.filter = ""
		m.move(0)
	case "?", "h":
		m.open(help, "Keys")
		m.lines = helpText()
	case "d", "enter":
		return m.describe()
	case "l":
		m.service = ""

		return m.openLog(0)
	}

	return nil
}

func (m *model) paneKey(key string) tea.Cmd {
	page := max(1, m.height-2)

	switch key {
	case "q", "esc":
		m.open(overview, "")
	case "?":
		if m.pane == help {
			m.open(overview, "")
		}
	case "up", "k":
		m.scroll(-1)
	case "down", "j":
		m.scroll(1)
	case "pgup":
		m.scroll(-page)
	case "pgdown", "space":
		m.scroll(page)
	case "home", "g":
		m.scroll(-len(m.lines))
	case "end", "G":
		m.scroll(len(m.lines))
	case "left", "right", "tab":
		if m.pane != logging {
			return nil
		}

		if key == "left" {
			return m.openLog(-1)
		}

		return m.openLog(1)
	case "l":
		if m.pane == describing {
			return m.openLog(0)
		}
	case "d":
		if m.pane == logging {
			return m.describe()
		}
	}

	return nil
}

func (m *model) open(p pane, title string) {
	m.pane, m.title, m.lines, m.offset, m.follows = p, title, nil, 0, false
	m.generation++
}

func (m *model) scroll(by int) {
	last := max(0, len(m.lines)-(m.height-2))
	m.offset = min(max(m.offset+by, 0), last)
	m.follows = m.pane == logging && m.offset == last
}

func (m *model) describe() tea.Cmd {
	n := m.nodes[m.selected]
	if n == nil {
		return nil
	}

	m.open(describing, n.name())

	generation, t := m.generation, n.member.Target()

	return func() tea.Msg {
		text, err := from(m.reader, func(c *cmdutil.Call) ([]byte, error) {
			var text bytes.Buffer

			err := m.reader.src.Describe(c, t, &text)

			return text.Bytes(), err
		})

		return textMsg{generation, text, err}
	}
}

// openLog shows the log of a service of the selected node, by steps from the one that is shown.
func (m *model) openLog(step int) tea.Cmd {
	n := m.nodes[m.selected]
	if n == nil {
		return nil
	}

	services := lists.Map(n.last.services, func(s talos.Service) string { return s.ID })
	if len(services) == 0 {
		services = []string{"machined"}
	}

	at := slices.Index(services, m.service)
	if at < 0 {
		at, step = max(0, slices.Index(services, "kubelet")), 0
	}

	m.service = services[(at+step+len(services))%len(services)]
	m.open(logging, n.name()+"  "+m.service)
	m.follows = true

	return m.askLog()
}

func (m *model) askLog() tea.Cmd {
	n := m.nodes[m.selected]
	if n == nil {
		return nil
	}

	generation, t, service := m.generation, n.member.Target(), m.service

	return func() tea.Msg {
		text, err := m.reader.log(t, service)

		return textMsg{generation, text, err}
	}
}

func (m *model) takeText(msg textMsg) tea.Cmd {
	if msg.generation != m.generation {
		return nil
	}

	if len(msg.text) > 0 || msg.err == nil {
		// A carriage return or a tab would move the cursor.
		text := strings.ReplaceAll(iostreams.Neutral(string(msg.text)), "\t", "    ")
		m.lines = strings.Split(strings.TrimRight(text, "\n"), "\n")
	}

	if msg.err != nil {
		m.lines = append(m.lines, "error: "+message(msg.err))
	}

	if m.follows {
		m.offset = max(0, len(m.lines)-(m.height-2))
	}

	if m.pane != logging {
		return nil
	}

	return tea.Tick(m.interval, func(time.Time) tea.Msg { return textDue{msg.generation} })
}

func helpText() []string {
	return []string{
		"up, down, k, j      choose a node",
		"enter, d            describe it: what `talosmate describe node` shows",
		"l                   its logs; left and right change the service",
		"s                   sort by " + strings.Join(orders(), ", "),
		"r                   reverse the order",
		"/                   show only nodes whose name, address, type, version or stage contains a text; esc ends that",
		"ctrl+z              suspend",
		"q, esc              back; q quits",
		"",
		"CPU is measured between two answers of a node. DISK is /var. A node that does not answer is asked less",
		"and less often, at least twice a minute.",
	}
}
