package test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
)

const (
	chaosSeeds   = 200             // Without TALOSMATE_CHAOS_SEEDS.
	chaosAtMost  = 4 * time.Minute // Without TALOSMATE_CHAOS_TIME, seeds that are left after this are not run.
	chaosAtLeast = 20              // These seeds run however long they take.

	chaosEnds    = 60 * time.Second // A run that takes longer than this does not end.
	chaosSlow    = 5 * time.Second  // Runs that take longer than this are listed.
	chaosSettles = 60 * time.Second // For the lab to be as before.
)

// TestChaos runs commands while the network to the nodes delays, drops, resets, corrupts, reorders, slows and swallows
// what passes, and checks that the exit code, the document, the audit log and the state of the cluster agree. A seed
// chooses the command and the faults.
//
// TALOSMATE_CHAOS_SEEDS is how many seeds run, TALOSMATE_CHAOS_SEED one seed that runs alone, TALOSMATE_CHAOS_TIME the
// time after which no further seed begins.
func TestChaos(t *testing.T) {
	t.Parallel()

	seeds, atMost := chaosPlan(t)
	c := startChaos(t)
	began, ran := time.Now(), map[string]int{}
	slow := []string{}

	for i, seed := range seeds {
		if i >= chaosAtLeast && time.Since(began) > atMost {
			t.Logf("%d of %d seeds in %s", i, len(seeds), time.Since(began).Round(time.Second))

			break
		}

		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := *c.fleet
			f.t = t

			r := newChaosRun(&f, seed)
			r.run()

			ended := r.code.Name()
			if r.signal != 0 {
				ended += " (" + r.signal.String() + ")"
			}

			if r.other != nil {
				ended += " and " + r.other.code.Name()
			}

			ran[r.row.name()+": "+ended]++

			if r.took > chaosSlow {
				slow = append(slow, fmt.Sprintf("%s for %s with %d", r.took.Round(time.Millisecond), strings.Join(r.args, " "), r.code))
			}
		}) && len(seeds) > 1 {
			t.Logf("to run seed %d alone: TALOSMATE_CHAOS_SEED=%d go test ./test -run TestChaos", seed, seed)
		}
	}

	var table strings.Builder

	for _, line := range slices.Sorted(maps.Keys(ran)) {
		fmt.Fprintf(&table, "%5d  %s\n", ran[line], line)
	}

	t.Logf("how the runs ended:\n%s", table.String())

	if len(slow) > 0 {
		t.Logf("more than %s:\n%s", chaosSlow, strings.Join(slow, "\n"))
	}
}

// chaosPlan reads from the environment which seeds run, and for how long.
func chaosPlan(t *testing.T) ([]uint64, time.Duration) {
	t.Helper()

	number := func(name string, fallback uint64) uint64 {
		text := os.Getenv(name)
		if text == "" {
			return fallback
		}

		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}

		return n
	}

	if os.Getenv("TALOSMATE_CHAOS_SEED") != "" {
		return []uint64{number("TALOSMATE_CHAOS_SEED", 0)}, chaosAtMost
	}

	atMost := chaosAtMost

	if text := os.Getenv("TALOSMATE_CHAOS_TIME"); text != "" {
		var err error
		if atMost, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}

	first := number("TALOSMATE_CHAOS_FIRST", 1)
	seeds := make([]uint64, number("TALOSMATE_CHAOS_SEEDS", chaosSeeds))

	for i := range seeds {
		seeds[i] = first + uint64(i)
	}

	return seeds, atMost
}

// chaos is the lab of all seeds.
type chaos struct{ *fleet }

// startChaos starts a cluster with fast nodes.
func startChaos(t *testing.T) *chaos {
	t.Helper()

	f := startLab(t, "--kubernetes", "real", "--install-time", "100ms", "--shutdown-time", "50ms", "--boot-time", "150ms")
	for _, n := range chaosNodes() {
		f.tellLab("file", n, "path", chaosFile, "content", chaosContent())
		f.tellLab("file", n, "path", "/var/chaos/small", "content", "small\n")
	}

	for i := range 64 {
		f.tellLab("etcd-put", "", "key", fmt.Sprint("/chaos/", i), "value", strings.Repeat("x", 2048))
	}

	return &chaos{fleet: f}
}

