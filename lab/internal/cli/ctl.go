package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/lab/internal/control"
)

// ctl makes the commands that use the control endpoint.
type ctl struct {
	*streams

	dir *string
}

func newCtl(s *streams, dir *string) *cobra.Command {
	c := &ctl{streams: s, dir: dir}

	root := &cobra.Command{Use: "ctl", Short: "Inspect the running cluster and break it on purpose (JSON on stdout)"}
	root.AddCommand(
		c.simple("nodes", "List the nodes", "nodes"),
		c.optionalNode("state [NODE]", "Show everything about one node or all nodes", "state"),
		c.optionalNode("timeline [NODE]", "Show the events of a node or of the cluster", "timeline"),
		c.requests(),
		c.verb("power NODE on|off", "Switch a node on or off", "power", "state"),
		c.verb("hang NODE on|off", "Make a node accept connections and never answer", "hang", "state"),
		c.fault(),
		c.clear(),
		c.verb("service NODE ID fail|ok|stop", "Make a service unhealthy, healthy, or stop it", "service", "id", "state"),
		c.wait(),
		c.etcd(),
		c.image(),
		c.log(),
		c.file(),
		c.verb("kernel NODE FACILITY PRIORITY TEXT", "Add a kernel message", "kernel", "facility", "priority", "line"),
		c.global("kubernetes-outage DURATION refuse|hang", "Make the Kubernetes API server unavailable for a while", "kubernetes-outage", "duration", "mode"),
		c.verb("config NODE", "Show a node's machine configuration", "config"),
	)

	return root
}

func (c *ctl) send(cmd *cobra.Command, req control.Request) error {
	d, err := running(*c.dir)
	if err != nil {
		return err
	}

	raw, err := call(cmd.Context(), d.Control, req)
	if err != nil {
		return err
	}

	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return err
	}

	_, err = c.out.Write(out.Bytes())

	return err
}

func (c *ctl) simple(use, short, verb string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return c.send(cmd, control.Request{Verb: verb})
	}}
}

func (c *ctl) optionalNode(use, short, verb string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.send(cmd, control.Request{Verb: verb, Node: strings.Join(args, "")})
	}}
}

// verb makes a command whose first argument is the node and whose others are parameters by name.
func (c *ctl) verb(use, short, verb string, params ...string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1 + len(params)), RunE: func(cmd *cobra.Command, args []string) error {
		return c.send(cmd, control.Request{Verb: verb, Node: args[0], Params: named(params, args[1:])})
	}}
}

// global makes a command without a node.
func (c *ctl) global(use, short, verb string, params ...string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(len(params)), RunE: func(cmd *cobra.Command, args []string) error {
		return c.send(cmd, control.Request{Verb: verb, Params: named(params, args)})
	}}
}

func named(names, values []string) map[string]string {
	out := map[string]string{}
	for i, name := range names {
		out[name] = values[i]
	}

	return out
}

func (c *ctl) requests() *cobra.Command {
	var (
		method string
		reset  bool
	)

	cmd := &cobra.Command{Use: "requests [NODE]", Short: "Count the requests per node and method", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.send(cmd, control.Request{Verb: "requests", Node: strings.Join(args, ""), Params: map[string]string{
			"method": method, "reset": strconv.FormatBool(reset),
		}})
	}}
	cmd.Flags().StringVar(&method, "method", "", "only this method (Reboot or machine.MachineService/Reboot)")
	cmd.Flags().BoolVar(&reset, "reset", false, "reset the counters afterwards")

	return cmd
}

func (c *ctl) fault() *cobra.Command {
	return &cobra.Command{
		Use:   "fault NODE NAME[=VALUE]...",
		Short: "Arm faults on a node",
		Long: `Arm faults on a node:
  latency=DUR loss=P install-exit-code=N boot-old-slot never-return
  return-without-kubernetes lose-extensions
  drop-answer=METHOD[:SKIP] drop-request=METHOD[:SKIP]
  hold-request=METHOD[:SKIP] hold-answer=METHOD[:SKIP] cut-stream=METHOD:BYTES fail-rpc=METHOD:CODE:MESSAGE[:COUNT]
  pull-error=TEXT pull-slow=DUR disk-full registry-status=N
  event-stream-dead[=end|hang] clock-skew=DUR slow-boot=DUR
  leave-fails cordon-fails teardown-stuck cold-boot-fails platform-config
  bootloader=grub|systemd-boot
  defrag-kills stays-learner discovery=off|alone|missing:NAME[,NAME]`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, spec := range args[1:] {
				if err := c.send(cmd, control.Request{Verb: "fault", Node: args[0], Params: map[string]string{"spec": spec}}); err != nil {
					return err
				}
			}

			return nil
		},
	}
}

func (c *ctl) clear() *cobra.Command {
	return &cobra.Command{Use: "clear NODE [NAME]", Short: "Disarm a node's faults", Args: cobra.RangeArgs(1, 2), RunE: func(cmd *cobra.Command, args []string) error {
		return c.send(cmd, control.Request{Verb: "clear", Node: args[0], Params: map[string]string{"name": strings.Join(args[1:], "")}})
	}}
}

func (c *ctl) wait() *cobra.Command {
	var timeout string

	cmd := &cobra.Command{Use: "wait NODE", Short: "Wait until a node is running and ready", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.send(cmd, control.Request{Verb: "wait", Node: args[0], Params: map[string]string{"timeout": timeout}})
	}}
	cmd.Flags().StringVar(&timeout, "timeout", "30s", "how long to wait")

	return cmd
}

