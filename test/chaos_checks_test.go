package test

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
)

// check compares what the run said with what became of the cluster and of the machine that it ran on.
func (r *chaosRun) check() {
	r.t.Helper()
	r.checkWords()

	if !r.row.raw && r.shape != "no reader" {
		r.checkDocument()
	}

	if r.row.changes() {
		r.checkChange()
		r.checkAudit()
	} else if n := r.mutations(); len(n) > 0 {
		r.t.Errorf("a read has sent %v", n)
	}

	r.checkKubernetes()
	r.checkQuorum()
	r.checkFiles()

	if r.row.verify != nil && r.shape != "no reader" {
		r.row.verify(r)
	}
}

// checkBoth checks what two runs at the same time leave together, and that each has said how it ended.
func (r *chaosRun) checkBoth() {
	r.t.Helper()

	for _, end := range []chaosEnd{r.chaosEnd, *r.other} {
		one := *r
		one.chaosEnd = end
		one.checkWords()

		var doc chaosDocument

		if err := json.Unmarshal([]byte(end.stdout), &doc); r.shape != "no reader" && (err != nil || (end.code == errs.OK) != (len(doc.Errors) == 0)) {
			r.t.Errorf("exit code %d with %+v: %v", end.code, doc.Errors, err)
		}

		if end.code == errs.OK && r.row.happened != nil && !r.row.happened(r) {
			r.t.Error("exit code 0, and the change was not made")
		}
	}

	r.checkOnce()
	r.checkKubernetes()
	r.checkQuorum()
	r.checkFiles()
}

// checkFiles checks that no temporary file is left.
func (r *chaosRun) checkFiles() {
	r.t.Helper()

	if files := filesIn(r.temp); len(files) > 0 {
		r.t.Errorf("temporary files are left: %v", files)
	}

	for _, file := range append(filesIn(r.home), filesIn(r.work)...) {
		if strings.Contains(file, "tmp") || strings.Contains(file, "partial") {
			r.t.Errorf("a file is left: %s", file)
		}
	}
}

// checkWords checks the exit code and what it said about it.
func (r *chaosRun) checkWords() {
	r.t.Helper()

	known := slices.ContainsFunc(errs.Codes(), func(c errs.CodeInfo) bool { return c.Code == r.code })

	second := r.other != nil && (strings.Contains(r.stderr, "is there already") || slices.Contains(r.row.twice, errs.Usage)) // the first one has done it
	if !known || r.code == errs.Usage && !second || r.code == errs.Interrupted && r.signal == 0 {
		r.t.Errorf("exit code %d", r.code)
	}

	for _, word := range []string{"panic", "goroutine ", "DATA RACE", "runtime error"} {
		if strings.Contains(r.stderr, word) {
			r.t.Errorf("it says %q", word)
		}
	}

	if r.code != errs.OK && strings.TrimSpace(r.stderr) == "" {
		r.t.Errorf("exit code %d, and stderr is empty", r.code)
	}
}

// checkDocument checks that the document is one of its schema, and that it says what the exit code says.
func (r *chaosRun) checkDocument() {
	r.t.Helper()

	if r.code == errs.Interrupted && r.stdout == "" && !r.row.changes() { // before it knew what to write
		return
	}

	if err := json.Unmarshal([]byte(r.stdout), &r.doc); err != nil {
		r.t.Errorf("no document: %v", err)

		return
	}

	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "docs", "schemas", path.Base(r.doc.Schema)+".json"))
	if err != nil {
		r.t.Fatal(err)
	}

	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(r.stdout))
	if err != nil {
		r.t.Fatal(err)
	}

	if err = schema.Validate(doc); err != nil {
		r.t.Error(err)
	}

	switch {
	case r.code == errs.OK && len(r.doc.Errors) > 0:
		r.t.Errorf("exit code 0 with errors: %+v", r.doc.Errors)
	case r.code != errs.OK && r.code != errs.Negative && r.code != errs.Interrupted && len(r.doc.Errors) == 0:
		r.t.Errorf("exit code %d without errors", r.code)
	case r.code == errs.Partial && r.doc.Items != nil && len(r.doc.Selection.Nodes) > 0 && r.failedNodes() >= len(r.doc.Selection.Nodes):
		r.t.Error("exit code 4, and every node failed")
	}

	r.checkNodes()
}

