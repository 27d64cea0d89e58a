//go:build unix

package test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.yaml.in/yaml/v4"
)

// completionCase is a command line whose last word is completed.
type completionCase struct {
	line    string
	becomes string   // The line after the tab key, where there is one candidate; spaces at its end do not count.
	offers  []string // Candidates, where there are several.
	never   []string // What must not be a candidate.
	none    bool     // There is no candidate.
}

// completionCases are the same in every shell. The cluster has cp-1 to cp-3, worker-1 and worker-2; the folder decoy.yaml.
func completionCases() []completionCase {
	return []completionCase{
		{line: "talosmate servi", becomes: "talosmate service"},
		{line: "talosmate service ", offers: []string{"info", "list", "restart", "start", "stop"}, never: []string{"decoy.yaml"}},
		{line: "talosmate he", offers: []string{"health", "help"}},
		{line: "talosmate mine", becomes: "talosmate mine-restart"},
		{line: "talosmate mine-restart kubele", becomes: "talosmate mine-restart kubelet"},
		{line: "talosmate version --no-h", becomes: "talosmate version --no-headers"},
		{line: "talosmate version --context ", offers: []string{"lab", "other"}},
		{line: "talosmate config use oth", becomes: "talosmate config use other"},
		{line: "talosmate version -n ", offers: []string{"cp-1", "cp-2", "cp-3", "worker-1", "worker-2"}, never: []string{"decoy.yaml"}},
		{line: "talosmate version -n worker-2,cp-", offers: []string{"worker-2,cp-1", "worker-2,cp-3"}, never: []string{"worker-2,worker-1"}},
		{line: "talosmate version --nodes=worker-", offers: []string{"worker-1", "worker-2"}},
		{line: "talosmate describe node worker-", offers: []string{"worker-1", "worker-2"}},
		{line: "talosmate upgrade plan --canary worker-", offers: []string{"worker-1", "worker-2"}},
		{line: "talosmate service restart kubele", becomes: "talosmate service restart kubelet"},
		{line: "talosmate service info ", offers: []string{"apid", "etcd", "kubelet"}, never: []string{"decoy.yaml"}},
		{line: "talosmate service info dec", none: true},
		{line: "talosmate logs etc", becomes: "talosmate logs etcd"},
		{line: "talosmate get membe", becomes: "talosmate get members"},
		{line: "talosmate get members ", offers: []string{"cp-1", "worker-2"}},
		{line: "talosmate get members --namespace clus", becomes: "talosmate get members --namespace cluster"},
		{line: "talosmate image remove -n cp-1 ", offers: []string{"registry.k8s.io/"}, never: []string{"decoy.yaml"}},
		{line: "talosmate image list --namespace sys", becomes: "talosmate image list --namespace system"},
		{line: "talosmate etcd remove-member cp-", offers: []string{"cp-1", "cp-2", "cp-3"}},
		{line: "talosmate imager build nothing-lik", none: true},
		{line: "talosmate imager build is", becomes: "talosmate imager build iso"},
		{line: "talosmate node reboot --override TM12", offers: []string{"TM120", "TM121"}, never: []string{"TM123"}},
		{line: "talosmate version -o ", offers: []string{"table", "json", "yaml", "ndjson", "name", "jsonpath=", "custom-columns=", "go-template="}},
		{line: "talosmate version -o js", offers: []string{"json", "jsonpath="}},
		{line: "talosmate service list -o custom-columns=HEA", becomes: "talosmate service list -o custom-columns=HEALTH:.health"},
		{line: "talosmate service list --sort-by hea", becomes: "talosmate service list --sort-by health"},
		{line: "talosmate service list --sort-by=-hea", becomes: "talosmate service list --sort-by=-health"},
		{line: "talosmate health --progress ", offers: []string{"auto", "tty", "plain", "json", "none"}},
		{line: "talosmate node reset --system-labels STATE,EPH", becomes: "talosmate node reset --system-labels STATE,EPHEMERAL"},
		{line: "talosmate upgrade plan --to v1.1", offers: []string{"v1.14.1", "v1.13.9"}},
		{line: "talosmate dmesg --min-level war", becomes: "talosmate dmesg --min-level warning"},
		{line: "talosmate settings view upgrade.apply.max", becomes: "talosmate settings view upgrade.apply.max-parallel"},
		{line: "talosmate schema etcd mem", becomes: "talosmate schema etcd members"},
		{line: "talosmate health --only etcd-", offers: []string{"etcd-quorum"}},
		{line: "talosmate fs ls /etc/kub", becomes: "talosmate fs ls /etc/kubernetes/"},
		{line: "talosmate machineconfig apply -f dec", becomes: "talosmate machineconfig apply -f decoy.yaml"},
		{line: "talosmate upgrade apply dec", becomes: "talosmate upgrade apply decoy.yaml"},
		{line: "talosmate version --timeout dec", none: true},
	}
}

