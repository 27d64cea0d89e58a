package image

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/output"
)

// candidate is one image that would be removed from one node.
type candidate struct {
	image.Candidate

	node string
}

// preview writes which images would be removed, how many are kept for which reason, and the totals.
func preview(w io.Writer, rows []image.Result, now time.Time) error {
	all, bytes := []candidate{}, int64(0)

	for _, r := range rows {
		bytes += r.CandidateBytes
		all = append(all, lists.Map(r.Candidates, func(c image.Candidate) candidate { return candidate{c, nodeName(r)} })...)
	}

	if len(all) > 0 {
		if err := output.WriteTable(w, candidateColumns(now), all); err != nil {
			return err
		}

		fmt.Fprintln(w)
	}

	if kept := keptBy(rows); len(kept) > 0 {
		if err := output.WriteTable(w, keptColumns(), kept); err != nil {
			return err
		}

		fmt.Fprintln(w)
	}

	for _, line := range unasked(rows) {
		fmt.Fprintln(w, output.Line(line+" (--apply needs --without-pods)"))
	}

	_, err := fmt.Fprintf(w, "total: %s on %s would be removed, %s freed\n", output.Count(len(all), "image"), output.Count(len(rows), "node"), output.Bytes(bytes))

	return err
}

func candidateColumns(now time.Time) []output.Column[candidate] {
	return []output.Column[candidate]{
		{Header: "NODE", Value: func(c candidate) string { return c.node }},
		{Header: "IMAGE", Value: func(c candidate) string { return output.Short(c.Image) }},
		{Header: "SIZE", Value: func(c candidate) string { return output.Bytes(c.SizeBytes) }},
		{Header: "AGE", Value: func(c candidate) string {
			if c.Created == nil {
				return ""
			}

			return output.Age(now.Sub(*c.Created))
		}},
		{Header: "DIGEST", Wide: true, Value: func(c candidate) string { return c.Digest }},
		{Header: "NAME", Wide: true, Value: func(c candidate) string { return c.Image }},
		{Header: "NAMES", Wide: true, Value: func(c candidate) string { return strings.Join(c.Names, ",") }},
	}
}

// kept is how many images of all nodes are kept for one reason.
type kept struct {
	count  int
	reason string
}

func keptBy(rows []image.Result) []kept {
	counts := map[string]int{}

	for _, r := range rows {
		if r.InUseImages > 0 {
			counts["in use"] += r.InUseImages
		}

		for _, k := range r.Kept {
			counts[k.Reason]++
		}
	}

	out := []kept{}
	for reason, n := range counts {
		out = append(out, kept{n, reason})
	}

	lists.Sort(out, func(a, b kept) int { return cmp.Or(b.count-a.count, strings.Compare(a.reason, b.reason)) })

	return out
}

func keptColumns() []output.Column[kept] {
	return []output.Column[kept]{
		{Header: "KEPT", Value: func(k kept) string { return fmt.Sprint(k.count) }},
		{Header: "REASON", Value: func(k kept) string { return k.reason }},
	}
}

// unasked lists for which nodes Kubernetes could not be asked, one line a cause.
func unasked(rows []image.Result) []string {
	nodes, causes := map[string][]string{}, []string{}

	for _, r := range rows {
		if r.PodsError == "" {
			continue
		}

		if nodes[r.PodsError] == nil {
			causes = append(causes, r.PodsError)
		}

		nodes[r.PodsError] = append(nodes[r.PodsError], nodeName(r))
	}

	return lists.Map(causes, func(cause string) string {
		return fmt.Sprintf("Kubernetes could not be asked for the pods of %s, whose images may look unused: %s", strings.Join(nodes[cause], ", "), cause)
	})
}

func nodeName(r image.Result) string { return cmp.Or(r.Hostname, r.Node) }
