package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// What the twelve tasks together may cost an agent that knows only `talosmate --help`.
const (
	mostCommands = 16
	mostHelps    = 5 // The first help is one of them.
	mostBytes    = 30_000
)

// agentTask is a task with the command lines that a newcomer goes through, helps first, and what the answer must hold.
type agentTask struct {
	task   string
	lines  []string
	answer string
}

// agentTasks are the tasks, in the order in which one agent does them: what one task has read is known in the next.
func agentTasks() []agentTask {
	return []agentTask{
		{"which node leads etcd", []string{"talosmate --help", "talosmate etcd status"}, `cp-\d .* leader `},
		{
			"the last 5 errors in the kubelet's log on worker-1",
			[]string{"talosmate logs --help", "talosmate logs kubelet -n worker-1 --filter error --tail 5"},
			`^[^\n]*error 3[^\n]*\n([^\n]*error [4567][^\n]*\n){4}$`,
		},
		{"which images are unused, and what a prune would free", []string{"talosmate image prune -A"}, `(?s)kube-proxy:.*total: \d+ images on 5 nodes would be removed, [\d.]+ GiB freed`},
		{"which Talos version each node runs", []string{"talosmate version"}, `(?s)cp-1 +v1\.14\.1.*worker-2 +v1\.14\.1`},
		{"is the cluster healthy, and which checks fail", []string{"talosmate health"}, `fail .*worker-2`},
		{"when the certificate expires", []string{"talosmate config info"}, `os:admin +20\d\d-`},
		{
			"what an upgrade to v1.14.2 would do",
			[]string{"talosmate upgrade plan --help", "talosmate upgrade plan --to v1.14.2 --check-images=false"},
			`(?s)worker-1 +worker +upgrade +v1\.14\.1 -> v1\.14\.2.*plan [0-9a-f]{12}`,
		},
		{
			"what a patch of worker-1 would change, as a dry run",
			[]string{"talosmate machineconfig patch --help", `talosmate machineconfig patch -n worker-1 -p '{"machine":{"sysctls":{"vm.swappiness":"10"}}}' --dry-run`},
			`vm\.swappiness`,
		},
		{"who the etcd members are, and how large their databases", []string{"talosmate etcd status"}, `(?s)cp-1 +[0-9a-f]{16} .*KiB.*cp-3 +[0-9a-f]{16} `},
		{"which services are not healthy", []string{"talosmate service list"}, `worker-2 +kubelet .*unhealthy`},
		{
			"what happened on worker-2 in the last hour",
			[]string{"talosmate events --help", "talosmate events -n worker-2 --since 1h --filter kubelet"},
			`(?s)kubelet.*Health`,
		},
		{"the disks of worker-1 with their sizes", []string{"talosmate system disks -n worker-1"}, `worker-1 +/dev/sda +100 GiB`},
	}
}

// TestAgentTasks does the tasks with the real binary as an agent that has only a shell would, and counts what it reads.
// Every command of a line must stand in the help of its group or of the whole, and every flag in the help of that command,
// or where the flags of all commands are, before it is used. With -v it prints a table.
func TestAgentTasks(t *testing.T) {
	t.Parallel()

	f := startLab(t)
	f.env = slices.DeleteFunc(f.env, func(kv string) bool { return strings.HasPrefix(kv, "TALOSMATE_READ_ONLY=") })

	for i := range 8 {
		f.ctl("log", "worker-1", "kubelet", "--line", fmt.Sprintf("E1122 error %d of the kubelet", i))
		f.ctl("log", "worker-1", "kubelet", "--line", fmt.Sprintf("I1122 line %d", i))
	}

	f.ctl("service", "worker-2", "kubelet", "fail")

	read := helps{}
	commands, asked, size := 0, 0, 0

	var table strings.Builder

	fmt.Fprintf(&table, "| %-56s | commands | helps | bytes |\n|---|---|---|---|\n", "task")

	for _, task := range agentTasks() {
		var out string

		taskCommands, taskHelps, taskBytes := 0, 0, 0

		for _, line := range task.lines {
			for _, word := range read.unknown(line) {
				t.Errorf("%s: no help that was read before `%s` names %s", task.task, line, word)
			}

			out = f.shell(line)
			taskBytes += len(out)

			if of, is := strings.CutSuffix(line, " --help"); is {
				taskHelps++
				read[strings.TrimSpace(strings.TrimPrefix(of, "talosmate"))] = out
			} else {
				taskCommands++
			}
		}

		if !regexp.MustCompile(task.answer).MatchString(out) {
			t.Errorf("%s: the answer of `%s` is\n%s\nwant %s", task.task, task.lines[len(task.lines)-1], out, task.answer)
		}

		fmt.Fprintf(&table, "| %-56s | %d | %d | %d |\n", task.task, taskCommands, taskHelps, taskBytes)

		commands, asked, size = commands+taskCommands, asked+taskHelps, size+taskBytes
	}

	fmt.Fprintf(&table, "| together | %d | %d | %d |\n", commands, asked, size)
	t.Logf("\n%s", &table)

	if commands > mostCommands || asked > mostHelps || size > mostBytes {
		t.Errorf("%d commands, %d helps and %d bytes, and %d, %d and %d are the most", commands, asked, size, mostCommands, mostHelps, mostBytes)
	}
}