// completionShell is a shell that completes on a pseudo-terminal.
type completionShell struct {
	program string
	args    []string
	rc      string // Its start-up file, below its folder.
	text    string // What is in that file; two keys answer with the line, or with all candidates, between << and >>.
}

func completionShells(dir string) map[string]completionShell {
	return map[string]completionShell{
		"bash": {"bash", []string{"--rcfile", filepath.Join(dir, "bashrc"), "-i"}, "bashrc", `
PS1='$ '
. /usr/share/bash-completion/bash_completion
. <(talosmate completion bash)
show() { printf '<<%s>>\n' "$READLINE_LINE"; READLINE_LINE=; READLINE_POINT=0; }
bind 'set bell-style none' 'set enable-bracketed-paste off'
bind -x '"\C-xp": show'
bind '"\C-xb": insert-completions'
bind '"\C-xa": "\C-xb\C-xp"'
bind '"\C-xt": complete'
printf '<<ready>>\n'
`},
		"zsh": {"zsh", []string{"-i"}, ".zshrc", `
PS1='$ '
unsetopt prompt_sp
autoload -U compinit && compinit -u -D
. <(talosmate completion zsh)
show() { print -rn -- "<<$BUFFER>>"; BUFFER=; }
zle -N show
zstyle ':completion:all-matches:*' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true
zle -C all-matches complete-word _generic
bindkey '^Xp' show
bindkey '^Xb' all-matches
bindkey -s '^Xa' '^Xb^Xp'
bindkey '^Xt' complete-word
print -r -- '<<ready>>'
`},
		"fish": {"fish", []string{"-i"}, "fish/config.fish", `
function fish_prompt; echo '$ '; end
function fish_greeting; end
talosmate completion fish | source
function show; printf '<<%s>>' (commandline); commandline -r ''; end
function show_all; set -l all (complete -C (commandline) | string replace -r '\t.*' ''); printf '<<%s>>' "$all"; commandline -r ''; end
bind \cxp show
bind \cxa show_all
bind \cxt complete
printf '<<ready>>\n'
`},
	}
}

// TestCompletionInShells completes the cases in every shell, each on a pseudo-terminal of its own.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()

	f, dir := completionBed(t)

	for name, shell := range completionShells(dir) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			s := startShell(t, f, dir, shell)

			for _, c := range completionCases() {
				got := s.complete(c)
				c.check(t, got)
			}
		})
	}
}

// completionBed starts a cluster with a second context, an alias, and a folder with a file.
func completionBed(t *testing.T) (*fleet, string) {
	t.Helper()

	f := startLab(t)
	dir := t.TempDir()

	for path, text := range map[string]string{
		"work/decoy.yaml": "", "talosmate/config.yaml": "aliases: {mine-restart: service restart}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
			t.Fatal(err)
		}

		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	f.env = append(f.env, "HOME="+dir, "XDG_CONFIG_HOME="+dir, "ZDOTDIR="+dir, "PATH="+f.bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"TALOSMATE_COMPLETION_TIMEOUT=1m", "TERM=xterm", "LC_ALL=C.UTF-8", "SHELL=/bin/sh")
	addContext(t, filepath.Join(f.dir, "lab", "talosconfig"), "other")

	return f, dir
}

// addContext gives a talosconfig a second context for the same cluster.
func addContext(t *testing.T, path, name string) {
	t.Helper()

	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	var config struct {
		Context  string         `yaml:"context"`
		Contexts map[string]any `yaml:"contexts"`
	}

	if err = yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}

	config.Contexts[name] = config.Contexts[config.Context]

	if text, err = yaml.Marshal(config); err != nil {
		t.Fatal(err)
	}

	if err = os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// shell is a running shell.
type shell struct {
	t     *testing.T
	tty   *os.File
	shown bytes.Buffer
}

func startShell(t *testing.T, f *fleet, dir string, sh completionShell) *shell {
	t.Helper()

	rc := filepath.Join(dir, sh.rc)
	if err := os.MkdirAll(filepath.Dir(rc), 0o700); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(rc, []byte(sh.text), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := f.command(sh.program, sh.args...)
	cmd.Dir = filepath.Join(dir, "work")

	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 4000})
	if err != nil {
		t.Fatalf("cannot start %s: %v; hack/deps.sh installs it", sh.program, err)
	}

	deadline := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })

	t.Cleanup(func() {
		deadline.Stop()

		_ = cmd.Process.Kill()
		_ = tty.Close()
		_ = cmd.Wait()
	})

	s := &shell{t: t, tty: tty}
	s.answer("<<ready>>")

	return s
}

// complete types a line and the key that completes, and returns the line or the candidates.
func (s *shell) complete(c completionCase) string {
	key := "\x18a"
	if c.becomes != "" || c.none {
		key = "\x18t\x18p"
	}

	if _, err := io.WriteString(s.tty, c.line+key); err != nil {
		s.t.Fatal(err)
	}

	return s.answer("")
}

