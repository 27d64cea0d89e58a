package machine

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
)

// APIServer is what a node makes of its configuration for kube-apiserver.
type APIServer struct {
	Args  []string          `json:"args"`  // Flags with their values.
	Files map[string]string `json:"files"` // The content of files by their path; certificates and keys are not among them.
}

// renderAPIServer renders the flags and files of kube-apiserver as Talos does (M/controllers/k8s/control_plane_final.go,
// render_config_static_pods.go and render_secrets_static_pod.go).
func renderAPIServer(c config.Config) APIServer {
	dir := func(name string) string { return filepath.Join(constants.KubernetesAPIServerConfigDir, name) }
	out := APIServer{Args: flags(apiServerArgs(c)), Files: map[string]string{
		dir("admission-control-config.yaml"): text(map[string]any{
			"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": admissionPlugins(c),
		}),
		dir("authorization-config.yaml"): text(map[string]any{
			"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": authorizerFile(c),
		}),
		dir("authentication-config.yaml"):                                               "{}\n",
		filepath.Join(constants.KubernetesAPIServerSecretsDir, "encryptionconfig.yaml"): text(encryptionOf(c)),
	}}

	if policy := c.K8sAuditPolicyConfig(); policy != nil {
		out.Files[dir("auditpolicy.yaml")] = text(policy.Configuration())
	}

	if auth := c.K8sAuthenticationConfig(); auth != nil {
		file := maps.Clone(auth.Configuration())
		file["apiVersion"], file["kind"] = "apiserver.config.k8s.io/v1beta1", "AuthenticationConfiguration"
		out.Files[dir("authentication-config.yaml")] = text(file)
	}

	return out
}

func admissionPlugins(c config.Config) []any {
	out := []any{}
	for _, one := range c.K8sAdmissionControlPluginConfigs() {
		out = append(out, map[string]any{"name": one.Name(), "configuration": one.Configuration()})
	}

	return out
}

func authorizerFile(c config.Config) []any {
	out := []any{}

	for _, a := range authorizers(c) {
		one := map[string]any{"type": a.Type, "name": a.Name}
		if a.Webhook != nil {
			one["webhook"] = a.Webhook
		}

		out = append(out, one)
	}

	return out
}

// authorizers puts those first that Talos adds for v1alpha1.
func authorizers(c config.Config) []k8s.AuthorizationAuthorizersSpec {
	var out []k8s.AuthorizationAuthorizersSpec
	for _, a := range c.K8sAuthorizerConfigs() {
		out = append(out, k8s.AuthorizationAuthorizersSpec{Type: a.Type(), Name: a.Name(), Webhook: a.Webhook()})
	}

	if !c.K8sAPIServerConfig().InjectDefaultAuthorizers() {
		return out
	}

	for i, one := range []k8s.AuthorizationAuthorizersSpec{{Type: "Node", Name: "node"}, {Type: "RBAC", Name: "rbac"}} {
		if !slices.ContainsFunc(out, func(a k8s.AuthorizationAuthorizersSpec) bool { return a.Type == one.Type }) {
			out = slices.Insert(out, i, one)
		}
	}

	return out
}

// encryptionOf is the encryption configuration that kube-apiserver gets.
func encryptionOf(c config.Config) map[string]any {
	const version, kind = "v1", "EncryptionConfig"

	if d := c.K8sEtcdEncryptionConfig(); d != nil {
		return map[string]any{"apiVersion": version, "kind": kind, "resources": d.EtcdEncryptionConfig()["resources"]}
	}

	providers := []any{}
	key := func(provider, name, secret string) {
		if secret != "" {
			providers = append(providers, map[string]any{provider: map[string]any{"keys": []any{map[string]any{"name": name, "secret": secret}}}})
		}
	}

	key("secretbox", "key2", c.Cluster().SecretboxEncryptionSecret())
	key("aescbc", "key1", c.Cluster().AESCBCEncryptionSecret())
	providers = append(providers, map[string]any{"identity": map[string]any{}})

	return map[string]any{
		"apiVersion": version, "kind": kind,
		"resources": []any{map[string]any{"resources": []any{"secrets"}, "providers": providers}},
	}
}

