package about

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/config"
)

// NewTopics makes the help topics: commands that only have a help text, as `go help` has them.
func NewTopics() []*cmdutil.Cmd {
	return []*cmdutil.Cmd{
		topic("exit-codes", "The exit codes and what they mean", exitCodes),
		topic("gates", "The safety gates and how to pass them", gates),
		options(),
		topic("output", "Formats, the document, queries", outputTopic),
		topic("environment", "Environment variables and files", environment),
	}
}

// topic is a help topic: cobra shows a command that cannot run as one.
func topic(name, short string, text func(io.Writer)) *cmdutil.Cmd {
	cmd := &cobra.Command{Use: name, Short: short}
	cmd.SetHelpFunc(func(cmd *cmdutil.Cmd, _ []string) { text(cmd.OutOrStdout()) })

	return cmd
}

// options shows the flags that every command has, as kubectl's command of that name does.
func options() *cmdutil.Cmd {
	cmd := &cobra.Command{Use: "options", Short: "The flags that every command has"}
	cmd.SetHelpFunc(func(cmd *cmdutil.Cmd, _ []string) {
		fmt.Fprint(cmd.OutOrStdout(), "These flags work with every command:\n\n"+cmd.InheritedFlags().FlagUsages())
	})

	return cmd
}

func exitCodes(w io.Writer) {
	fmt.Fprint(w, "The exit code is the same in every output format.\n\n")

	_ = output.WriteTable(w, []output.Column[errs.CodeInfo]{
		{Header: "CODE", Value: func(c errs.CodeInfo) string { return fmt.Sprint(int(c.Code)) }},
		{Header: "NAME", Value: func(c errs.CodeInfo) string { return c.Name }},
		{Header: "MEANING", Value: func(c errs.CodeInfo) string { return c.Meaning }},
	}, errs.Codes()) // a failure to write help is not reported

	fmt.Fprint(w, "\nSeveral nodes: some good and some bad is 4; all bad for one cause is that cause's code; all bad for\n"+
		"several causes is the first of 7, 9, 8, 1, 6, 5. A question (health, etcd status, assert, diff) with a node\n"+
		"missing is 3. 130 wins over all.\n\n"+
		"2 with a stack trace and no document is a crash that Go itself ends and the program cannot catch. If it was\n"+
		"changing something, the audit log shows the change as begun, without its end: read the state back.\n")
}

func gates(w io.Writer) {
	fmt.Fprint(w, "A safety gate runs before a change and refuses it with exit code 5. --override CODE passes a gate on\n"+
		"purpose (repeatable); it is recorded in the result and in the audit log. There is no blanket --force.\n\n")

	_ = output.WriteTable(w, []output.Column[gate.Info]{
		{Header: "GATE", Value: func(g gate.Info) string { return string(g.Code) }},
		{Header: "OVERRIDE", Value: func(g gate.Info) string { return output.YesNo(g.Overridable) }},
		{Header: "REFUSES WHEN", Value: func(g gate.Info) string { return g.Title }},
	}, gate.All()) // see exitCodes
}

func outputTopic(w io.Writer) {
	fmt.Fprint(w, `-o table|wide|json|yaml|ndjson|name; table is the default, on a terminal and in a pipe.

json and yaml are one document:

  {"schema": "talosmate/v1/EtcdStatusList", "context": "prod", "generated_at": "…",
   "selection": {"source": "flags", "nodes": ["10.0.0.11"]},
   "items": [{"node": "10.0.0.11", "hostname": "cp-1", …}],
   "errors": [{"node": "10.0.0.13", "code": "unreachable", "message": "…", "hint": "…", "retryable": true}]}

A single result has "result" in place of "items". A failure still prints a valid document, with "errors".
ndjson is one object a line with a "type": item, error, event or summary; the first line names the schema. A row's
own field "type" is called "item_type" there.

-o jsonpath=EXPR, go-template=EXPR and custom-columns=HEADER:.field,… work over the document as in kubectl; with
-file behind the name (jsonpath-file=PATH) the expression is in a file.

--query EXPR evaluates a yq expression over the document (and implies -o json). A scalar prints raw. The
expression reads neither files nor the environment:

  talosmate service list --query '.items[] | select(.health != "healthy") | .id'

--sort-by FIELD sorts rows by a field of the document, -FIELD descending; --no-headers omits the table's
header. `+"`talosmate schema COMMAND`"+` prints a document's JSON Schema.
`)
}

func environment(w io.Writer) {
	fmt.Fprintf(w, `The talosconfig is looked for in this order:
  --talosconfig FILE (- reads stdin)
  $TALOSCONFIG
  $%s (a whole talosconfig, for CI secrets)
  a file named talosconfig in the working directory or above, up to the folder that holds .git
  $TALOS_HOME/config or ~/.talos/config
  the service account's path in a pod

Every flag that `+"`talosmate options`"+` lists is a variable too: TALOSMATE_ and its name in capitals with _ for -, such as
TALOSMATE_OUTPUT and TALOSMATE_READ_ONLY. Those of one command begin with the command: TALOSMATE_LOGS_TAIL. Every variable is
a key of the configuration file as well, with few exceptions: see `+"`talosmate help settings`"+`.
`, config.EnvBase64)

	fmt.Fprint(w, "\nNO_COLOR, CLICOLOR_FORCE=0 and TERM=dumb switch colour off. KUBECONFIG is honoured.\n")
	fmt.Fprintf(w, "$%s sets how long completion may ask the cluster (2s).\n", cmdutil.EnvCompletionTimeout)
	fmt.Fprint(w, "\nThe audit log is a regular file that not every user may write. A change adds two JSON lines with one id: begun,\n"+
		"before anything is sent, and ended, with the exit code. A dry run, and a change that was refused before it began,\n"+
		"add the second only. Without the log nothing is sent (exit code 2).\n")
}