// answer reads up to the next text between << and >>, or to the wanted one.
func (s *shell) answer(want string) string {
	s.t.Helper()

	for {
		if _, after, ok := strings.Cut(s.shown.String(), "<<"); ok {
			if text, rest, ok := strings.Cut(after, ">>"); ok {
				s.shown.Reset()
				s.shown.WriteString(rest)

				if want == "" || want == "<<"+text+">>" {
					return text
				}

				continue
			}
		}

		chunk := make([]byte, 64<<10)

		n, err := s.tty.Read(chunk)
		s.shown.Write(chunk[:n])

		if err != nil {
			s.t.Fatalf("the shell ended: %v\n%q", err, s.shown.String())
		}
	}
}

// check compares what a shell made of a line. Shells quote differently, and the line itself is before the candidates where a
// shell inserts them.
func (c completionCase) check(t *testing.T, got string) {
	t.Helper()

	got = strings.TrimRight(strings.ReplaceAll(got, `\`, ""), " ")
	words := strings.Fields(got)

	for _, w := range words {
		if _, value, ok := strings.Cut(w, "--nodes="); ok {
			words = append(words, value) // a shell gives the flag with its value
		}
	}

	switch {
	case c.becomes != "" && got != c.becomes:
		t.Errorf("%q became %q, want %q", c.line, got, c.becomes)
	case c.none && got != "" && got != c.line:
		t.Errorf("%q has candidates: %q", c.line, got)
	}

	for _, want := range c.offers {
		if !slices.ContainsFunc(words, func(w string) bool { return w == want || strings.HasSuffix(want, "/") && strings.HasPrefix(w, want) }) {
			t.Errorf("%q does not offer %s: %q", c.line, want, got)
		}
	}

	for _, other := range c.never {
		if slices.Contains(words, other) {
			t.Errorf("%q offers %s: %q", c.line, other, got)
		}
	}
}

// powershell completes as completions/talosmate.ps1 does: PowerShell is in no package that this test could install. The
// script itself is not run.
func powershell(t *testing.T, f *fleet, dir string, c completionCase) string {
	t.Helper()

	words := strings.Split(c.line, " ")[1:]
	last := words[len(words)-1]
	word := last

	if flag, value, ok := strings.Cut(last, "="); ok && strings.HasPrefix(flag, "-") {
		word = value
	}

	cmd := f.talosmate(append([]string{"__complete"}, words...)...)
	cmd.Dir = filepath.Join(dir, "work")

	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", c.line, err)
	}

	lines := strings.Split(strings.TrimSpace(string(out)), "\n")

	var found []string

	for _, line := range lines[:len(lines)-1] {
		if name, _, _ := strings.Cut(line, "\t"); strings.HasPrefix(name, word) {
			found = append(found, name)
		}
	}

	if len(found) == 0 && lines[len(lines)-1] == ":0" {
		files, _ := filepath.Glob(filepath.Join(cmd.Dir, word+"*"))
		for _, file := range files {
			found = append(found, filepath.Base(file))
		}
	}

	if c.becomes != "" && len(found) == 1 {
		return strings.TrimSuffix(c.line, word) + found[0]
	}

	return strings.Join(found, " ")
}

// TestCompletionForPowerShell completes the cases as the script for PowerShell asks for them.
func TestCompletionForPowerShell(t *testing.T) {
	t.Parallel()

	f, dir := completionBed(t)

	script := f.output("completion", "powershell")
	for _, part := range []string{
		"Register-ArgumentCompleter -CommandName 'talosmate' -ScriptBlock ${__talosmateCompleterBlock}",
		`$RequestComp="$Program __complete $Arguments"`, "TALOSMATE_ACTIVE_HELP", "ShellCompDirectiveNoFileComp=4",
	} {
		if !strings.Contains(script, part) {
			t.Errorf("the script for PowerShell does not contain %s", part)
		}
	}

	for _, c := range completionCases() {
		c.check(t, powershell(t, f, dir, c))
	}
}

// TestCompletionOfADeadCluster completes names where no node answers: there are none, and no files either.
func TestCompletionOfADeadCluster(t *testing.T) {
	t.Parallel()

	f, dir := completionBed(t)
	for i := range f.env {
		if strings.HasPrefix(f.env[i], "TALOSMATE_COMPLETION_TIMEOUT=") {
			f.env[i] = "TALOSMATE_COMPLETION_TIMEOUT=300ms"
		}
	}

	for _, name := range []string{"cp-1", "cp-2", "cp-3", "worker-1", "worker-2"} {
		if out, err := exec.Command(filepath.Join(f.bin, "talosmate-lab"), "--dir", filepath.Join(f.dir, "lab"), "ctl", "power", name, "off").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}

	cmd := f.talosmate("__complete", "version", "-n", "")
	cmd.Dir = filepath.Join(dir, "work")

	if out, err := cmd.Output(); err != nil || string(out) != ":4\n" {
		t.Errorf("%v: %q", err, fmt.Sprint(string(out)))
	}
}
