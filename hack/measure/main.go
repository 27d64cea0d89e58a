//go:build unix

// Command measure runs a program several times and prints the medians of its CPU time, wall time and peak
// memory, as the operating system accounts for them.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)

	runs := flag.Int("runs", 7, "number of runs that count")
	name := flag.String("name", "", "name in the output")
	most := flag.Float64("most", 0, "fail when the peak exceeds this many MiB; 0 for no limit")
	flag.Parse()

	if flag.NArg() == 0 {
		log.Fatal("usage: measure [-runs N] [-name TEXT] -- PROGRAM [ARGS]")
	}

	var cpu, wall, memory []float64

	for i := range *runs + 1 {
		c, w, m, err := once(flag.Args())
		if err != nil {
			log.Fatal(err)
		}

		if i > 0 { // the first one is a warm-up
			cpu, wall, memory = append(cpu, c), append(wall, w), append(memory, m)
		}
	}

	fmt.Printf("%-44s cpu %6.1f ms   wall %7.1f ms   peak %6.1f MiB\n", *name, median(cpu), median(wall), median(memory))

	if peak := median(memory); *most > 0 && peak > *most {
		log.Fatalf("%s: %.1f MiB are more than %.0f", *name, peak, *most)
	}
}

func once(args []string) (cpu, wall, memory float64, err error) {
	var stderr bytes.Buffer

	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...) //nolint:gosec // G204: the command line that is measured
	cmd.Stdout, cmd.Stderr = io.Discard, &stderr

	start := time.Now()

	if err = cmd.Run(); err != nil {
		return 0, 0, 0, fmt.Errorf("%v: %w\n%s", args, err, stderr.Bytes())
	}

	wall = float64(time.Since(start).Microseconds()) / 1000
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)

	if !ok {
		return 0, wall, 0, nil
	}

	return float64((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Microseconds()) / 1000, wall, float64(usage.Maxrss) / 1024, nil
}

func median(v []float64) float64 {
	slices.Sort(v)

	return v[len(v)/2]
}
