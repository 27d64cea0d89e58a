package config

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/target"
)

// New is a talosconfig that was made.
type New struct {
	Path               string    `json:"path"`                // The file.
	Context            string    `json:"context"`             // The context in it.
	Endpoints          []string  `json:"endpoints"`           // Its endpoints, those of the context that asked.
	Roles              []string  `json:"roles"`               // The roles in its certificate.
	CertificateExpires time.Time `json:"certificate_expires"` // When its certificate expires.
	DryRun             bool      `json:"dry_run"`             // Whether nothing was made.
}

type newOptions struct {
	roles     []string
	ttl       time.Duration
	overwrite bool
	now       func() time.Time
}

func newCmdNew(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &newOptions{now: f.Now}

	return cmdutil.New(f, cmdutil.Command{
		Use: "new FILE", Short: "Make a talosconfig with a new client certificate",
		Long: "Have the cluster sign a client certificate and write a talosconfig with it: for when one is about to expire,\n" +
			"or for a job that should only read. Roles are sets, not a ladder. -n chooses the control plane that signs;\n" +
			"any endpoint does. FILE - writes to stdout.",
		Example: "  talosmate config new reader.talosconfig --roles os:reader --ttl 24h\n" +
			"  talosmate config new - --ttl 8760h | talosmate config merge - --rename",
		Spec: cmdutil.Spec{Kind: cmdutil.Change, Local: true, Roles: cmdutil.Admins()},
		Flags: func(fs *cmdutil.Flags) {
			fs.StringSliceVar(&o.roles, "roles", cmdutil.Admins(), "the certificate's roles")
			fs.Positive(&o.ttl, "ttl", 365*24*time.Hour, "how long the certificate is good")
			fs.BoolVar(&o.overwrite, "overwrite", false, "replace the file")
			fs.Words("roles", knownRoles()...)
		},
		Complete: cmdutil.CompleteFiles,
	}, cmdutil.ResultOf[New]("ConfigNew"), o.run)
}

func knownRoles() []string {
	return []string{cmdutil.RoleAdmin, cmdutil.RoleOperator, cmdutil.RoleReader, cmdutil.RoleEtcdBackup, "os:impersonator", "os:meta:writer"}
}

func (o *newOptions) validate(path string) error {
	for _, r := range o.roles {
		if !slices.Contains(knownRoles(), r) {
			return errs.Usagef("unknown role %q", r).WithHint("roles: %s", strings.Join(knownRoles(), ", "))
		}
	}

	if path == "-" || o.overwrite {
		return nil
	}

	if _, err := os.Lstat(path); err == nil {
		return errs.Usagef("%s is there already", path).WithHint("give --overwrite to replace it, or `config merge` it from another file")
	}

	return nil
}

func (o *newOptions) run(c *cmdutil.Call) error {
	path := c.Args[0]
	if path == "-" {
		c.RawOutput()
	}

	if err := o.validate(path); err != nil {
		return err
	}

	cluster, err := c.Cluster()
	if err != nil {
		return err
	}

	result := New{
		Path: path, Context: cluster.Context.Name, Endpoints: append([]string{}, cluster.Endpoints()...), Roles: o.roles,
		CertificateExpires: o.now().Add(o.ttl).UTC().Truncate(time.Second), DryRun: c.DryRun,
	}

	if len(o.roles) == 1 {
		result.Context = strings.TrimPrefix(o.roles[0], "os:") + "@" + result.Context
	}

	if !c.DryRun {
		if err = o.create(c, cluster, result); err != nil || path == "-" {
			return err
		}

		if abs, absErr := filepath.Abs(path); absErr == nil {
			result.Path = abs
		}
	}

	return cmdutil.PrintResult(c, result, nil, result.Context, func(w io.Writer, n New) error {
		verb := "has"
		if n.DryRun {
			verb = "would have"
		}

		_, err := fmt.Fprintf(w, "%s %s context %s with %s until %s\n", n.Path, verb, n.Context, strings.Join(n.Roles, ", "), output.Time(n.CertificateExpires))

		return err
	})
}

func (o *newOptions) create(c *cmdutil.Call, cluster *talos.Cluster, result New) error {
	node := cluster.Endpoint()

	if sel := c.Selection(); sel.Explicit() {
		targets, err := cluster.Targets(c.Context(), sel, target.DefaultNone)
		if err != nil {
			return err
		}

		node = cluster.Node(targets.Nodes[0])
	}

	ctx, cancel := context.WithTimeout(c.Context(), cluster.Idle())
	defer cancel()

	made, err := node.GenerateClientConfig(ctx, o.roles, o.ttl)
	if err != nil {
		return err
	}

	file, err := talosconfig.Parse(nil)
	if err != nil {
		return err
	}

	file.Path = result.Path

	if err = file.Add(result.Context, talosconfig.Context{
		Endpoints: result.Endpoints, Cluster: cluster.Context.Cluster, CA: made.CA, Crt: made.Crt, Key: made.Key,
	}); err != nil {
		return err
	}

	if err = file.Use(result.Context); err != nil {
		return err
	}

	if result.Path == "-" {
		text, err := file.Bytes()
		if err == nil {
			_, err = c.IO.Out.Write(text)
		}

		return err
	}

	_, err = file.Save(false)

	return err
}