// apiServerArgs are Talos's flags, and those of the configuration, which add to some and replace others.
func apiServerArgs(c config.Config) map[string][]string {
	s := c.K8sAPIServerConfig()
	conf := func(name string) []string {
		return []string{filepath.Join(constants.KubernetesAPIServerConfigDir, name)}
	}
	secret := func(name string) []string {
		return []string{filepath.Join(constants.KubernetesAPIServerSecretsDir, name)}
	}

	args := map[string][]string{
		"admission-control-config-file":      conf("admission-control-config.yaml"),
		"allow-privileged":                   {"true"},
		"audit-log-maxage":                   {"30"},
		"audit-log-maxbackup":                {"10"},
		"audit-log-maxsize":                  {"100"},
		"audit-log-path":                     {filepath.Join(constants.KubernetesAuditLogDir, "kube-apiserver.log")},
		"audit-policy-file":                  conf("auditpolicy.yaml"),
		"bind-address":                       {"0.0.0.0"},
		"client-ca-file":                     secret("ca.crt"),
		"enable-admission-plugins":           {"NodeRestriction"},
		"enable-bootstrap-token-auth":        {"true"},
		"encryption-provider-config":         secret("encryptionconfig.yaml"),
		"etcd-cafile":                        secret("etcd-client-ca.crt"),
		"etcd-certfile":                      secret("etcd-client.crt"),
		"etcd-keyfile":                       secret("etcd-client.key"),
		"etcd-servers":                       {"https://127.0.0.1:" + strconv.Itoa(constants.EtcdClientPort)},
		"kubelet-client-certificate":         secret("apiserver-kubelet-client.crt"),
		"kubelet-client-key":                 secret("apiserver-kubelet-client.key"),
		"kubelet-preferred-address-types":    {"InternalIP,ExternalIP,Hostname"},
		"profiling":                          {"false"},
		"proxy-client-cert-file":             secret("front-proxy-client.crt"),
		"proxy-client-key-file":              secret("front-proxy-client.key"),
		"requestheader-allowed-names":        {"front-proxy-client"},
		"requestheader-client-ca-file":       secret("aggregator-ca.crt"),
		"requestheader-extra-headers-prefix": {"X-Remote-Extra-"},
		"requestheader-group-headers":        {"X-Remote-Group"},
		"requestheader-username-headers":     {"X-Remote-User"},
		"secure-port":                        {strconv.Itoa(s.APIPort())},
		"service-account-key-file":           secret("service-account.pub"),
		"service-account-signing-key-file":   secret("service-account.key"),
		"service-cluster-ip-range":           {prefixes(c.K8sNetworkConfig().ServiceCIDRs())},
		"tls-cert-file":                      secret("apiserver.crt"),
		"tls-min-version":                    {"VersionTLS13"},
		"tls-private-key-file":               secret("apiserver.key"),
	}

	if a := c.K8sServiceAccountConfig(); a != nil {
		args["api-audiences"] = a.APIAudiences()
		args["service-account-issuer"] = append([]string{a.IssuerURL()}, a.AcceptedIssuers()...)
	}

	if node := c.K8sNodeConfig(); node == nil || !node.SkipNodeRegistration() {
		args["advertise-address"] = []string{"$(POD_IP)"}
	}

	if s.UseAuthenticationConfig() {
		args["authentication-config"] = conf("authentication-config.yaml")
	} else {
		args["anonymous-auth"] = []string{"false"}
	}

	args["authorization-config"] = conf("authorization-config.yaml")

	for flag := range s.ExtraArgs() {
		if flag == "authorization-mode" || strings.HasPrefix(flag, "authorization-webhook-") {
			args["authorization-mode"] = []string{"Node,RBAC"}
			delete(args, "authorization-config")
		}
	}

	for flag, values := range s.ExtraArgs() {
		switch flag {
		case "enable-admission-plugins", "feature-gates", "authorization-mode":
			values = []string{strings.Join(slices.Concat(args[flag], values), ",")}
		}

		args[flag] = values
	}

	return args
}

// flags writes arguments as a command has them.
func flags(args map[string][]string) []string {
	out := []string{}

	for _, flag := range slices.Sorted(maps.Keys(args)) {
		for _, value := range args[flag] {
			out = append(out, "--"+flag+"="+value)
		}
	}

	return out
}
