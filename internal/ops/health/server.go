package health

import (
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// ServerNode streams a control plane's own health check; *talos.Node implements it.
type ServerNode interface {
	ServerHealth(ctx context.Context, wait time.Duration, message func(string)) error
}

// Server runs the node's own ClusterHealthCheck and turns each of its messages into a finding. The server stops at the
// first condition that is not met within wait; later ones are not checked. An unexpected end of the stream means
// unhealthy, never success.
func Server(ctx context.Context, n ServerNode, wait time.Duration, tell func(Finding)) (Result, error) {
	p := &serverLog{at: map[string]int{}, tell: tell}

	err := n.ServerHealth(ctx, wait, p.message)
	if err != nil && (len(p.findings) == 0 || ctx.Err() != nil) {
		return NewResult(ScopeFull, "server", p.findings), err
	}

	if err != nil {
		p.end(err)
	}

	return NewResult(ScopeFull, "server", p.findings), nil
}

// serverLog turns messages into findings. The text is Talos's (pkg/cluster/check/reporter.go and the
// health service): "waiting for CONDITION: ...", then "OK" or an error that may span lines.
type serverLog struct {
	findings []Finding
	at       map[string]int
	tell     func(Finding)
}

func (p *serverLog) message(text string) {
	m := regexp.MustCompile(`(?s)^waiting for (.+?): (\.\.\.|OK|.*)$`).FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return // such as "discovered nodes: […]"
	}

	id := "server-" + slug(m[1])

	i, known := p.at[id]
	if !known {
		i = len(p.findings)
		p.at[id] = i
		p.findings = append(p.findings, Finding{ID: id, Title: m[1], Level: levelOf(m[1]), Status: Unknown})
	}

	f := &p.findings[i]

	switch m[2] {
	case "...":
		f.Message = "waiting"
	case "OK":
		f.Status, f.Message, f.LastError = OK, "OK", ""
	default:
		f.Status, f.Message = Fail, strings.TrimPrefix(strings.TrimSpace(m[2]), "ERROR ")
	}

	if p.tell != nil {
		p.tell(*f)
	}
}

// end marks the condition that was waited for when the stream ended.
func (p *serverLog) end(err error) {
	last := &p.findings[len(p.findings)-1]
	last.LastError = err.Error()

	if last.Status == Unknown {
		last.Status = Fail
	}

	if last.Status == OK {
		p.findings = append(p.findings, Finding{
			ID: "server-stream", Title: "the health check ends on its own", Level: LevelTalos, Status: Fail,
			Message: "the stream ended before the health check did", LastError: err.Error(),
		})
	}

	if conn.KindOf(err) == errs.KindTimeout {
		last.Hint = "the deadline passed while waiting for this"
	}
}

func slug(condition string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(condition), "-"), "-")
}

func levelOf(condition string) string {
	switch {
	case strings.Contains(condition, "etcd"):
		return LevelEtcd
	case regexp.MustCompile(`k8s|kube|static pods|control plane components|coredns`).MatchString(condition):
		return LevelKubernetes
	default:
		return LevelTalos
	}
}
