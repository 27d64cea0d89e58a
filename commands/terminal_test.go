package commands_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/talosmate/talosmate/commands/about"
	"github.com/talosmate/talosmate/internal/app"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/testing/hostile"
	"github.com/talosmate/talosmate/internal/testing/replay"
)

// zoo is what a hostile node puts into every text: sequences that clear, colour, retitle and answer back, their
// eight-bit forms, marks that reorder text, lines of its own, and bytes that are not UTF-8.
const zoo = "\x1b[2J\x1b]0;title\x07\u009b31m\u0085\x7f\u202e\u2066\u200f\u061c\u2028\r\nerror: made up\n\x9b1m\xff"

// words are command lines for every command that asks nodes: its first example, for the recorded cluster.
func words(t *testing.T) [][]string {
	t.Helper()

	var out [][]string

	for _, c := range about.Catalogue(newRoot()) {
		if len(c.Roles) == 0 {
			continue
		}

		out = append(out, split(c.Examples[0]))
	}

	return out
}

// split takes an example apart as a shell does, up to a pipe or a redirection.
func split(line string) []string {
	var (
		out    []string
		word   strings.Builder
		quoted rune
	)

	for _, r := range strings.TrimPrefix(line, "talosmate ") + " " {
		switch {
		case quoted == 0 && strings.ContainsRune(`'"`, r):
			quoted = r
		case r == quoted:
			quoted = 0
		case quoted == 0 && strings.ContainsRune("|>", r):
			return out
		case quoted == 0 && r == ' ':
			if word.Len() > 0 {
				out = append(out, word.String())
			}

			word.Reset()
		default:
			word.WriteRune(r)
		}
	}

	return out
}

// onRecorded names a recorded node where the example names one.
func onRecorded(args []string) []string {
	out := []string{}

	for i, a := range args {
		if i > 0 && (args[i-1] == "-n" || args[i-1] == "--nodes") {
			a = "10.5.0.2"
		}

		out = append(out, a)
	}

	return out
}

func unwanted(text string) string {
	for _, own := range []string{string(iostreams.Home), string(iostreams.EraseLine), string(iostreams.EraseBelow)} {
		text = strings.ReplaceAll(text, own, "")
	}

	for lines := range 50 {
		text = strings.ReplaceAll(text, string(iostreams.CursorUp(lines)), "")
	}

	for i, r := range text {
		switch {
		case r == '\n', r == '\t':
		case r < ' ', r >= 0x7f && r <= 0x9f, r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return fmt.Sprintf("%U in %q", r, text[max(0, i-40):min(len(text), i+40)])
		}
	}

	if !utf8.ValidString(text) {
		return "bytes that are not UTF-8"
	}

	return ""
}

// TestEveryWayToATerminal runs every command that asks nodes against one that puts control sequences into all that
// it says, on a terminal and in a pipe.
func TestEveryWayToATerminal(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1") // no registry is asked
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")

	// A node that spoils everything makes commands fail early; one that spoils what is free text lets them get far.
	spoilers := map[string]func(string) string{
		"all text": func(s string) string { return s + zoo },
		"free text": func(s string) string {
			if strings.ContainsAny(s, " =") || len(s) > 40 || strings.Contains(s, "-") {
				return zoo + s + zoo
			}

			return s
		},
	}

	endpoints := map[string]*hostile.Endpoint{}

	for name, spoil := range spoilers {
		server := replay.Start(t, "talos-v1.13.8", map[string]string{
			"MachineService.Containers": "cri", "MachineService.DiskUsage": "var", "MachineService.Events": "tail", "MachineService.List": "etc",
			"MachineService.Logs": "etcd", "MachineService.Read": "os-release", "MachineService.Stats": "cri", "ImageService.List": "cri",
		})
		endpoints[name] = hostile.Start(t, server.Talosconfig(t, "os:admin"), server.Authority(t))
		endpoints[name].Spoil(spoil)
	}

	t.Chdir(t.TempDir())

	for name, endpoint := range endpoints {
		slots := make(chan struct{}, 12)

		var (
			wg   sync.WaitGroup
			seen hostileOutput
		)

		colours := colourless()
		formats := [][]string{{"-o", "wide", "--progress", "tty"}, {"-o", "json"}, {"-o", "yaml", "--query", "."}, {"-o", "ndjson"}}

		for i, line := range words(t) {
			for _, tty := range []bool{true, false} {
				extra := formats[i%len(formats)]
				if tty && i%2 == 0 {
					extra = []string{"-v"}
				}

				slots <- struct{}{}

				wg.Go(func() {
					defer func() { <-slots }()

					args := append(onRecorded(line), append(extra, "--timeout", "3s")...)
					stdout, stderr := hostileRun(t, endpoint.Talosconfig, tty, args)
					seen.add(stdout)

					for where, text := range map[string]string{"stdout": stdout, "stderr": stderr} {
						if where == "stdout" && !tty && isBytes(args) {
							continue
						}

						if tty {
							text = colours.Replace(text)
						}

						if bad := unwanted(text); bad != "" {
							t.Errorf("%s, terminal %t: %v: %s: %s", name, tty, args, where, bad)
						}
					}

					if strings.Contains("\n"+stderr, "\nerror: made up") {
						t.Errorf("%s: %v: the node wrote a line of its own on stderr:\n%s", name, args, stderr)
					}
				})
			}
		}

		wg.Wait()

		if seen.count == 0 {
			t.Errorf("%s: nothing of what the node said was shown", name)
		}
	}
}

// colourless removes the sequences of this program's own colours; those that a node sends are neutralized before.
func colourless() *strings.Replacer {
	var pairs []string
	for _, style := range []iostreams.Style{"0", iostreams.Bold, iostreams.Red, iostreams.Green, iostreams.Yellow} {
		pairs = append(pairs, "\x1b["+string(style)+"m", "")
	}

	return strings.NewReplacer(pairs...)
}

type hostileOutput struct {
	mu    sync.Mutex
	count int
}

func (h *hostileOutput) add(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if strings.Contains(text, "made up") {
		h.count++
	}
}

// isBytes reports whether a command line's stdout in a pipe is bytes as the node sends them.
func isBytes(args []string) bool {
	if slices.Contains(args, "-") {
		return true
	}

	line := strings.Join(args, " ")
	raw := slices.ContainsFunc([]string{"logs ", "dmesg ", "fs read ", "machineconfig get "}, func(p string) bool { return strings.HasPrefix(line, p) })

	return raw && slices.Contains(args, "wide")
}

func hostileRun(t *testing.T, config string, tty bool, args []string) (stdout, stderr string) {
	t.Helper()

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)

	enough := time.AfterFunc(4*time.Second, func() { cancel(errs.New(errs.Interrupted, "interrupted")) })
	defer enough.Stop()

	home := t.TempDir()

	var out, errOut bytes.Buffer

	app.Run(ctx, args, &iostreams.Streams{
		In: strings.NewReader("no\n"), Out: &out, Err: &errOut, InTTY: tty, OutTTY: tty, ErrTTY: tty, Color: tty, Width: 200, Height: 50,
		Env: func(key string) (string, bool) {
			value, set := map[string]string{"TALOSCONFIG": config, "HOME": home, "EDITOR": "true", "KUBECONFIG": filepath.Join(home, "none")}[key]

			return value, set
		},
	})

	return out.String(), errOut.String()
}
