package kube_test

import (
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
)

func admin(cluster, server string) kube.Admin {
	return kube.Admin{Context: "admin@" + cluster, Cluster: cluster, User: "admin@" + cluster, Namespace: "kept", Server: server, Token: server}
}

func TestMergeKubeconfig(t *testing.T) {
	t.Parallel()

	prod := admin("prod", "https://prod")

	mine, _, err := kube.MergeKubeconfig(nil, admin("mine", "https://mine"), "", kube.Refuse)
	if err != nil {
		t.Fatal(err)
	}

	raw, m, err := kube.MergeKubeconfig(mine, prod, "production", kube.Refuse)
	if err != nil || m.Context != "production" || m.Server != "https://prod" {
		t.Fatalf("%+v %v", m, err)
	}

	got, err := clientcmd.Load(raw)
	if err != nil {
		t.Fatal(err)
	}

	if len(got.Contexts) != 2 || got.CurrentContext != "production" || got.Clusters["mine"].Server != "https://mine" || got.Contexts["admin@mine"].Namespace != "kept" {
		t.Errorf("%+v", got)
	}

	moved := admin("prod", "https://moved")

	if _, _, err = kube.MergeKubeconfig(raw, moved, "production", kube.Refuse); errs.ExitCode(err) != errs.Usage {
		t.Errorf("a clash: %v", err)
	}

	replaced, m, err := kube.MergeKubeconfig(raw, moved, "production", kube.Overwrite)
	if got, _ = clientcmd.Load(replaced); err != nil || !m.Overwrote || got.Clusters["prod"].Server != "https://moved" || len(got.Clusters) != 2 {
		t.Errorf("overwritten: %+v %v", m, err)
	}

	both, m, err := kube.MergeKubeconfig(raw, moved, "production", kube.Rename)
	got, _ = clientcmd.Load(both)

	if err != nil || m.Context != "production-1" || len(got.Clusters) != 3 || got.Clusters["prod"].Server != "https://prod" ||
		got.Clusters[got.Contexts["production-1"].Cluster].Server != "https://moved" {
		t.Errorf("renamed: %+v %v", m, err)
	}

	if _, _, err = kube.MergeKubeconfig(raw, moved, "fourth", kube.Overwrite); errs.ExitCode(err) != errs.Usage || !strings.Contains(err.Error(), `context "production"`) {
		t.Errorf("a cluster that another context uses: %v", err)
	}

	if _, _, err = kube.MergeKubeconfig([]byte("{"), prod, "", kube.Refuse); errs.ExitCode(err) != errs.Usage {
		t.Errorf("a broken file: %v", err)
	}
}