func chaosNodes() []string { return []string{"cp-1", "cp-2", "cp-3", "worker-1", "worker-2"} }

const chaosFile = "/var/chaos/big"

func chaosContent() string {
	var b strings.Builder
	for i := range 12_000 {
		fmt.Fprintf(&b, "line %d of a file that is read\n", i)
	}

	return b.String()
}

// ask is control that must succeed.
func (f *fleet) ask(into any, verb, node string, params ...string) {
	f.t.Helper()

	if err := f.control(f.t.Context(), into, verb, node, params...); err != nil {
		f.t.Fatal(err)
	}
}

// chaosRun is one command under one seed's faults.
type chaosRun struct {
	*fleet

	seed   uint64
	random *rand.Rand
	row    chaosRow

	home, temp, work, audit string

	worker, cp string // The nodes that the row's words stand for.
	args       []string
	faults     []string

	before, after map[string]chaosNode
	counts        map[string]requestCounts

	// signal is what it receives, at most this long after its start; 0 for none.
	signal syscall.Signal
	within time.Duration

	shape string    // Of what is around it: see chaosShapes.
	other *chaosEnd // How the same command ended that ran at the same time; nil for none.

	chaosEnd

	doc      chaosDocument
	timeline []chaosNote // Since the start.
}

// chaosEnd is how a run ended.
type chaosEnd struct {
	code           errs.Code
	took           time.Duration
	stdout, stderr string
}

// chaosShapes are the surroundings of a run that differ from a user's.
func chaosShapes() []string {
	return []string{"no home", "unwritable home", "64 descriptors", "no reader"}
}

type requestCounts struct{ Executed, Received map[string]int }

type chaosNote struct {
	Time                time.Time
	Node, Event, Detail string
}

// chaosNode is the part of a node's state that the checks read.
type chaosNode struct {
	Address            string
	Powered, Up, Ready bool
	BootID             string `json:"boot_id"`
	Version            string
	Config             string `json:"config_sha256"`
	Persisted          string `json:"persisted_config_sha256"`
	Images             map[string][]struct{ Name string }
	Services           map[string]struct{ State string }
	EtcdRunning        bool `json:"etcd_running"`
	TornInstalls       int  `json:"torn_installs"`
	History            struct{ Boots, Reboots []time.Time }
}

// chaosDocument is what documents of all commands have.
type chaosDocument struct {
	Schema string
	Items  []map[string]any
	Result map[string]any
	Errors []struct {
		Node, Code, Message string
	}
	Selection struct{ Nodes []string }
}

func newChaosRun(f *fleet, seed uint64) *chaosRun {
	rows := chaosRows()
	random := rand.New(rand.NewPCG(seed, 0))

	r := &chaosRun{fleet: f, seed: seed, random: random, row: rows[seed%uint64(len(rows))]}
	r.worker = []string{"worker-1", "worker-2"}[random.IntN(2)]
	r.cp = []string{"cp-1", "cp-2", "cp-3"}[random.IntN(3)]

	if random.IntN(4) == 0 {
		r.signal = []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL}[random.IntN(4)]
		r.within = time.Duration(1+random.IntN(1<<random.IntN(11))) * time.Millisecond
	}

	if shapes := chaosShapes(); random.IntN(3) == 0 {
		r.shape = shapes[random.IntN(len(shapes))]
	}

	if twin := random.IntN(6) == 0; twin && r.row.changes() && r.signal == 0 {
		r.other = &chaosEnd{}
	}

	dir := f.t.TempDir()
	r.home, r.temp, r.work, r.audit = filepath.Join(dir, "home"), filepath.Join(dir, "tmp"), filepath.Join(dir, "work"), filepath.Join(dir, "audit.jsonl")

	for _, d := range []string{r.home, r.temp, r.work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			f.t.Fatal(err)
		}
	}

	return r
}

