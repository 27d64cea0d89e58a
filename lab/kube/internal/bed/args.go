package bed

import (
	"fmt"
	"path/filepath"
	"slices"
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
	filesDir    string // of the API server's settings

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

// Settings are what a node makes of its configuration for the API server.
type Settings struct {
	// Args are flags, each with its value. Those that name addresses, etcd and keys are the bed's own, and of the files
	// that flags name only those in Files exist.
	Args []string `json:"args"`
	// Files has the content of files by their absolute path on the node.
	Files map[string]string `json:"files"`
}

// Validate returns an error if a flag or a file cannot be used.
func (s Settings) Validate() error {
	for _, arg := range s.Args {
		if !strings.HasPrefix(arg, "--") || !strings.Contains(arg, "=") {
			return fmt.Errorf("%q is not a flag with its value", arg)
		}
	}
	for file := range s.Files {
		if !filepath.IsAbs(file) || filepath.Clean(file) != file {
			return fmt.Errorf("%q is not an absolute path", file)
		}
	}
	return nil
}

// place is where a file of the node is in the bed.
func (l layout) place(file string) string { return filepath.Join(l.filesDir, file) }

// apiserverArgs returns the flags of the API server. What the settings do not name is RBAC without anonymous requests.
func (l layout) apiserverArgs(s Settings) []string {
	if len(s.Args) == 0 {
		s.Args = []string{"--authorization-mode=RBAC", "--anonymous-auth=false", "--service-account-issuer=https://kubernetes.default.svc"}
	}
	args := l.ownAPIServerArgs()
	own := func(flag string) bool {
		return slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, flag+"=") })
	}
	var more []string
	for _, arg := range s.Args {
		flag, value, _ := strings.Cut(arg, "=")
		if _, sent := s.Files[value]; sent {
			arg = flag + "=" + l.place(value)
		} else if filepath.IsAbs(value) {
			continue
		}
		if !own(flag) {
			more = append(more, arg)
		}
	}
	return append(args, more...)
}

func (l layout) ownAPIServerArgs() []string {
	return []string{
		"--bind-address=" + loopback,
		"--advertise-address=" + loopback,
		"--secure-port=" + strconv.Itoa(l.apiserver),
		"--endpoint-reconciler-type=none",
		"--etcd-servers=" + l.etcdServer(),
		"--etcd-cafile=" + l.etcdCA, "--etcd-certfile=" + l.etcdCert, "--etcd-keyfile=" + l.etcdKey,
		"--tls-cert-file=" + l.servingCert, "--tls-private-key-file=" + l.servingKey,
		"--client-ca-file=" + l.clusterCA,
		"--service-account-key-file=" + l.accountKey,
		"--service-account-signing-key-file=" + l.accountKey,
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
