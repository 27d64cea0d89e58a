package config

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos/config"
)

// Info is what is known of the talosconfig without asking a cluster.
type Info struct {
	CurrentContext string    `json:"current_context"` // The context that commands use.
	ConfigPath     string    `json:"config_path"`     // The file; empty when it came from stdin or the environment.
	Source         string    `json:"source"`          // The rule that found it: flag, stdin, env, env-base64, project, home or serviceaccount.
	Contexts       []Context `json:"contexts"`        // Every context, by name.
}

// Context is one context of the talosconfig.
type Context struct {
	Name               string     `json:"name"`                          // The context's name.
	Current            bool       `json:"current"`                       // Whether commands use it.
	Endpoints          []string   `json:"endpoints"`                     // The addresses that calls go through.
	Nodes              []string   `json:"nodes"`                         // The nodes that reads ask by default.
	Cluster            string     `json:"cluster"`                       // The cluster's name, where recorded.
	Roles              []string   `json:"roles"`                         // The roles in the client certificate.
	CertificateExpires *time.Time `json:"certificate_expires,omitempty"` // When the client certificate expires.
	ExpiresInSeconds   *int64     `json:"expires_in_seconds,omitempty"`  // How long it is still good; negative when it has expired.
	Fingerprint        string     `json:"fingerprint,omitempty"`         // SHA-256 of the client certificate.
	Identity           string     `json:"identity,omitempty"`            // Who signs the requests to Omni; empty with a certificate.
	ProxyURL           string     `json:"proxy_url,omitempty"`           // The proxy that connections go through, without its password.
	Problem            string     `json:"problem,omitempty"`             // Why the context cannot be used.
}

func newCmdInfo(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "info", Short: "Show the talosconfig in use and what its contexts hold",
		Long: "Show which talosconfig is used, why, and what its contexts hold. Nothing is dialled.\n\n" +
			"The talosconfig is looked for in this order: --talosconfig (- reads stdin), $TALOSCONFIG,\n" +
			"$TALOSMATE_TALOSCONFIG_BASE64, a file named talosconfig in the project (up to the folder that holds\n" +
			".git), $TALOS_HOME/config or ~/.talos/config, the service account's path in a pod.",
		Example: "  talosmate config info\n" +
			"  talosmate config info --query '.result.contexts[] | select(.expires_in_seconds < 2592000) | .name'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Offline: true},
	}, cmdutil.ResultOf[Info]("ConfigInfo"), func(c *cmdutil.Call) error {
		cfg, err := f.LoadTalosconfig(c.Cmd.Flags())
		if err != nil {
			return err
		}

		for _, w := range cfg.Warnings {
			c.Warn("%s", w)
		}

		name, _ := c.Cmd.Flags().GetString("context")

		current, err := cfg.Pick(name)
		if err != nil && name != "" {
			return err
		}

		if current != nil {
			c.Printer.Context = current.Name
		}

		info := inspect(cfg, c.Printer.Context, f.Now())

		return cmdutil.PrintResult(c, info, nil, info.CurrentContext, showInfo)
	})
}

func inspect(cfg *config.Config, current string, now time.Time) Info {
	return Info{
		CurrentContext: current, ConfigPath: cfg.Path, Source: string(cfg.Origin),
		Contexts: lists.Map(cfg.ContextNames(), func(name string) Context { return inspectContext(cfg, name, current, now) }),
	}
}

func inspectContext(cfg *config.Config, name, current string, now time.Time) Context {
	out := Context{Name: name, Current: name == current, Endpoints: []string{}, Nodes: []string{}, Roles: []string{}}

	tc, err := cfg.Pick(name)
	if err != nil {
		out.Problem = err.Error()

		return out
	}

	out.Endpoints, out.Nodes = append(out.Endpoints, tc.Endpoints...), append(out.Nodes, tc.Nodes...)
	out.Cluster, out.Roles, out.Fingerprint = tc.Cluster, tc.Roles, tc.Fingerprint

	out.Identity = tc.Omni

	if u, err := url.Parse(tc.Proxy); err == nil {
		out.ProxyURL = u.Redacted()
	}

	if !tc.NotAfter.IsZero() {
		expires, left := tc.NotAfter.UTC(), int64(math.Floor(tc.NotAfter.Sub(now).Seconds()))
		out.CertificateExpires, out.ExpiresInSeconds = &expires, &left
	}

	return out
}

func showInfo(w io.Writer, info Info) error {
	where := info.ConfigPath
	if where == "" {
		where = info.Source
	}

	fmt.Fprintf(w, "Talosconfig: %s (%s)\n\n", output.Line(where), info.Source)

	return output.WriteTable(w, []output.Column[Context]{
		{Header: "*", Value: marked},
		{Header: "CONTEXT", Value: func(c Context) string { return c.Name }},
		{Header: "CLUSTER", Wide: true, Value: func(c Context) string { return c.Cluster }},
		{Header: "ENDPOINTS", Value: func(c Context) string { return strings.Join(c.Endpoints, ",") }},
		{Header: "NODES", Value: func(c Context) string { return strings.Join(c.Nodes, ",") }},
		{Header: "ROLES", Value: func(c Context) string { return cmp.Or(strings.Join(c.Roles, ","), c.Identity) }},
		{Header: "EXPIRES", Value: expires},
	}, info.Contexts)
}

// marked shows which context is the current one, as kubectl does.
func marked(c Context) string {
	if c.Current {
		return "*"
	}

	return " "
}

func expires(c Context) string {
	switch {
	case c.Problem != "":
		return c.Problem
	case c.CertificateExpires == nil:
		return ""
	case *c.ExpiresInSeconds < 0:
		return "EXPIRED " + output.Time(*c.CertificateExpires)
	default:
		return output.Time(*c.CertificateExpires)
	}
}
