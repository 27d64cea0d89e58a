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
	mostHelps    = 7        // The first help and the catalogue are two of them.
	mostBytes    = 32 << 10 // They cost 30 KB; a new command in the catalogue still fits.
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
		{"which node leads etcd", []string{"talosmate --help", "talosmate commands", "talosmate etcd status"}, `cp-\d .* leader `},
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
		{"which services are not healthy", []string{"talosmate service list --help", `talosmate service list --query '.items[] | select(.health == "unhealthy") | [.hostname, .id] | @tsv'`}, `^worker-2\tkubelet\n$`},
		{
			"what happened on worker-2 in the last hour",
			[]string{"talosmate events --help", "talosmate events -n worker-2 --since 1h --filter kubelet"},
			`(?s)kubelet.*Health`,
		},
		{"the disks of worker-1 with their sizes", []string{"talosmate system disks -n worker-1"}, `worker-1 +/dev/sda +100 GiB`},
	}
}

// TestAgentTasks does the tasks with the real binary as an agent that has only a shell would, and counts what it reads.
// Every command and flag of a line must stand in something that was read before. With -v it prints a table.
func TestAgentTasks(t *testing.T) {
	t.Parallel()

	f := startLab(t)
	f.env = slices.DeleteFunc(f.env, func(kv string) bool { return strings.HasPrefix(kv, "TALOSMATE_READ_ONLY=") })

	for i := range 8 {
		f.ctl("log", "worker-1", "kubelet", "--line", fmt.Sprintf("E1122 error %d of the kubelet", i))
		f.ctl("log", "worker-1", "kubelet", "--line", fmt.Sprintf("I1122 line %d", i))
	}

	f.ctl("service", "worker-2", "kubelet", "fail")

	seen := "talosmate --help"
	commands, helps, read := 0, 0, 0

	var table strings.Builder

	fmt.Fprintf(&table, "| %-56s | commands | helps | bytes |\n|---|---|---|---|\n", "task")

	for _, task := range agentTasks() {
		var out string

		taskCommands, taskHelps, taskBytes := 0, 0, 0

		for _, line := range task.lines {
			for _, word := range unknownWords(line, seen) {
				t.Errorf("%s: nothing that was read before `%s` names %s", task.task, line, word)
			}

			out = f.shell(line)
			seen += "\n" + out
			taskBytes += len(out)

			if strings.Contains(line, "--help") || line == "talosmate commands" {
				taskHelps++
			} else {
				taskCommands++
			}
		}

		if !regexp.MustCompile(task.answer).MatchString(out) {
			t.Errorf("%s: the answer of `%s` is\n%s\nwant %s", task.task, task.lines[len(task.lines)-1], out, task.answer)
		}

		fmt.Fprintf(&table, "| %-56s | %d | %d | %d |\n", task.task, taskCommands, taskHelps, taskBytes)

		commands, helps, read = commands+taskCommands, helps+taskHelps, read+taskBytes
	}

	fmt.Fprintf(&table, "| together | %d | %d | %d |\n", commands, helps, read)
	t.Logf("\n%s", &table)

	if commands > mostCommands || helps > mostHelps || read > mostBytes {
		t.Errorf("%d commands, %d helps and %d bytes, and %d, %d and %d are the most", commands, helps, read, mostCommands, mostHelps, mostBytes)
	}
}

// unknownWords are the commands and flags of a line that stand nowhere in what was read. The values of flags are the task's.
func unknownWords(line, seen string) []string {
	command, _, _ := strings.Cut(line, " '")
	words := strings.Fields(command)[1:]

	var path []string
	for len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		path, words = append(path, words[0]), words[1:]
	}

	var out []string

	// A command is named by its whole path, or its last word is an argument.
	if whole := strings.Join(path, " "); !strings.Contains(seen, whole) && !strings.Contains(seen, strings.Join(path[:len(path)-1], " ")) {
		out = append(out, whole)
	}

	for _, word := range words {
		flag, _, _ := strings.Cut(word, "=")
		if strings.HasPrefix(flag, "-") && !regexp.MustCompile(`(^|[\s\x60,(])`+regexp.QuoteMeta(flag)+`\b`).MatchString(seen) {
			out = append(out, flag)
		}
	}

	if !strings.Contains(line, "--query") {
		return out
	}

	for _, field := range regexp.MustCompile(`\.([a-z_]+)\b`).FindAllStringSubmatch(line[len(command):], -1) {
		if !strings.Contains(seen, field[1]) {
			out = append(out, "."+field[1])
		}
	}

	return out
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
