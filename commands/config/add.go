package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/ops/talosconfig"
)

type addOptions struct {
	ca, crt, key, cluster string
}

func newCmdAdd(f *cmdutil.Factory) *cmdutil.Cmd {
	o := &addOptions{}

	return newEdit(f, cmdutil.Command{
		Use: "add NAME", Short: "Add a context to the talosconfig",
		Long: "Add a context made of PEM files, with --endpoints and --nodes as its addresses. The first context of a file\n" +
			"becomes the current one.",
		Example: "  talosmate config add prod --ca ca.crt --crt admin.crt --key admin.key --endpoints 10.0.0.11,10.0.0.12\n" +
			"  talosmate config add test --ca ca.crt --crt admin.crt --key admin.key -e 10.1.0.11 --talosconfig ./talosconfig",
		Flags: func(flags *cmdutil.Flags) {
			flags.StringVar(&o.ca, "ca", "", "the cluster's CA certificate, a PEM `file`")
			flags.StringVar(&o.crt, "crt", "", "the client certificate, a PEM `file`")
			flags.StringVar(&o.key, "key", "", "the client key, a PEM `file`")
			flags.StringVar(&o.cluster, "cluster", "", "the cluster's `name`")
		},
	}, edit{Apply: o.apply})
}

func (o *addOptions) apply(c *cmdutil.Call, file *talosconfig.File) (Edit, error) {
	ctx := talosconfig.Context{Cluster: o.cluster}
	ctx.Endpoints, _ = c.Cmd.Flags().GetStringSlice("endpoints")
	ctx.Nodes, _ = c.Cmd.Flags().GetStringSlice("nodes")
	result := Edit{Context: c.Args[0], Action: "added", Values: ctx.Endpoints}

	pem := map[string][]byte{}

	for _, f := range []struct {
		flag, path string
		into       *string
	}{{"ca", o.ca, &ctx.CA}, {"crt", o.crt, &ctx.Crt}, {"key", o.key, &ctx.Key}} {
		if f.path == "" {
			return result, errs.Usagef("--%s is missing", f.flag).WithHint("%s", c.Again("--"+f.flag, "FILE"))
		}

		raw, err := c.Input(f.path, "--"+f.flag)
		if err != nil {
			return result, err
		}

		pem[f.flag], *f.into = raw, base64.StdEncoding.EncodeToString(raw)
	}

	if _, err := tls.X509KeyPair(pem["crt"], pem["key"]); err != nil {
		return result, errs.Usagef("--crt and --key do not go together: %w", err)
	}

	if !x509.NewCertPool().AppendCertsFromPEM(pem["ca"]) {
		return result, errs.Usagef("--ca holds no PEM certificate")
	}

	if err := file.Add(c.Args[0], ctx); err != nil {
		return result, err
	}

	if file.Current() == "" {
		return result, file.Use(c.Args[0])
	}

	return result, nil
}
