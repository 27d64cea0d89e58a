package bed

import (
	"strconv"
	"strings"
)

// layout holds the ports and paths of the parts.
type layout struct {
	etcdClient, etcdPeer, apiserver int // ports on loopback

	etcdDir     string
	etcdCA      string
	etcdCert    string
	etcdKey     string
	clusterCA   string
	servingCert string
	servingKey  string
	accountKey  string

	controllerManagerConfig string
	schedulerConfig         string
}

// loopback is the address that everything listens on.
const loopback = "127.0.0.1"

const (
	partEtcd              = "etcd"
	partAPIServer         = "kube-apiserver"
	partControllerManager = "kube-controller-manager"
	partScheduler         = "kube-scheduler"
)

func (l layout) server() string { return "https://" + loopback + ":" + strconv.Itoa(l.apiserver) }

func (l layout) etcdServer() string { return "https://" + loopback + ":" + strconv.Itoa(l.etcdClient) }

func (l layout) etcdArgs() []string {
	peer := "https://" + loopback + ":" + strconv.Itoa(l.etcdPeer)
	return []string{
		"--name=bed",
		"--data-dir=" + l.etcdDir,
		"--listen-client-urls=" + l.etcdServer(),
		"--advertise-client-urls=" + l.etcdServer(),
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=bed=" + peer,
		// Without certificates any user of the machine could write into the cluster.
		"--cert-file=" + l.etcdCert, "--key-file=" + l.etcdKey,
		"--client-cert-auth", "--trusted-ca-file=" + l.etcdCA,
		"--peer-cert-file=" + l.etcdCert, "--peer-key-file=" + l.etcdKey,
		"--peer-client-cert-auth", "--peer-trusted-ca-file=" + l.etcdCA,
		// The data is not kept after the bed ends.
		"--unsafe-no-fsync",
		"--log-level=warn",
	}
}

func (l layout) apiserverArgs() []string {
	return []string{
		"--bind-address=" + loopback,
		"--advertise-address=" + loopback,
		"--secure-port=" + strconv.Itoa(l.apiserver),
		"--endpoint-reconciler-type=none",
		"--etcd-servers=" + l.etcdServer(),
		"--etcd-cafile=" + l.etcdCA, "--etcd-certfile=" + l.etcdCert, "--etcd-keyfile=" + l.etcdKey,
		"--tls-cert-file=" + l.servingCert, "--tls-private-key-file=" + l.servingKey,
		"--client-ca-file=" + l.clusterCA,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + l.accountKey,
		"--service-account-signing-key-file=" + l.accountKey,
		"--authorization-mode=RBAC",
		"--anonymous-auth=false",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--allow-privileged=true",
		"--profiling=false",
	}
}

func (l layout) controllerManagerArgs() []string {
	// Only what workloads, disruption budgets, nodes and namespaces need: every controller costs memory and watches.
	controllers := []string{
		"namespace-controller", "serviceaccount-controller",
		"deployment-controller", "replicaset-controller", "daemonset-controller",
		"statefulset-controller", "job-controller", "replicationcontroller-controller",
		"disruption-controller", "node-lifecycle-controller", "taint-eviction-controller",
		"pod-garbage-collector-controller", "garbage-collector-controller",
	}
	return []string{
		"--kubeconfig=" + l.controllerManagerConfig,
		"--leader-elect=false",
		"--use-service-account-credentials=false",
		"--secure-port=0",
		"--kube-api-qps=500", "--kube-api-burst=1000",
		// A node that does not renew its lease for six seconds is NotReady; Kubernetes's default is fifty.
		"--node-monitor-period=1s",
		"--node-monitor-grace-period=6s",
		"--node-startup-grace-period=10s",
		"--controllers=" + strings.Join(controllers, ","),
	}
}

func (l layout) schedulerArgs() []string {
	return []string{
		"--kubeconfig=" + l.schedulerConfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
}