// words replaces the words that stand for nodes and numbers.
func (r *chaosRun) words(text string) string {
	timeout := []string{"500ms", "1s", "2s"}[r.random.IntN(3)]

	return strings.NewReplacer("WORKER", r.worker, "CP", r.cp, "SEED", fmt.Sprint(r.seed), "TIMEOUT", timeout).Replace(text)
}

func (r *chaosRun) run() {
	r.t.Helper()

	if r.row.before != nil {
		r.row.before(r)
	}

	r.args = strings.Fields(r.words(r.row.args))
	r.args = append(r.args, "--progress", "plain")

	if r.row.changes() {
		r.args = append(r.args, "--audit-log", r.audit)
	}

	r.before = r.states()
	started := time.Now()

	r.tellLab("requests", "", "reset", "true")
	r.arm()
	r.execute()
	r.disarm()

	r.after = r.states()
	r.ask(&struct{ Nodes *map[string]requestCounts }{&r.counts}, "requests", "")
	r.ask(&r.timeline, "timeline", "")
	r.timeline = slices.DeleteFunc(r.timeline, func(n chaosNote) bool { return n.Time.Before(started) })

	switch {
	case r.other != nil:
		r.checkBoth()
	case r.code < 0 && r.signal == syscall.SIGKILL:
		r.again()
	case r.code < 0 && r.signal != 0 && r.stdout+r.stderr == "" && len(r.mutations()) == 0:
		// The signal came before the program had a handler for it.
	default:
		r.check()
	}

	r.reset()

	if r.t.Failed() {
		r.t.Logf("seed %d: talosmate %s\nfaults: %s\nsignal: %s after %s, surroundings: %q\nexit code %d\nstdout: %.6000s\nstderr: %s", r.seed, strings.Join(r.args, " "),
			strings.Join(r.faults, "; "), r.signal, r.within, r.shape, r.code, r.stdout, r.stderr)

		if r.other != nil {
			r.t.Logf("the other run: exit code %d\nstdout: %.6000s\nstderr: %s", r.other.code, r.other.stdout, r.other.stderr)
		}

		for _, n := range r.timeline {
			r.t.Logf("%s %s %s %s", n.Time.Format("05.000"), n.Node, n.Event, n.Detail)
		}
	}
}

// again runs the command that was killed once more, now with a good network: nothing that it left stands in the way.
func (r *chaosRun) again() {
	r.t.Helper()
	r.checkOnce()

	if r.row.lasting { // it may have done all of it, and the node is off
		return
	}

	killed := *r
	r.signal, r.faults = 0, append(r.faults, "then again without")
	r.execute()
	r.disarm()

	if r.code != errs.OK && !slices.Contains(r.row.twice, r.code) {
		r.t.Errorf("after a run that was killed (it said %s) the next one ends with %d", killed.stderr, r.code)
	}

	r.checkKubernetes()
}

func (r *chaosRun) states() (out map[string]chaosNode) {
	r.t.Helper()
	r.ask(&out, "state", "")

	return out
}

// arm chooses the faults.
func (r *chaosRun) arm() {
	r.t.Helper()

	kinds := []string{"delay", "slow", "reset", "close", "corrupt", "drop", "reorder", "black-hole"}
	only := ""

	if r.random.IntN(3) == 0 { // one kind, and the delays with it
		only = ":delay,slow," + kinds[r.random.IntN(len(kinds))]
	}

	fault := func(node, spec string) {
		r.faults = append(r.faults, node+" "+spec)
		r.tellLab("fault", node, "spec", spec)
	}

	for _, node := range chaosNodes() {
		seed, bad := r.random.Uint32(), r.random.IntN(10) < 6
		slow, loses, skewed := r.random.IntN(10) == 0, r.random.IntN(12) == 0, r.random.IntN(12) == 0

		if bad {
			fault(node, fmt.Sprintf("wire=%d%s", seed, only))
		}

		if slow {
			fault(node, fmt.Sprintf("latency=%dms", seed%400))
		}

		if skewed {
			fault(node, fmt.Sprintf("clock-skew=%dh", int(seed%200)-100))
		}

		if loses {
			fault(node, "loss=0.15")
		}
	}

	if hangs := chaosNodes()[r.random.IntN(5)]; r.random.IntN(12) == 0 {
		r.faults = append(r.faults, hangs+" hangs")
		r.tellLab("hang", hangs, "state", "on")
	}

	if len(r.row.sends) > 0 && r.random.IntN(4) == 0 {
		for _, node := range chaosNodes() {
			fault(node, []string{"drop-answer=", "drop-request="}[r.random.IntN(2)]+r.row.sends[0])
		}
	}
}

