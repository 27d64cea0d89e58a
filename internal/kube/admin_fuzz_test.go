package kube_test

import (
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/testing/hostile"
)

// FuzzAdminKubeconfig reads kubeconfigs that a node may have sent. What is accepted and written to the user's file runs
// nothing, reads no file, goes through no proxy and verifies the server.
func FuzzAdminKubeconfig(f *testing.F) {
	good := hostile.AdminKubeconfig(f)

	for _, line := range []string{
		"", "    exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [/tmp/x], interactiveMode: Never}\n", "    auth-provider: {name: gcp, config: {cmd-path: touch}}\n",
		"    tokenFile: /etc/passwd\n", "    client-key: /etc/passwd\n", "    as: system:admin\n", "    exec: &a\n      <<: *a\n", "    ? exec\n    : {command: touch}\n", "    \"ex\\x65c\": {command: touch}\n",
	} {
		f.Add([]byte(strings.Replace(good, "    client-key-data:", line+"    client-key-data:", 1)))
	}

	for _, line := range []string{"    proxy-url: http://evil\n", "    insecure-skip-tls-verify: true\n", "    certificate-authority: /etc/passwd\n", "    tls-server-name: evil\n"} {
		f.Add([]byte(strings.Replace(good, "    server:", line+"    server:", 1)))
	}

	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := kube.ParseAdmin("10.5.0.2", text)
		if err != nil {
			return
		}

		raw, _, err := kube.MergeKubeconfig(nil, a, "", kube.Refuse)
		if err != nil {
			return
		}

		config, err := clientcmd.Load(raw)
		if err != nil || len(config.AuthInfos) != 1 || len(config.Clusters) != 1 {
			t.Fatalf("%v\n%s", err, raw)
		}

		for _, u := range config.AuthInfos {
			if u.Exec != nil || u.AuthProvider != nil || u.ClientCertificate+u.ClientKey+u.TokenFile+u.Impersonate != "" {
				t.Fatalf("%s", raw)
			}
		}

		for _, c := range config.Clusters {
			if c.InsecureSkipTLSVerify || c.ProxyURL+c.CertificateAuthority != "" || !strings.HasPrefix(c.Server, "https://") {
				t.Fatalf("%s", raw)
			}
		}
	})
}