// helps are the help texts that were read, by the command that they are of.
type helps map[string]string

// unknown are the commands, flags and fields of a line that no help that was read has told. The values of flags and
// arguments are the task's, but that a command takes arguments stands in its help.
func (h helps) unknown(line string) []string {
	if line == "talosmate --help" {
		return nil // all that the agent knows
	}

	command, expression, _ := strings.Cut(line, " '")
	words := strings.Fields(command)[1:]

	end := slices.IndexFunc(words, func(word string) bool { return strings.HasPrefix(word, "-") })
	if end < 0 {
		end = len(words)
	}

	// The longest beginning that a help lists is the command, and what follows are arguments.
	named := end
	for named > 0 && !h.lists(words[:named]) {
		named--
	}

	if named == 0 {
		return []string{strings.Join(words[:end], " ")}
	}

	var out []string

	own := h[strings.Join(words[:named], " ")]
	if named < end && own == "" {
		out = append(out, "the arguments "+strings.Join(words[named:end], " "))
	}

	for _, word := range words[end:] {
		flag, _, _ := strings.Cut(word, "=")
		if !strings.HasPrefix(flag, "-") || flag == "--help" {
			continue
		}

		// In a list of flags, or in a sentence about those of all commands.
		if !regexp.MustCompile(`(?m)^ +(-\w, )?`+regexp.QuoteMeta(flag)+`\b`).MatchString(own) &&
			!regexp.MustCompile(`(?m)^.*\B`+regexp.QuoteMeta(flag)+`\b`).MatchString(h.everywhere()) {
			out = append(out, flag)
		}
	}

	if strings.Contains(command, "--query") {
		for _, field := range regexp.MustCompile(`\.([a-z_]+)\b`).FindAllStringSubmatch(expression, -1) {
			if !strings.Contains(own, field[1]) {
				out = append(out, "."+field[1])
			}
		}
	}

	return out
}

// TestUnknownWords: what no help has told is found.
func TestUnknownWords(t *testing.T) {
	t.Parallel()

	read := helps{
		"":     "Commands:\n  logs          Show the log\n  etcd          Look after etcd: alarm list,\n                members, status\n\nGlobal flags such as -n and --query\n-A all of them\n",
		"logs": "Flags:\n  -f, --follow     continue\n      --tail int   how many\nFields of -o json, .items[]: log, message\n",
	}

	for line, want := range map[string]string{
		"talosmate --help": "", "talosmate etcd status -A": "", "talosmate etcd alarm list": "", "talosmate logs etcd -f --tail=5 -n x": "",
		"talosmate logs --query '.items[].message'": "", "talosmate logs --query '.items[].node'": "[.node]",
		"talosmate etcd defrag": "[the arguments defrag]", "talosmate health": "[health]", "talosmate logs etcd --filter x": "[--filter]",
		"talosmate etcd status --tail 5": "[--tail]", "talosmate etcd status cp-1": "[the arguments cp-1]",
	} {
		if got := read.unknown(line); len(got) > 0 && fmt.Sprint(got) != want || len(got) == 0 && want != "" {
			t.Errorf("%s: %v, want %s", line, got, want)
		}
	}
}

// lists reports whether a help that was read names a command: that of its group, in a line of its own, or the first one,
// behind the name of the group.
func (h helps) lists(path []string) bool {
	parent, name := strings.Join(path[:len(path)-1], " "), path[len(path)-1]
	if regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(name) + ` `).MatchString(h[parent]) {
		return true
	}

	group := regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(path[0]) + ` .*\n( {6,}.*\n)*`).FindString(h[""])
	_, verbs, _ := strings.Cut(group, ":")

	return len(path) > 1 && slices.Contains(strings.Split(strings.Join(strings.Fields(verbs), " "), ", "), strings.Join(path[1:], " "))
}

// everywhere is what was read of the flags that every command has: the lines of the first help that are about them.
func (h helps) everywhere() string {
	_, flags, _ := strings.Cut(h[""], "\nGlobal flags")

	return flags
}

// shell runs a line as an agent does, and returns what it reads: both streams.
func (f *fleet) shell(line string) string {
	f.t.Helper()

	cmd := f.command("sh", "-c", line)
	cmd.Env = append(slices.Clone(f.env), "PATH="+f.bin+string(os.PathListSeparator)+os.Getenv("PATH"))

	out, err := cmd.CombinedOutput()

	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() == 2) || !utf8.Valid(out) {
		f.t.Fatalf("%s: %v\n%s", line, err, out)
	}

	return string(out)
}