// disarm makes the network good again and waits until no node serves a client.
func (r *chaosRun) disarm() {
	r.t.Helper()

	for _, n := range chaosNodes() {
		r.tellLab("hang", n, "state", "off")
		r.tellLab("clear", n)
	}

	// What talosmate has opened is closed with it.
	r.until("the nodes to serve nobody", func(context.Context) bool { return r.clients() == 0 })

	if r.row.lasting {
		return
	}

	r.ready()
}

// ready waits until every node is up and ready.
func (r *chaosRun) ready() {
	r.t.Helper()

	for _, n := range chaosNodes() {
		r.tellLab("wait", n, "timeout", chaosSettles.String())
	}
}

// execute runs the command in an empty home, twice at the same time if there is another one.
func (r *chaosRun) execute() {
	r.t.Helper()

	if r.other == nil {
		r.chaosEnd = r.one()

		return
	}

	ended := make(chan chaosEnd, 1)

	go func() { ended <- r.one() }()

	r.chaosEnd, *r.other = r.one(), <-ended
}

// one runs the command.
func (r *chaosRun) one() (end chaosEnd) {
	ctx, cancel := context.WithTimeout(r.t.Context(), chaosEnds)
	defer cancel()

	program := append([]string{filepath.Join(r.bin, "talosmate")}, r.args...)
	env := append(slices.DeleteFunc(slices.Clone(r.env), func(v string) bool { return strings.HasPrefix(v, "XDG_") || strings.HasPrefix(v, "HOME=") }), "TMPDIR="+r.temp)

	switch r.shape {
	case "no home":
	case "unwritable home":
		env = append(env, "HOME=/proc")
	case "64 descriptors":
		env, program = append(env, "HOME="+r.home), append([]string{"sh", "-c", `ulimit -n 64; exec "$0" "$@"`}, program...)
	default:
		env = append(env, "HOME="+r.home)
	}

	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	cmd.Dir, cmd.Env = r.work, env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // it prints its goroutines
	cmd.WaitDelay = 5 * time.Second

	var stdout, stderr bytes.Buffer

	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	if r.shape == "no reader" {
		in, out, err := os.Pipe()
		if err != nil || in.Close() != nil {
			r.t.Errorf("no pipe: %v", err)

			return end
		}

		defer out.Close()

		cmd.Stdout = out
	}

	began := time.Now()

	if err := cmd.Start(); err != nil {
		r.t.Error(err)

		return end
	}

	if r.signal != 0 {
		sends := time.AfterFunc(r.within, func() { _ = cmd.Process.Signal(r.signal) }) // it may have ended
		defer sends.Stop()
	}

	err := cmd.Wait()
	end = chaosEnd{errs.Code(cmd.ProcessState.ExitCode()), time.Since(began), stdout.String(), stderr.String()}

	if ctx.Err() != nil {
		r.t.Errorf("it does not end: %v", err)
	}

	return end
}

// filesIn lists the files below a folder.
func filesIn(dir string) (out []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what cannot be read is listed too
		if err != nil || !d.IsDir() {
			out = append(out, strings.TrimPrefix(path, dir+"/"))
		}

		return nil
	})

	return out
}