func (c *ctl) etcd() *cobra.Command {
	root := &cobra.Command{Use: "etcd", Short: "Inspect and disturb etcd"}

	var (
		overwrite, del bool
		objects        int
	)

	fill := c.global("fill BYTES", "Write this many bytes of keys", "etcd-fill", "bytes")
	fill.Flags().BoolVar(&overwrite, "overwrite", false, "overwrite one key repeatedly")
	fill.Flags().IntVar(&objects, "objects", 0, "write them as this many Kubernetes objects")
	fill.RunE = func(cmd *cobra.Command, args []string) error {
		return c.send(cmd, control.Request{Verb: "etcd-fill", Params: map[string]string{"bytes": args[0], "overwrite": strconv.FormatBool(overwrite), "objects": strconv.Itoa(objects)}})
	}

	compact := c.global("compact", "Compact to the current revision", "etcd-compact")
	compact.Flags().BoolVar(&del, "delete", false, "delete what fill wrote first")
	compact.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.send(cmd, control.Request{Verb: "etcd-compact", Params: map[string]string{"delete": strconv.FormatBool(del)}})
	}

	root.AddCommand(
		c.verb("alarm NODE NOSPACE|CORRUPT|none", "Raise an alarm on a member, or disarm all", "etcd-alarm", "alarm"),
		c.verb("move-leader NODE", "Make a node's member the leader", "etcd-move-leader"),
		c.verb("unhealthy NODE on|off", "Stop a node's member, or start it again", "etcd-unhealthy", "state"),
		c.verb("member-list-skew NODE on|off", "Make a node's own member list differ", "etcd-skew", "state"),
		c.global("leader", "Show the leader", "etcd-leader"),
		fill,
		compact,
		c.global("put KEY VALUE", "Write a key", "etcd-put", "key", "value"),
		c.global("get KEY", "Read a key", "etcd-get", "key"),
		c.verb("dump NODE", "Show every key of a node's member", "etcd-dump"),
		c.inspect(),
	)

	return root
}

func (c *ctl) inspect() *cobra.Command {
	return &cobra.Command{Use: "inspect FILE", Short: "Show what etcdutl reports about a snapshot file", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		path, err := filepath.Abs(args[0])
		if err != nil {
			return err
		}

		return c.send(cmd, control.Request{Verb: "etcd-inspect", Params: map[string]string{"path": path}})
	}}
}

func (c *ctl) image() *cobra.Command {
	root := &cobra.Command{Use: "image", Short: "Inspect and change a node's images"}

	var (
		namespace, age, inUse string
		size                  int64
		pinned                bool
	)

	add := &cobra.Command{Use: "add NODE REF", Short: "Add an image under all its names", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		params := map[string]string{"ref": args[1], "namespace": namespace, "age": age, "in_use": inUse, "pinned": strconv.FormatBool(pinned)}
		if size > 0 {
			params["size"] = strconv.FormatInt(size, 10)
		}

		return c.send(cmd, control.Request{Verb: "image-add", Node: args[0], Params: params})
	}}
	add.Flags().StringVar(&namespace, "namespace", "cri", "cri or system")
	add.Flags().Int64Var(&size, "size", 0, "size in bytes (by name)")
	add.Flags().StringVar(&age, "age", "", "how long ago it was pulled")
	add.Flags().BoolVar(&pinned, "pinned", false, "pin it")
	add.Flags().StringVar(&inUse, "in-use", "", "run a container from it, named by tag, digest, id (bare manifest digest) or config (image ID)")

	var listNamespace string

	list := &cobra.Command{Use: "list NODE", Short: "List a node's images", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.send(cmd, control.Request{Verb: "image-list", Node: args[0], Params: map[string]string{"namespace": listNamespace}})
	}}
	list.Flags().StringVar(&listNamespace, "namespace", "cri", "cri, system or inmem")

	root.AddCommand(add, list, c.verb("gc NODE AFTER", "Run the image garbage collection as if this time had passed", "image-gc", "after"))

	return root
}

func (c *ctl) log() *cobra.Command {
	var (
		lines, size int64
		line        string
	)

	cmd := &cobra.Command{Use: "log NODE SERVICE", Short: "Append to a log", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		params := map[string]string{"service": args[1], "lines": strconv.FormatInt(lines, 10), "bytes": strconv.FormatInt(size, 10)}
		if cmd.Flags().Changed("line") {
			params["line"] = line
		}

		return c.send(cmd, control.Request{Verb: "log", Node: args[0], Params: params})
	}}
	cmd.Flags().Int64Var(&lines, "lines", 0, "generate this many lines")
	cmd.Flags().Int64Var(&size, "bytes", 0, "generate this many bytes of lines")
	cmd.Flags().StringVar(&line, "line", "", "append this line")

	return cmd
}

func (c *ctl) file() *cobra.Command {
	var (
		size    int64
		content string
	)

	cmd := &cobra.Command{Use: "file NODE PATH", Short: "Put a file on a node", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		params := map[string]string{"path": args[1], "size": strconv.FormatInt(size, 10)}
		if cmd.Flags().Changed("content") {
			params["content"] = content
		}

		return c.send(cmd, control.Request{Verb: "file", Node: args[0], Params: params})
	}}
	cmd.Flags().Int64Var(&size, "size", 0, "generate this many bytes; -1 for a file that is listed and cannot be opened")
	cmd.Flags().StringVar(&content, "content", "", "the file's content")

	return cmd
}