// failedNodes is the number of nodes that the document has errors of.
func (r *chaosRun) failedNodes() int {
	failed := map[string]bool{}
	for _, e := range r.doc.Errors {
		failed[e.Node] = true
	}

	return len(failed)
}

// checkNodes checks that the document says something about every chosen node, and nothing of a node that contradicts
// what the node has executed.
func (r *chaosRun) checkNodes() {
	r.t.Helper()

	said := map[string]bool{}

	for _, item := range r.doc.Items {
		node, _ := item["node"].(string)
		said[node] = true
	}

	names := map[string]string{}

	for name, n := range r.before {
		names[n.Address] = name
	}

	for _, e := range r.doc.Errors {
		said[e.Node] = true

		if r.row.times > 1 || e.Code != errs.Unreachable.Name() && e.Code != errs.Timeout.Name() && e.Code != errs.Refused.Name() {
			continue
		}

		for _, method := range r.row.sends {
			if r.executed(names[e.Node], method) > 0 {
				r.t.Errorf("%s is %s, and has executed %s", names[e.Node], e.Code, method)
			}
		}
	}

	if r.doc.Items == nil || r.row.sparse || said[""] || r.code == errs.Interrupted {
		return
	}

	for _, node := range r.doc.Selection.Nodes {
		if !said[node] {
			r.t.Errorf("the document does not say anything about %s", names[node])
		}
	}
}

// mutations are the calls that the nodes have executed and that change something.
func (r *chaosRun) mutations() map[string]int {
	r.t.Helper()

	var all struct {
		Nodes map[string]struct{ Mutations int }
	}

	r.ask(&all, "requests", "")

	out := map[string]int{}

	for node, n := range all.Nodes {
		if n.Mutations > 0 {
			out[node] = n.Mutations
		}
	}

	return out
}

// checkOnce checks that nodes have executed each request once at most, and only those for which it was.
func (r *chaosRun) checkOnce() {
	r.t.Helper()

	runs := 1
	if r.other != nil {
		runs = 2
	}

	only := strings.NewReplacer("WORKER", r.worker, "CP", r.cp).Replace(r.row.nodes)

	events := map[string]int{}
	for _, n := range r.timeline {
		if n.Event == r.row.event {
			events[n.Node]++
		}
	}

	for node, n := range events {
		if n > runs {
			r.t.Errorf("%s has %d times %s", node, n, r.row.event)
		}
	}

	for _, method := range r.row.sends {
		for node := range r.counts {
			n := r.executed(node, method)
			if n > runs*max(r.row.times, 1) {
				r.t.Errorf("%s has executed %s %d times", node, method, n)
			}

			if n > 0 && only != "" && node != only {
				r.t.Errorf("%s has executed %s, which was for %s", node, method, only)
			}
		}
	}
}

// checkChange checks that the exit code says what became of a change.
func (r *chaosRun) checkChange() {
	r.t.Helper()

	r.checkOnce()

	sent := 0
	for _, method := range r.row.sends {
		sent += r.received(method)
	}

	// A dry run is a request too where times is more than 1.
	nothing := r.code == errs.Refused || r.code == errs.Unreachable || r.code == errs.Timeout || r.code == errs.Usage
	if nothing && r.row.times == 0 && sent > 0 {
		r.t.Errorf("exit code %d (%s), and %d requests were sent", r.code, r.code.Name(), sent)
	}

	if r.row.happened == nil {
		return
	}

	switch happened := r.row.happened(r); {
	case nothing && happened && !r.row.partly():
		r.t.Errorf("exit code %d (%s), and the change was made", r.code, r.code.Name())
	case r.code == errs.OK && !happened:
		r.t.Error("exit code 0, and the change was not made")
	case r.code == errs.Partial:
		r.t.Error("exit code 4 of one node")
	}
}

