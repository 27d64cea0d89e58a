package migrate

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/types/k8s"
	"github.com/siderolabs/talos/pkg/machinery/config/types/meta"
)

// AuthenticationFlags lists the arguments of kube-apiserver that its authentication file replaces.
func AuthenticationFlags() []string {
	return []string{
		"anonymous-auth", "oidc-issuer-url", "oidc-client-id", "oidc-username-claim", "oidc-username-prefix", "oidc-groups-claim",
		"oidc-groups-prefix", "oidc-required-claim",
	}
}

// authentication says the flags of kube-apiserver as its AuthenticationConfiguration. Talos turns anonymous requests off
// for v1alpha1. The defaults of the flags are Kubernetes's: the claim sub, prefixed with the issuer.
func authentication(flags map[string][]string) map[string]any {
	first := func(flag, otherwise string) string {
		if values := flags[flag]; len(values) > 0 {
			return values[len(values)-1]
		}

		return otherwise
	}

	out := map[string]any{"anonymous": map[string]any{"enabled": first("anonymous-auth", "false") == "true"}, "jwt": []any{}}

	issuer := first("oidc-issuer-url", "")
	if issuer == "" {
		return out
	}

	claim := first("oidc-username-claim", "sub")
	prefix := first("oidc-username-prefix", "")

	switch {
	case prefix == "-":
		prefix = ""
	case prefix == "" && claim != "email":
		prefix = issuer + "#"
	}

	mappings := map[string]any{"username": map[string]any{"claim": claim, "prefix": prefix}}
	if groups := first("oidc-groups-claim", ""); groups != "" {
		mappings["groups"] = map[string]any{"claim": groups, "prefix": first("oidc-groups-prefix", "")}
	}

	jwt := map[string]any{
		"issuer":        map[string]any{"url": issuer, "audiences": []any{first("oidc-client-id", "")}},
		"claimMappings": mappings,
	}

	var rules []any

	for _, list := range flags["oidc-required-claim"] {
		for pair := range strings.SplitSeq(list, ",") {
			if name, value, ok := strings.Cut(pair, "="); ok {
				rules = append(rules, map[string]any{"claim": name, "requiredValue": value})
			}
		}
	}

	if len(rules) > 0 {
		jwt["claimValidationRules"] = rules
	}

	out["jwt"] = []any{jwt}

	return out
}

type authorizer struct {
	kind, name string
	webhook    map[string]any
}

// effectiveAuthorizers is the list that kube-apiserver gets: Talos puts Node and RBAC first for v1alpha1 (Talos,
// internal/app/machined/pkg/controllers/k8s/control_plane.go).
func effectiveAuthorizers(from []config.K8sAuthorizerConfig, inject bool) []authorizer {
	var out []authorizer
	for _, a := range from {
		out = append(out, authorizer{a.Type(), a.Name(), a.Webhook()})
	}

	if !inject {
		return out
	}

	for i, one := range []authorizer{{kind: "Node", name: "node"}, {kind: "RBAC", name: "rbac"}} {
		if !slices.ContainsFunc(out, func(a authorizer) bool { return a.kind == one.kind }) {
			out = slices.Insert(out, min(i, len(out)), one)
		}
	}

	return out
}

// ProxySettings says arguments of kube-proxy as fields of its configuration, and names the first that it does not know.
func ProxySettings(flags map[string][]string) (settings map[string]any, unknown string) {
	settings = map[string]any{}

	for _, flag := range slices.Sorted(mapKeys(flags)) {
		value := strings.Join(flags[flag], ",")

		switch flag {
		case "metrics-bind-address":
			settings["metricsBindAddress"] = value
		case "healthz-bind-address":
			settings["healthzBindAddress"] = value
		case "ipvs-strict-arp":
			settings["ipvs"] = map[string]any{"strictARP": value == "true"}
		case "nodeport-addresses":
			list := []any{}
			for one := range strings.SplitSeq(value, ",") {
				list = append(list, one)
			}

			settings["nodePortAddresses"] = list
		default:
			return settings, flag
		}
	}

	return settings, ""
}

// manifests writes a document for every manifest of a list of URLs.
func (u *unit) manifests(from string, urls []string, headers map[string]string) {
	for i, text := range urls {
		doc := k8s.NewKubeExternalManifestConfigV1Alpha1()
		doc.MetaName, doc.HeadersSpec = manifestName(from, i, text), headers

		if parsed, err := url.Parse(text); err == nil {
			doc.URLSpec = meta.URL{URL: parsed}
		} else {
			u.block(index(from, i), "it is not a URL", "correct it first")
		}

		u.write(doc)
		u.move(index(from, i), doc, "url")
	}
}

// manifestName makes a name from the place and the file of a manifest, such as manifest-1-metrics-server.
func manifestName(from string, i int, text string) string {
	kind := "manifest"
	if strings.Contains(from, "cni") {
		kind = "cni"
	}

	base := strings.TrimSuffix(path.Base(text), path.Ext(text))
	base = strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '-'
		}
	}, base[:min(len(base), 40)]), "-")

	return strings.Trim(fmt.Sprintf("%s-%d-%s", kind, i+1, base), "-")
}
