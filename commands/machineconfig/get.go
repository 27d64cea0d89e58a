package machineconfig

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// Config is a node's machine configuration.
type Config struct {
	talos.NodeRef

	MachineType string     `json:"machine_type"` // controlplane, worker or init, as the configuration says.
	Documents   []Document `json:"documents"`    // Its documents, in the node's order.
	Redacted    bool       `json:"redacted"`     // Whether secrets are replaced.

	text []byte
}

// Document is one document of a machine configuration.
type Document struct {
	Kind    string         `json:"kind"`           // v1alpha1 for the main document, else its kind.
	Name    string         `json:"name,omitempty"` // Its name, where it has one.
	Content map[string]any `json:"content"`        // The document with Talos's own names.
}

type getOptions struct {
	showSecrets bool
}

func newCmdGet(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &getOptions{}

	return cmdutil.New(f, cmdutil.Command{
		Use: "get", Short: "Show the machine configuration of nodes",
		Long: "Show the active machine configuration as the node holds it: YAML, document by document. Keys, tokens and\n" +
			"other secrets are redacted unless --show-secrets is given, which gives the node's bytes unchanged.",
		Example: "  talosmate machineconfig get -n cp-1\n" +
			"  talosmate mc get -A -o json --query '.items[] | [.hostname, .documents[0].content.machine.install.image]'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.Admins(), Default: target.DefaultMembers},
		Flags: func(fs *cmdutil.Flags) {
			fs.BoolVar(&o.showSecrets, "show-secrets", false, "show secrets")
		},
	}, cmdutil.ListOf[Config]("MachineConfigList"), o.run)
}

func (o *getOptions) run(c *cmdutil.Call) error {
	raw := c.RawOutput()

	rows, err := cmdutil.FetchRows(c, func(ctx context.Context, n *talos.Node) ([]Config, error) {
		row, err := o.fetch(ctx, n)

		return []Config{row}, err
	})

	if raw && len(rows) > 0 {
		return errors.Join(err, writeYAML(c.IO.Out, rows))
	}

	return cmdutil.PrintList(c, rows, err, []output.Column[Config]{}, Config.NodeName)
}

func (o *getOptions) fetch(ctx context.Context, n *talos.Node) (Config, error) {
	text, cfg, err := read(ctx, n)
	if err != nil {
		return Config{}, err
	}

	out := Config{MachineType: cfg.Type(), Documents: []Document{}, Redacted: !o.showSecrets, text: text}

	if !o.showSecrets {
		cfg.Redact()

		if out.text, err = cfg.YAML(); err != nil {
			return out, n.Blame("show the machine configuration", err)
		}
	}

	for _, d := range cfg.Documents {
		content, err := d.Value()
		if err != nil {
			return out, n.Blame("show the machine configuration", err)
		}

		out.Documents = append(out.Documents, Document{Kind: d.Kind, Name: d.Name, Content: content})
	}

	return out, nil
}

// read fetches a node's configuration and takes it apart. What is wrong in it is the node's, not ours.
func read(ctx context.Context, n *talos.Node) ([]byte, machineconfig.Config, error) {
	text, err := n.MachineConfig(ctx)
	if err != nil {
		return nil, machineconfig.Config{}, err
	}

	cfg, err := machineconfig.Parse(text)
	if err != nil {
		err = n.Blame("read the machine configuration", errors.New(err.Error()))
	}

	return text, cfg, err
}

// writeYAML writes configurations as YAML: one node's as it is, several with the node before each.
func writeYAML(w io.Writer, rows []Config) error {
	for i, r := range rows {
		text := string(r.text)
		if len(rows) > 1 {
			text = fmt.Sprintf("# node: %s (%s)\n%s", output.Line(r.NodeName()), r.Node, text)
		}

		if i > 0 {
			text = "---\n" + text
		}

		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}

	return nil
}