// partly reports whether what happened is only seen whole.
func (c chaosRow) partly() bool { return strings.HasPrefix(c.args, "node drain") }

// checkAudit checks that the log has one record with the outcome if anything was sent.
func (r *chaosRun) checkAudit() {
	r.t.Helper()

	raw, err := os.ReadFile(r.audit)
	if err != nil {
		r.t.Error(err)

		return
	}

	type line struct {
		ID, Event, Outcome string
		ExitCode           *int `json:"exit_code"`
	}

	var lines []line

	for text := range strings.Lines(string(raw)) {
		var l line
		if err = json.Unmarshal([]byte(text), &l); err != nil {
			r.t.Errorf("%v: %s", err, text)
		}

		lines = append(lines, l)
	}

	if len(lines) == 0 || len(lines) > 2 {
		r.t.Errorf("%d lines in the audit log", len(lines))

		return
	}

	last := lines[len(lines)-1]
	if last.Event != "ended" || last.ExitCode == nil || *last.ExitCode != int(r.code) || last.ID != lines[0].ID {
		r.t.Errorf("exit code %d, and the audit log ends with %+v", r.code, last)
	}

	dry := slices.Contains(r.row.sends, "ApplyConfiguration") // a dry run is a request too
	if len(lines) == 1 && !dry && len(r.mutations()) > 0 {
		r.t.Errorf("the audit log has no beginning, and the nodes executed %v", r.mutations())
	}
}

// checkKubernetes checks that no lock and no cordon is left.
func (r *chaosRun) checkKubernetes() {
	r.t.Helper()

	if lock, err := r.kube.ReadLock(r.t.Context(), time.Now()); err != nil || lock.Held {
		r.t.Errorf("the lock: %+v, %v", lock, err)
	}

	for _, name := range chaosNodes() {
		n, _, err := r.kube.Node(r.t.Context(), name)
		if err != nil {
			r.t.Fatal(err)
		}

		ours := n.Annotations[kube.CordonAnnotation] != ""

		switch {
		case name == r.worker && (strings.HasPrefix(r.row.args, "node cordon") || strings.HasPrefix(r.row.args, "node uncordon") || strings.HasPrefix(r.row.args, "node drain")):
		case (n.Unschedulable || ours) && !strings.Contains(r.stderr+r.stdout, "uncordon"):
			r.t.Errorf("%s is cordoned (%t) by us (%t)", name, n.Unschedulable, ours)
		case n.Unschedulable && r.code == errs.OK:
			r.t.Errorf("exit code 0, and %s is cordoned", name)
		}
	}
}

// checkQuorum checks that no two control planes were down at the same time.
func (r *chaosRun) checkQuorum() {
	r.t.Helper()

	down := map[string]bool{}

	for _, n := range r.timeline {
		if !strings.HasPrefix(n.Node, "cp-") {
			continue
		}

		switch n.Event {
		case "down":
			down[n.Node] = true
		case "up":
			delete(down, n.Node)
		}

		if len(down) > 1 {
			r.t.Errorf("control planes are down together: %v", down)
		}
	}
}

// reset makes the cluster as it was before.
func (r *chaosRun) reset() {
	r.t.Helper()

	for _, n := range chaosNodes() {
		if !r.after[n].Powered {
			r.tellLab("power", n, "state", "on")
		}

		if node, _, err := r.kube.Node(r.t.Context(), n); err == nil && node.Unschedulable {
			r.setCordon(n, false)
		}
	}

	if r.row.after != nil {
		r.row.after(r)
	}

	r.ready()
	r.tellLab("etcd-alarm", r.cp, "alarm", "none")
}
