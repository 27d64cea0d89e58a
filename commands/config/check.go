package config

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/config"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// Check is what one endpoint of one context says to its credentials.
type Check struct {
	Context            string     `json:"context"`                       // The context.
	Endpoint           string     `json:"endpoint"`                      // The endpoint that was asked.
	Status             string     `json:"status"`                        // ok, expiring (within 30 days), expired, unreachable, untrusted or unusable.
	Message            string     `json:"message"`                       // What is wrong.
	Hint               string     `json:"hint"`                          // What to do about it.
	Version            string     `json:"version"`                       // The Talos version of the endpoint, where the roles may read it.
	Roles              []string   `json:"roles"`                         // The roles in the client certificate.
	AllowedCommands    int        `json:"allowed_commands"`              // How many commands the roles allow; `talosmate commands --roles` lists them.
	TotalCommands      int        `json:"total_commands"`                // How many commands there are.
	CertificateExpires *time.Time `json:"certificate_expires,omitempty"` // When the client certificate expires.
	ExpiresInSeconds   *int64     `json:"expires_in_seconds,omitempty"`  // How long it is still good; negative when it has expired.
}

// What Check.Status says.
const (
	statusOK          = "ok"
	statusExpiring    = "expiring"
	statusExpired     = "expired"
	statusUnreachable = "unreachable"
	statusUntrusted   = "untrusted"
	statusUnusable    = "unusable"
)

// soon is when an expiry is worth a warning.
const soon = 30 * 24 * time.Hour

func newCmdCheck(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.New(f, cmdutil.Command{
		Use: "check", Short: "Try every context of the talosconfig on its endpoints",
		Long: "Dial every endpoint of every context (or of --context): does the certificate chain match what it serves, is\n" +
			"the client certificate expired or near, what do its roles allow. Exit code 3 when a context does not work.",
		Example: "  talosmate config check\n" +
			"  talosmate config check --context prod --query '.items[] | select(.status != \"ok\")'",
		Spec: cmdutil.Spec{Kind: cmdutil.Read, Roles: cmdutil.EtcdReaders(), Question: true},
	}, cmdutil.ListOf[Check]("ConfigCheckList"), func(c *cmdutil.Call) error { return runCheck(f, c) })
}

func runCheck(f *cmdutil.Factory, c *cmdutil.Call) error {
	cfg, err := f.LoadTalosconfig(c.Cmd.Flags())
	if err != nil {
		return err
	}

	names := cfg.ContextNames()

	if name, _ := c.Cmd.Flags().GetString("context"); name != "" {
		if !slices.Contains(names, name) {
			return errs.Usagef("the talosconfig has no context %q", name).WithHint("contexts: %s", strings.Join(names, ", "))
		}

		names = []string{name}
	}

	k := &checker{call: c, config: cfg, now: f.Now()}
	rows := slices.Concat(lists.Map(names, k.context)...)

	var wg errs.Group

	for i := range rows {
		if rows[i].Status == "" {
			wg.Go(func() {
				if err := errs.Safely(func() error { k.dial(c.Context(), &rows[i]); return nil }); err != nil {
					rows[i].Status, rows[i].Message = "unusable", err.Error()
				}
			})
		}
	}

	wg.Wait()

	if c.Context().Err() != nil {
		return context.Cause(c.Context())
	}

	bad := slices.DeleteFunc(slices.Clone(rows), func(r Check) bool { return r.Status == statusOK || r.Status == statusExpiring })
	if len(bad) > 0 {
		err = errs.New(errs.Negative, "%s on %s: %s", bad[0].Context, bad[0].Endpoint, bad[0].Message).WithHint("%s", bad[0].Hint)
	}

	return cmdutil.PrintList(c, rows, err, checkColumns(), func(r Check) string { return r.Context })
}

type checker struct {
	call   *cmdutil.Call
	config *config.Config
	now    time.Time
}

