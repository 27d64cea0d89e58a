package test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v4"
	batchv1 "k8s.io/api/batch/v1"
	kubeyaml "sigs.k8s.io/yaml"
)

// dockerStub runs what `docker run` would: the image's program with the rest of the command line, in the working directory, and
// with no variables but those that are passed in.
const dockerStub = `#!/bin/bash
set -euo pipefail
[ "$1" = run ]; shift
pass=(PATH="$PATH" HOME="$PWD/home" GORACE="${GORACE:-}")
while [[ $1 == --* ]]; do
  case $1 in
  --rm) shift ;;
  --user | --workdir) shift 2 ;;
  --volume) [ "$2" = "$PWD:/work" ]; shift 2 ;;
  --env) case $2 in *=*) pass+=("$2") ;; *) pass+=("$2=${!2}") ;; esac; shift 2 ;;
  *) echo "docker: unknown flag $1" >&2; exit 125 ;;
  esac
done
case $1 in ghcr.io/talosmate/talosmate:*) shift ;; *) echo "docker: another image: $1" >&2; exit 125 ;; esac
case "${1-} ${2-}" in 'upgrade plan' | 'upgrade apply') set -- "$@" --check-images=false ;; esac # no registry here
exec env -i "${pass[@]}" talosmate "$@"
`

// ageStub stands for the encryption.
const ageStub = `#!/bin/sh
test "$1" = --recipient && test "$2" = age1recipient && test "$3" = --output && cp "$5" "$4"
`

type workflow struct {
	Env  map[string]string
	Jobs map[string]struct {
		Needs string
		Env   map[string]string
		Steps []struct {
			Name, Run string
			Env       map[string]string
		}
	}
}

// TestExamples runs the steps of the examples of CI against a cluster, in the order in which CI runs them. Their artifacts are in
// one folder.
func TestExamples(t *testing.T) {
	t.Parallel()

	f := startLab(t, "--talos-version", "v1.14.0", "--workers", "1", "--preset", "factory")
	f.path(f.bin)

	stubs := t.TempDir()
	for name, text := range map[string]string{"docker": dockerStub, "age": ageStub} {
		if err := os.WriteFile(filepath.Join(stubs, name), []byte(text), 0o700); err != nil { //nolint:gosec // G306: programs
			t.Fatal(err)
		}
	}

	f.path(stubs)

	secret := func(talosconfig string) string {
		raw, err := os.ReadFile(filepath.Join(f.dir, "lab", talosconfig))
		if err != nil {
			t.Fatal(err)
		}

		return base64.StdEncoding.EncodeToString(raw)
	}
	backup, reader, admin := secret("talosconfig-etcd-backup"), secret("talosconfig-reader"), secret("talosconfig")

	// What the repository of the user has.
	f.output("--talosconfig", filepath.Join(f.dir, "lab", "talosconfig-reader"), "state", "save", "cluster.json")

	f.workflow("snapshot.yaml", backup, 0)
	f.exists("etcd.db.age", "snapshot.json")
	f.workflow("drift.yaml", reader, 0)
	f.gitlab("snapshot", backup, 0)
	f.gitlab("drift", reader, 0)

	f.cronJob(filepath.Join(stubs, "docker"), "snapshot.yaml", backup)
	f.cronJob(filepath.Join(stubs, "docker"), "drift.yaml", reader)

	// Something changes, and each drift check sees it.
	f.ctl("service", "worker-1", "kubelet", "fail")

	annotations := f.workflow("drift.yaml", reader, 3)
	if !regexp.MustCompile(`(?m)^::error title=kubelet worker-1::the kubelet is`).MatchString(annotations) {
		t.Errorf("no annotation of the service in\n%s", annotations)
	}

	f.gitlab("drift", reader, 3)
	f.ctl("service", "worker-1", "kubelet", "ok")

	// An upgrade by a plan, then another one by the other system with nothing left to do.
	f.workflow("upgrade.yaml", admin, 0)
	f.exists("report.md", "report.svg", "audit.log")

	if got := f.output("version", "-A", "--query", `[.items[].tag] | unique | join(" ")`); got != "v1.14.1\n" {
		t.Errorf("after the upgrade the nodes run %s", got)
	}

	for _, job := range []string{"plan", "apply"} {
		f.gitlab(job, admin, 0)
	}
}

func (f *fleet) exists(names ...string) {
	f.t.Helper()

	for _, name := range names {
		if _, err := os.Stat(filepath.Join(f.dir, name)); err != nil {
			f.t.Error(err)
		}
	}
}

