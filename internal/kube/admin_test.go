package kube_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/testing/hostile"
)

func TestParseAdmin(t *testing.T) {
	t.Parallel()

	good := hostile.AdminKubeconfig(t)

	a, err := kube.ParseAdmin("10.5.0.2", []byte(good))
	if err != nil || a.Context != "admin@evil" || a.Cluster != "evil" || a.User != "admin@evil" || a.Server != "https://127.0.0.1:1" || a.Namespace != "default" {
		t.Fatalf("%+v %v", a, err)
	}

	raw, _, err := kube.MergeKubeconfig(nil, a, "", kube.Refuse)
	if err != nil {
		t.Fatal(err)
	}

	want, _ := clientcmd.Load([]byte(good))
	got, _ := clientcmd.Load(raw)

	if got.CurrentContext != want.CurrentContext || string(got.AuthInfos[a.User].ClientKeyData) != string(want.AuthInfos[a.User].ClientKeyData) ||
		string(got.Clusters[a.Cluster].CertificateAuthorityData) != string(want.Clusters[a.Cluster].CertificateAuthorityData) {
		t.Errorf("wrote\n%s\nof\n%s", raw, good)
	}

	if _, err = kube.ParseAdmin("10.5.0.2", raw); err != nil {
		t.Errorf("its own output: %v", err)
	}

	token := regexp.MustCompile(`(?s)client-certificate-data: .*`).ReplaceAllString(good, "token: abc.def\n")
	if a, err = kube.ParseAdmin("10.5.0.2", []byte(token)); err != nil || a.Token != "abc.def" {
		t.Errorf("a token: %+v %v", a, err)
	}
}