// context gives a row for each endpoint; rows that need no dialling have their status.
func (k *checker) context(name string) []Check {
	base := Check{Context: name, Endpoint: "-", Roles: []string{}}

	tc, err := k.config.Pick(name)
	if err != nil {
		base.Status, base.Message = statusUnusable, err.Error()

		return []Check{base}
	}

	base.Roles = append(base.Roles, tc.Roles...)
	base.AllowedCommands, base.TotalCommands = allowed(k.call.Tree(), tc)

	if !tc.NotAfter.IsZero() {
		expires, left := tc.NotAfter.UTC(), int64(math.Floor(tc.NotAfter.Sub(k.now).Seconds()))
		base.CertificateExpires, base.ExpiresInSeconds = &expires, &left

		if left <= 0 {
			base.Status, base.Message = statusExpired, "the client certificate expired at "+output.Time(expires)
			base.Hint = "make a new one: talosmate config new, with an admin certificate that is still good"
		}
	}

	endpoints, _ := k.call.Cmd.Flags().GetStringSlice("endpoints")
	if len(endpoints) == 0 {
		endpoints = tc.Endpoints
	}

	if len(endpoints) == 0 {
		base.Status, base.Message, base.Hint = statusUnusable, "the context has no endpoints", errs.CommandLine("config", "endpoint", "--context", name, "ADDRESS")

		return []Check{base}
	}

	return lists.Map(endpoints, func(e string) Check {
		row := base
		row.Endpoint = e

		return row
	})
}

func (k *checker) dial(ctx context.Context, r *Check) {
	timeout, _ := k.call.Cmd.Flags().GetDuration("timeout")

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	tc, err := k.config.Pick(r.Context)
	if err != nil {
		r.Status, r.Message = statusUnusable, err.Error()

		return
	}

	cluster, err := talos.NewCluster(tc, k.config.Path, conn.Options{Endpoints: []string{r.Endpoint}, Timeout: timeout, Omni: k.call.Omni()})
	if err == nil {
		err = cluster.SignIn(ctx)
	}

	if err != nil {
		r.Status, r.Message = statusUnusable, err.Error()

		return
	}

	defer cluster.Close() //nolint:errcheck // nothing is left to be said

	v, err := cluster.Endpoint().Version(ctx)
	r.Version = v.Tag

	switch kind := conn.KindOf(err); {
	case err == nil, kind == errs.KindPermissionDenied: // a certificate without the role is a certificate that was believed
		r.Status = statusOK

		if r.ExpiresInSeconds != nil && time.Duration(*r.ExpiresInSeconds)*time.Second < soon {
			r.Status, r.Message = statusExpiring, "the client certificate expires "+output.Time(*r.CertificateExpires)
			r.Hint = errs.CommandLine("config", "new", "FILE", "--context", r.Context)
		}
	case kind == errs.KindUnauthenticated:
		r.Status, r.Message = statusUntrusted, err.Error()
	default:
		r.Status, r.Message = statusUnreachable, err.Error()
	}

	if hints := errs.Hints(err); len(hints) > 0 && r.Hint == "" && r.Status != statusOK {
		r.Hint = hints[0]
	}
}

// allowed counts the commands that the context's roles suffice for.
func allowed(root *cmdutil.Cmd, tc *config.Context) (can, all int) {
	if spec, ok := cmdutil.SpecOf(root); ok {
		all++

		if tc.HasAnyRole(spec.Roles) {
			can++
		}
	}

	for _, child := range root.Commands() {
		c, a := allowed(child, tc)
		can, all = can+c, all+a
	}

	return can, all
}

func checkColumns() []output.Column[Check] {
	return []output.Column[Check]{
		{Header: "CONTEXT", Value: func(r Check) string { return r.Context }},
		{Header: "ENDPOINT", Value: func(r Check) string { return r.Endpoint }},
		{Header: "STATUS", State: true, Value: func(r Check) string { return r.Status }},
		{Header: "VERSION", Value: func(r Check) string { return r.Version }},
		{Header: "EXPIRES", Value: func(r Check) string {
			if r.CertificateExpires == nil {
				return ""
			}

			return output.Time(*r.CertificateExpires)
		}},
		{Header: "ROLES", Value: func(r Check) string { return strings.Join(r.Roles, ",") }},
		{Header: "COMMANDS", Wide: true, Value: func(r Check) string { return fmt.Sprintf("%d of %d", r.AllowedCommands, r.TotalCommands) }},
		{Header: "MESSAGE", Value: func(r Check) string { return r.Message }},
	}
}