// workflow runs the steps of a workflow of GitHub, and returns what they print. code is the exit code of the last one.
func (f *fleet) workflow(file, talosconfig string, code int) string {
	f.t.Helper()

	var w workflow
	if err := yaml.Unmarshal(repository(f.t, "docs/examples/github/"+file), &w); err != nil {
		f.t.Fatal(err)
	}

	known := map[string]string{"secrets.TALOSCONFIG": talosconfig, "secrets.AGE_RECIPIENT": "age1recipient", "inputs.version": "v1.14.1"}
	expression := regexp.MustCompile(`\$\{\{ *(.*?) *\}\}`)

	var jobs []string
	for name := range w.Jobs {
		jobs = append(jobs, name)
	}

	slices.SortFunc(jobs, func(a, b string) int { // of two, the one that needs the other is the second
		if w.Jobs[a].Needs == b {
			return 1
		}

		return -1
	})

	var printed strings.Builder

	for _, name := range jobs {
		for _, step := range w.Jobs[name].Steps {
			if step.Run == "" {
				continue
			}

			env := []string{"GITHUB_STEP_SUMMARY=" + filepath.Join(f.dir, "summary.md")}

			for _, level := range []map[string]string{w.Env, w.Jobs[name].Env, step.Env} {
				for key, value := range level {
					env = append(env, key+"="+expression.ReplaceAllStringFunc(value, func(e string) string {
						value, ok := known[expression.FindStringSubmatch(e)[1]]
						if !ok {
							f.t.Errorf("%s: %s is not known here", file, e)
						}

						return value
					}))
				}
			}

			if expression.MatchString(step.Run) {
				f.t.Errorf("%s: an expression in a script can inject commands: %s", file, step.Run)
			}

			printed.WriteString(f.step(file+": "+step.Name, env, step.Run, code))
		}
	}

	return printed.String()
}

// step runs one script of CI, as the shell that CI uses. One of code 3 may also be fine: not every step finds the change.
func (f *fleet) step(name string, env []string, script string, code int) string {
	f.t.Helper()

	cmd := f.command("bash", "-eo", "pipefail", "-c", script)
	cmd.Env = append(slices.DeleteFunc(slices.Clone(f.env), func(e string) bool { return strings.HasPrefix(e, "TALOSCONFIG=") }), env...)

	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code && (code != 3 || got != 0) {
		f.t.Errorf("%s: exit code %d, want %d: %v\n%s", name, got, code, err, out)
	}

	return string(out)
}

// gitlab runs the script of one job.
func (f *fleet) gitlab(job, talosconfig string, code int) {
	f.t.Helper()

	var file map[string]struct{ Script []string }

	raw := repository(f.t, "docs/examples/gitlab/gitlab-ci.yml")

	var all map[string]any
	if err := yaml.Unmarshal(raw, &all); err != nil {
		f.t.Fatal(err)
	}

	delete(all, "stages")
	delete(all, "variables")
	delete(all, "default")

	jobs, err := yaml.Marshal(all)
	if err != nil {
		f.t.Fatal(err)
	}

	if err = yaml.Unmarshal(jobs, &file); err != nil {
		f.t.Fatal(err)
	}

	if len(file[job].Script) == 0 {
		f.t.Fatalf("no job %s", job)
	}

	env := []string{"TALOSMATE_TALOSCONFIG_BASE64=" + talosconfig, "IMAGE=ghcr.io/talosmate/talosmate:latest", "TO=v1.14.1"}
	f.step("gitlab: "+job, env, strings.Join(file[job].Script, "\n"), code)
}

// cronJob reads the manifests of a file, and runs the container of the job.
func (f *fleet) cronJob(docker, file, talosconfig string) {
	f.t.Helper()

	ran := 0

	for _, document := range strings.Split(string(repository(f.t, "docs/examples/kubernetes/"+file)), "\n---\n") {
		if !strings.Contains(document, "kind: CronJob") {
			continue
		}

		var job batchv1.CronJob
		if err := kubeyaml.UnmarshalStrict([]byte(document), &job); err != nil {
			f.t.Fatalf("%s: %v", file, err)
		}

		pod := job.Spec.JobTemplate.Spec.Template.Spec
		container := pod.Containers[0]
		dir := f.t.TempDir()

		args := append([]string{"run", "--rm"}, "--env", "TALOSMATE_TALOSCONFIG_BASE64="+talosconfig)
		for _, e := range container.Env {
			args = append(args, "--env", e.Name+"="+e.Value)
		}

		args = append(args, container.Image)
		for _, a := range container.Args {
			args = append(args, strings.ReplaceAll(a, "/snapshots/", dir+"/"))
		}

		cmd := f.command(docker, args...)

		out, err := cmd.CombinedOutput()
		if err != nil {
			f.t.Errorf("%s: %v\n%s", file, err, out)
		}

		var doc struct{ Schema string }
		if err := json.Unmarshal(out[max(0, strings.Index(string(out), "{")):], &doc); err != nil || doc.Schema == "" {
			f.t.Errorf("%s: no document: %v\n%s", file, err, out)
		}

		ran++
	}

	if ran != 1 {
		f.t.Errorf("%s: %d jobs", file, ran)
	}
}

// TestWorkflows checks the workflows of the examples and our own as GitHub would: keys, expressions, contexts, cron lines, actions' inputs.
func TestWorkflows(t *testing.T) {
	t.Parallel()

	files, err := filepath.Glob("../docs/examples/github/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files: %v", len(files), err)
	}

	files = append(files, "../.github/workflows/release.yml")

	var out strings.Builder

	linter, err := actionlint.NewLinter(&out, &actionlint.LinterOptions{Shellcheck: "", Pyflakes: ""})
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		found, err := linter.Lint(file, raw, nil)
		if err != nil {
			t.Fatal(err)
		}

		for _, e := range found {
			t.Error(e)
		}

		if !strings.Contains(string(raw), "permissions:") {
			t.Errorf("%s: no permissions: the token has all of them", file)
		}
	}
}