// TestParseAdminRefuses adds to a good kubeconfig what must not come from a node, one thing at a time.
func TestParseAdminRefuses(t *testing.T) {
	t.Parallel()

	good := hostile.AdminKubeconfig(t)
	if _, err := kube.ParseAdmin("10.5.0.2", []byte(good)); err != nil {
		t.Fatal(err)
	}

	server := func(to string) string { return strings.Replace(good, "https://127.0.0.1:1", to, 1) }
	cluster := func(line string) string { return strings.Replace(good, "    server:", "    "+line+"\n    server:", 1) }
	user := func(line string) string {
		return strings.Replace(good, "    client-key-data:", "    "+line+"\n    client-key-data:", 1)
	}
	named := func(name string) string { return strings.ReplaceAll(good, "admin@evil", name) }
	without := func(field string) string {
		return regexp.MustCompile(`(?m)^ *`+field+`:.*\n`).ReplaceAllString(good, "")
	}

	for _, tt := range []struct{ text, want string }{
		{user("exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/x], interactiveMode: Never}"), "users[0].user.exec"},
		{user("exec: null"), "users[0].user.exec"},
		{user("auth-provider: {name: gcp, config: {cmd-path: touch}}"), "users[0].user.auth-provider"},
		{user("client-certificate: /etc/passwd"), "users[0].user.client-certificate"},
		{user("client-key: /etc/passwd"), "users[0].user.client-key"},
		{user("tokenFile: /etc/passwd"), "users[0].user.tokenFile"},
		{user("username: me"), "users[0].user.username"},
		{user("password: me"), "users[0].user.password"},
		{user("as: root"), "users[0].user.as"},
		{user("as-uid: x"), "users[0].user.as-uid"},
		{user("as-groups: [x]"), "users[0].user.as-groups"},
		{user("as-user-extra: {x: [y]}"), "users[0].user.as-user-extra"},
		{user("extensions: []"), "users[0].user.extensions"},
		{user("Exec: {}"), "users[0].user.Exec"},
		{user(`token: "a\r\nb"`), "users[0].user.token"},
		{user(`client-certificate-data: ""`), "users[0].user.client-certificate-data"},
		{cluster("certificate-authority: /etc/passwd"), "clusters[0].cluster.certificate-authority"},
		{cluster("proxy-url: http://127.0.0.1:1"), "clusters[0].cluster.proxy-url"},
		{cluster("insecure-skip-tls-verify: true"), "clusters[0].cluster.insecure-skip-tls-verify"},
		{cluster("tls-server-name: x"), "clusters[0].cluster.tls-server-name"},
		{cluster("disable-compression: true"), "clusters[0].cluster.disable-compression"},
		{server("http://127.0.0.1:1"), "clusters[0].cluster.server"},
		{server("https://me:you@127.0.0.1:1"), "clusters[0].cluster.server"},
		{server("https://127.0.0.1:1/path"), "clusters[0].cluster.server"},
		{server(`"https://127.0.0.1:1#x"`), "clusters[0].cluster.server"},
		{server("https://127.0.0.1:1?x"), "clusters[0].cluster.server"},
		{server("https://127.0.0.1:99999"), "clusters[0].cluster.server"},
		{server("https://:6443"), "clusters[0].cluster.server"},
		{server("unix:///run/x"), "clusters[0].cluster.server"},
		{server("127.0.0.1:1"), "clusters[0].cluster.server"},
		{server("*x"), "not YAML"},
		{without("server"), "clusters[0].cluster.server"},
		{without("certificate-authority-data"), "clusters[0].cluster.certificate-authority-data"},
		{without("client-key-data"), "client-key-data"},
		{without("current-context"), "current-context"},
		{without("kind"), "v1 Config"},
		{strings.Replace(good, "cluster: evil\n", "cluster: other\n", 1), "current-context"},
		{strings.Replace(good, "contexts:\n", "contexts:\n- {name: b, context: {cluster: evil, user: x}}\n", 1), "contexts"},
		{strings.Replace(good, "users:\n", "users:\n- {name: b, user: {exec: {command: touch}}}\n", 1), "users"},
		{strings.Replace(good, "users:\n", "users: &a\n", 1), "users"},
		{strings.Replace(good, "kind: Config", "kind: !!str Config", 1), "kind"},
		{good + "preferences: {colors: true}\n", "preferences.colors"},
		{good + "extensions: []\n", "extensions"},
		{good + "<<: {users: []}\n", `"<<"`},
		{good + "kind: Config\n", "kind"},
		{good + "---\n" + good, "more than one"},
		{named(`"../../x"`), "contexts[0].name"},
		{named(`"a\e[2Jb"`), "contexts[0].name"},
		{named(`"a\u202eb"`), "contexts[0].name"},
		{named(`""`), "contexts[0].name"},
		{good + "#" + strings.Repeat("x", 200_000), "at most"},
		{good + "x: \xff", "not text"},
		{"", "not YAML"},
		{"- x", "form that Talos writes"},
	} {
		_, err := kube.ParseAdmin("10.5.0.2", []byte(tt.text))
		if err == nil || !strings.HasPrefix(err.Error(), "cannot use the kubeconfig of 10.5.0.2: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("want %s, got %v", tt.want, err)
		}

		if !errs.IsUntrusted(err) || errs.ExitCode(err) != errs.Failed {
			t.Errorf("%s: exit code %d, %+v", tt.want, errs.ExitCode(err), err)
		}
	}
}

// TestConnectDoesNotFallBack shows that a refused kubeconfig ends the search for credentials.
func TestConnectDoesNotFallBack(t *testing.T) {
	_, refused := kube.ParseAdmin("10.5.0.2", nil)
	t.Setenv("KUBECONFIG", "/nonexistent")

	_, err := kube.Connect(t.Context(), kube.Access{Admin: func(context.Context) (kube.Admin, error) { return kube.Admin{}, refused }})
	if !errs.IsUntrusted(err) || errors.Is(err, kube.ErrNoCredentials) || !kube.Definite(err) {
		t.Errorf("%v", err)
	}
}
