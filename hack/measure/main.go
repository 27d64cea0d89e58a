//go:build unix

// Command measure compares two command lines, ours and talosctl's, and writes a row of docs/benchmarks.md for each figure.
// It runs them in turn and takes the medians of CPU time, wall time and peak memory, as the operating system accounts for
// them. A figure above its limit fails the run once its rows are written.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kballard/go-shellquote"
)

// figures are what a run of a program cost.
type figures struct {
	cpu, wall, peak float64 // Milliseconds, milliseconds, MiB.
}

// kinds are the figures that -show and -max name.
func kinds() map[string]func(figures) float64 {
	return map[string]func(figures) float64{
		"cpu":  func(f figures) float64 { return f.cpu },
		"wall": func(f figures) float64 { return f.wall },
		"peak": func(f figures) float64 { return f.peak },
	}
}

// row is a line of the page.
type row struct {
	name, ours, theirs, ratio, floor, limit string
}

func main() {
	log.SetFlags(0)

	var (
		runs   = flag.Int("runs", 7, "number of runs that count")
		name   = flag.String("name", "", "what the row is about")
		ours   = flag.String("ours", "", "our command line")
		theirs = flag.String("theirs", "", "talosctl's, empty for none")
		show   = flag.String("show", "cpu,wall,peak", "the figures to write")
		most   = flag.String("max", "", "limits: FIGURE=NUMBER (ms or MiB) or FIGURE=NUMBERx (of talosctl's), with commas")
		amount = flag.Float64("mib", 0, "how much data is moved, for throughput")
		floor  = flag.String("floor", "", "the physical limit, as text")
		value  = flag.String("value", "", "a figure that was measured elsewhere, in the place of -ours")
		peer   = flag.String("peer", "", "the same of talosctl")
		into   = flag.String("into", os.Getenv("BENCH_ROWS"), "file that the rows are appended to")
		fails  = flag.Bool("any-exit", false, "the command may fail: dead nodes are exit code 4")
	)

	flag.Parse()

	var (
		rows   []row
		beyond []string
	)

	if *value != "" {
		rows = []row{{*name, *value, *peer, ratioOf(number(*value), number(*peer)), *floor, *most}}
		if limit := number(*most); *most != "" && number(*value) > limit {
			beyond = append(beyond, fmt.Sprintf("%s: %s is above %s", *name, *value, *most))
		}
	} else {
		a, b := measure(*runs, *ours, *theirs, *fails)

		for kind := range strings.SplitSeq(*show, ",") {
			r, failed := rowOf(kind, *name, a, b, *amount, limitOf(*most, kind))
			r.floor = *floor

			if rows = append(rows, r); failed {
				beyond = append(beyond, fmt.Sprintf("%s: %s is above %s", r.name, cmp.Or(r.ours, r.ratio), r.limit))
			}
		}
	}

	if err := write(*into, rows); err != nil {
		log.Fatal(err)
	}

	if len(beyond) > 0 {
		log.Fatal(strings.Join(beyond, "\n"))
	}
}

// measure runs both command lines in turn, after one run of each that does not count. The second result is nil without a
// second command line.
func measure(runs int, ours, theirs string, fails bool) (a, b []figures) {
	for i := range runs + 1 {
		for _, side := range []struct {
			line string
			into *[]figures
		}{{ours, &a}, {theirs, &b}} {
			if side.line == "" {
				continue
			}

			f, err := once(side.line, fails)
			if err != nil {
				log.Fatal(err)
			}

			if i > 0 || runs == 1 { // a long run needs no warm-up
				*side.into = append(*side.into, f)
			}
		}

		if runs == 1 {
			break
		}
	}

	return a, b
}

func once(line string, fails bool) (figures, error) {
	var stderr bytes.Buffer

	words, err := shellquote.Split(line) // a shell's own time and pages would count
	if err != nil || len(words) == 0 {
		return figures{}, fmt.Errorf("cannot run %q: %w", line, err)
	}

	cmd := exec.CommandContext(context.Background(), words[0], words[1:]...) //nolint:gosec // G204: the command line that is measured
	cmd.Stdout, cmd.Stderr = io.Discard, &stderr

	start := time.Now()

	if err = cmd.Run(); err != nil && (!fails || cmd.ProcessState == nil) {
		return figures{}, fmt.Errorf("%s: %w\n%s", line, err, stderr.Bytes())
	}

	f := figures{wall: milliseconds(time.Since(start)), cpu: milliseconds(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		f.peak = float64(usage.Maxrss) / 1024
	}

	return f, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// rowOf is the row of one figure, and whether it is above its limit.
func rowOf(kind, name string, ours, theirs []figures, mib float64, limit string) (r row, failed bool) {
	of := kinds()[kind]
	a, b := median(ours, of), median(theirs, of)
	r = row{name: name + ": " + kind, ours: shown(kind, a), theirs: shown(kind, b), ratio: ratioOf(a, b), limit: limit}

	if kind == "wall" && mib > 0 {
		r.ours, r.theirs = throughput(mib, a), throughput(mib, b)
	}

	switch factor, relative := strings.CutSuffix(limit, "x"); {
	case limit == "":
	case relative:
		r.limit, failed = factor+" ×", b > 0 && a > b*number(factor)
	default:
		r.limit, failed = shown(kind, number(limit)), a > number(limit)
	}

	return r, failed
}

func median(all []figures, of func(figures) float64) float64 {
	if len(all) == 0 {
		return 0
	}

	slices.SortFunc(all, func(a, b figures) int { return cmp.Compare(of(a), of(b)) })

	return of(all[len(all)/2])
}

func shown(kind string, v float64) string {
	switch {
	case v == 0:
		return ""
	case kind == "peak":
		return fmt.Sprintf("%.1f MiB", v)
	case v >= 10_000:
		return fmt.Sprintf("%.1f s", v/1000)
	default:
		return fmt.Sprintf("%.0f ms", v)
	}
}

func throughput(mib, wall float64) string {
	if wall == 0 {
		return ""
	}

	return fmt.Sprintf("%.0f MiB/s", mib/wall*1000)
}

func ratioOf(a, b float64) string {
	if a == 0 || b == 0 {
		return ""
	}

	return fmt.Sprintf("%.2f", a/b)
}

// number is the number that a text begins with, 0 for none.
func number(text string) float64 {
	first, _, _ := strings.Cut(text, " ")
	v, _ := strconv.ParseFloat(first, 64) // what is not a number has no ratio and no limit

	return v
}

func limitOf(limits, kind string) string {
	for limit := range strings.SplitSeq(limits, ",") {
		if name, value, _ := strings.Cut(limit, "="); name == kind {
			return value
		}
	}

	return ""
}

func write(path string, rows []row) error {
	var text strings.Builder

	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %s |\n", r.name, r.ours, r.theirs, r.ratio, r.floor, r.limit)
	}

	defer func() { fmt.Print(text.String()) }()

	if path == "" {
		return nil
	}

	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // G304: the file that the user of the measurement names
	if err != nil {
		return fmt.Errorf("cannot open the rows: %w", err)
	}

	defer f.Close() //nolint:errcheck // what was written is checked

	if _, err = f.WriteString(text.String()); err != nil {
		return fmt.Errorf("cannot write the rows: %w", err)
	}

	return nil
}
