// Package bed runs a Kubernetes control plane (etcd, API server, controller manager, scheduler) as children of the
// calling process, on loopback and with keys of its own, and simulates the kubelets of machines that do not exist.
package bed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/talosmate/talosmate/lab/kube/internal/kubelet"
	"github.com/talosmate/talosmate/lab/kube/internal/pki"
)

var (
	// ErrChildDied is the error of a bed whose child exited without being stopped.
	ErrChildDied = errors.New("child died")
	// ErrNotInTime is returned when a bed is not ready before its deadline.
	ErrNotInTime = errors.New("not ready in time")
	// ErrOutage refuses an outage during another one.
	ErrOutage = errors.New("an outage of the API server is in progress")
	// ErrUnready is the error of settings with which the API server does not become ready.
	ErrUnready = errors.New("the API server is not ready with these settings")
)

// Config configures a bed.
type Config struct {
	// Executable becomes etcd, kube-apiserver and so on when these names are its first argument.
	Executable string
	// Environment is given to the children in addition to this process's own.
	Environment []string
	// Dir is created if necessary. Files of an earlier bed in it are removed.
	Dir string
	// Nodes are the machines at the start.
	Nodes []kubelet.Spec
	// Timing is that of the kubelets; zero for the defaults.
	Timing kubelet.Timing
	// StartTimeout bounds the start.
	StartTimeout time.Duration
}

// Mode is how an API server that is down answers.
type Mode string

const (
	// Refuse kills the API server, so that connections are refused, together with the controller manager and the
	// scheduler, which would lose their leases in a cluster with one control plane. All three start again afterwards.
	Refuse Mode = "refuse"
	// Hang stops the process: connections are accepted and not answered.
	Hang Mode = "hang"
	// Restart is a restart with other settings that is under way.
	Restart Mode = "restart"
	// Unready is an API server that does not come up with its settings. The controller manager and the scheduler wait.
	Unready Mode = "unready"
)

// Bed is a running control plane with its kubelets.
type Bed struct {
	cfg    Config
	layout layout
	launch *launcher
	client kubernetes.Interface
	http   *http.Client
	fail   context.CancelCauseFunc // ends the bed

	// Kubelets are the machines.
	Kubelets *kubelet.Manager

	mu       sync.Mutex
	children map[string]*process
	settings Settings
	outage   Mode // empty when the API server is up
	outages  sync.WaitGroup
}

// Kubeconfig is the file with the administrator's credentials.
func (b *Bed) Kubeconfig() string { return filepath.Join(b.cfg.Dir, "kubeconfig") }

// Server is the API server's URL.
func (b *Bed) Server() string { return b.layout.server() }

// Pids are the process IDs of the children by the names of the parts. An outage changes them.
func (b *Bed) Pids() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	pids := map[string]int{}
	for name, p := range b.children {
		pids[name] = p.pid()
	}
	return pids
}

// Outage is how the API server is down, or empty.
func (b *Bed) Outage() Mode {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage
}

// Run starts a bed, calls use with it once all its machines are ready, and stops it when use returns, when the context
// ends or when a child dies, which cancels use's context and is the error that Run returns. No child is left when Run
// returns.
func Run(ctx context.Context, cfg Config, use func(context.Context, *Bed) error) (err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	b := &Bed{cfg: cfg, fail: fail, children: map[string]*process{}}
	if err := b.prepareDir(); err != nil {
		return err
	}
	kubeletLog, err := os.OpenFile(filepath.Join(b.cfg.Dir, "logs", "kubelet.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("bed: %w", err)
	}
	defer kubeletLog.Close() //nolint:errcheck // a log
	// The launcher's thread must outlive the children.
	launching, launched := context.WithCancel(context.WithoutCancel(ctx))
	defer launched()
	b.launch = newLauncher(launching, cfg.Executable, cfg.Environment, filepath.Join(b.cfg.Dir, "logs"))

	defer b.stopAll()
	defer b.outages.Wait()
	defer fail(nil)
	if err := b.start(ctx, kubeletLog); err != nil {
		return err
	}
	defer b.Kubelets.Stop()
	err = use(ctx, b)
	if cause := context.Cause(ctx); errors.Is(cause, ErrChildDied) {
		return cause
	}
	return err
}

// prepareDir creates the directory and empties the parts that belong to a bed.
func (b *Bed) prepareDir() error {
	dir, err := filepath.Abs(b.cfg.Dir)
	if err != nil {
		return fmt.Errorf("bed: %w", err)
	}
	b.cfg.Dir = dir
	for _, sub := range []string{"etcd", "pki", "logs", "apiserver"} {
		path := filepath.Join(dir, sub)
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("bed: %w", err)
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("bed: %w", err)
		}
	}
	return nil
}

// start starts everything and returns when all machines are ready.
func (b *Bed) start(ctx context.Context, kubeletLog io.Writer) error {
	timeout := b.cfg.StartTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w (%s)", ErrNotInTime, timeout))
	defer cancel()

	restConfig, err := b.makeCredentials()
	if err != nil {
		return err
	}
	if b.client, err = kubernetes.NewForConfig(restConfig); err != nil {
		return fmt.Errorf("bed: client: %w", err)
	}
	if _, err := b.startChild(ctx, partEtcd, b.layout.etcdArgs()); err != nil {
		return err
	}
	if err := b.startControlPlane(ctx); err != nil {
		return err
	}

	version, err := b.client.Discovery().ServerVersion()
	if err != nil {
		return fmt.Errorf("bed: version of the API server: %w", err)
	}
	b.Kubelets = kubelet.Start(context.WithoutCancel(ctx), kubelet.Config{
		Client: b.client, Timing: b.cfg.Timing,
		Log:            slog.New(slog.NewTextHandler(kubeletLog, nil)),
		KubeletVersion: version.GitVersion,
	})
	for _, spec := range b.cfg.Nodes {
		if _, err := b.Kubelets.Add(spec); err != nil {
			b.Kubelets.Stop()
			return err
		}
	}
	if err := b.await(ctx, "nodes", b.usable); err != nil {
		b.Kubelets.Stop()
		return err
	}
	return nil
}

// startControlPlane starts the parts that need etcd.
func (b *Bed) startControlPlane(ctx context.Context) error {
	b.mu.Lock()
	args := b.layout.apiserverArgs(b.settings)
	b.mu.Unlock()
	apiserver, err := b.startChild(ctx, partAPIServer, args)
	if err != nil {
		return err
	}
	alive, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		select {
		case <-apiserver.done:
			end(apiserver.failure())
		case <-alive.Done():
		}
	}()
	if err := b.await(alive, "API server", b.answers); err != nil {
		return err
	}
	if _, err := b.startChild(ctx, partControllerManager, b.layout.controllerManagerArgs()); err != nil {
		return err
	}
	_, err = b.startChild(ctx, partScheduler, b.layout.schedulerArgs())
	return err
}

// startChild starts a part and ends the bed if that part exits without being stopped. An API server that has not come up
// with other settings may exit.
func (b *Bed) startChild(ctx context.Context, name string, args []string) (*process, error) {
	p, err := b.launch.start(ctx, name, args)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.children[name] = p
	b.mu.Unlock()
	go func() {
		<-p.done
		b.mu.Lock()
		asked := b.children[name] != p
		if !asked && name == partAPIServer && (b.outage == Restart || b.outage == Unready) {
			delete(b.children, name)
			asked = true
		}
		b.mu.Unlock()
		if !asked {
			b.fail(p.failure())
		}
	}()
	return p, nil
}

// Configure starts the API server again with other settings, and the parts that need it, and returns when it is ready. If
// it does not become ready before the context ends, or exits, the bed stays without it until it is configured again.
func (b *Bed) Configure(ctx context.Context, s Settings) error {
	b.mu.Lock()
	if b.outage != "" && b.outage != Unready {
		b.mu.Unlock()
		return ErrOutage
	}
	b.outage, b.settings = Restart, s
	b.outages.Add(1)
	b.mu.Unlock()
	defer b.outages.Done()

	ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.StartTimeout, ErrNotInTime)
	defer cancel()
	for _, p := range b.release(partAPIServer, partControllerManager, partScheduler) {
		p.kill()
	}
	err := b.writeFiles(s.Files)
	if err == nil {
		err = b.startControlPlane(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outage = ""; err != nil {
		b.outage = Unready
		return fmt.Errorf("%w: %w", ErrUnready, err)
	}
	return nil
}

func (b *Bed) writeFiles(files map[string]string) error {
	for name, text := range files {
		path := b.layout.place(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("bed: %w", err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("bed: %w", err)
		}
	}
	return nil
}

// release lets parts exit without ending the bed.
func (b *Bed) release(names ...string) []*process {
	b.mu.Lock()
	defer b.mu.Unlock()
	var released []*process
	for _, name := range names {
		if p := b.children[name]; p != nil {
			released = append(released, p)
			delete(b.children, name)
		}
	}
	return released
}

// stopAll stops all children, etcd last: its clients would wait for it.
func (b *Bed) stopAll() {
	var wg sync.WaitGroup
	for _, p := range b.release(partControllerManager, partScheduler, partAPIServer) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p.stop()
		}()
	}
	wg.Wait()
	for _, p := range b.release(partEtcd) {
		p.stop()
	}
}

// BreakAPIServer makes the API server unavailable for a while. It returns when the server is down; a later failure ends
// the bed. The context is that of the bed, not of one request.
func (b *Bed) BreakAPIServer(ctx context.Context, mode Mode, span time.Duration) error {
	b.mu.Lock()
	if b.outage != "" {
		b.mu.Unlock()
		return ErrOutage
	}
	apiserver := b.children[partAPIServer]
	if ctx.Err() != nil || apiserver == nil {
		b.mu.Unlock()
		return fmt.Errorf("bed: %w", context.Cause(ctx))
	}
	b.outage = mode
	b.outages.Add(1)
	b.mu.Unlock()

	end := func() error { return apiserver.signal(syscall.SIGCONT) }
	if mode == Hang {
		if err := apiserver.signal(syscall.SIGSTOP); err != nil {
			b.mu.Lock()
			b.outage = ""
			b.mu.Unlock()
			b.outages.Done()
			return err
		}
	} else {
		for _, p := range b.release(partAPIServer, partControllerManager, partScheduler) {
			p.kill()
		}
		end = func() error {
			ctx, cancel := context.WithTimeoutCause(ctx, b.cfg.StartTimeout, ErrNotInTime)
			defer cancel()
			return b.startControlPlane(ctx)
		}
	}
	go func() {
		defer b.outages.Done()
		t := time.NewTimer(span)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := end(); err != nil {
			b.fail(fmt.Errorf("%w: after an outage: %w", ErrChildDied, err))
		}
		b.mu.Lock()
		b.outage = ""
		b.mu.Unlock()
	}()
	return nil
}

// await polls until done returns nil. If the context ends first (it has a deadline and ends with any child), the error
// includes the last answer.
func (b *Bed) await(ctx context.Context, what string, done func(context.Context) error) error {
	const every = 50 * time.Millisecond
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, context.Cause(ctx), err)
		case <-t.C:
		}
	}
}

// answers returns nil when the API server reports itself ready.
func (b *Bed) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.Server()+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz: %s: %s", resp.Status, body)
	}
	return nil
}

// usable returns nil when a pod can be created and scheduled: every machine that is on is ready and free of the taints
// that the controller manager gives to new nodes, and the default service account exists.
func (b *Bed) usable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	list, err := b.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	nodes := map[string]*corev1.Node{}
	for i := range list.Items {
		nodes[list.Items[i].Name] = &list.Items[i]
	}
	for _, spec := range b.cfg.Nodes {
		if spec.Off {
			continue
		}
		if err := nodeUsable(nodes[spec.Name]); err != nil {
			return fmt.Errorf("node %s: %w", spec.Name, err)
		}
	}
	_, err = b.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err
}

func nodeUsable(n *corev1.Node) error {
	if n == nil {
		return errors.New("not registered")
	}
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable {
			return fmt.Errorf("tainted %s", t.Key)
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return errors.New("not ready")
}

// makeCredentials makes all keys, certificates and kubeconfigs, and chooses the ports.
func (b *Bed) makeCredentials() (*rest.Config, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	pkiDir := filepath.Join(b.cfg.Dir, "pki")
	now := time.Now()
	local := []net.IP{net.ParseIP(loopback)}
	etcdCA, err := pki.NewAuthority(pkiDir, "etcd-ca", now)
	if err != nil {
		return nil, err
	}
	etcd, err := etcdCA.Issue("etcd", pkix.Name{CommonName: "etcd"}, nil, local)
	if err != nil {
		return nil, err
	}
	ca, err := pki.NewAuthority(pkiDir, "kubernetes-ca", now)
	if err != nil {
		return nil, err
	}
	serving, err := ca.Issue("apiserver", pkix.Name{CommonName: partAPIServer},
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		append(local, net.IPv4(10, 96, 0, 1)))
	if err != nil {
		return nil, err
	}
	accountKey, err := pki.SigningKey(pkiDir, "service-account")
	if err != nil {
		return nil, err
	}
	b.layout = layout{
		etcdClient: ports[0], etcdPeer: ports[1], apiserver: ports[2],
		etcdDir: filepath.Join(b.cfg.Dir, "etcd"), filesDir: filepath.Join(b.cfg.Dir, "apiserver"),
		etcdCA: etcdCA.File(), etcdCert: etcd.CertFile, etcdKey: etcd.KeyFile,
		clusterCA: ca.File(), servingCert: serving.CertFile, servingKey: serving.KeyFile,
		accountKey:              accountKey,
		controllerManagerConfig: filepath.Join(pkiDir, "controller-manager.kubeconfig"),
		schedulerConfig:         filepath.Join(pkiDir, "scheduler.kubeconfig"),
	}

	admins := []string{"system:masters"}
	var own pki.Pair
	for _, c := range []struct {
		file, user string
		groups     []string
		config     string
		pair       *pki.Pair
	}{
		{"admin", "admin", admins, b.Kubeconfig(), nil},
		// One client for all controllers needs more rights than the controller manager's own user has.
		{"controller-manager", "system:kube-controller-manager", admins, b.layout.controllerManagerConfig, nil},
		{"scheduler", "system:kube-scheduler", nil, b.layout.schedulerConfig, nil},
		{"kubelets", "talosmate-lab:kubelets", admins, "", &own},
	} {
		pair, err := ca.Issue(c.file, pkix.Name{CommonName: c.user, Organization: c.groups}, nil, nil)
		if err != nil {
			return nil, err
		}
		if c.pair != nil {
			*c.pair = pair
		}
		if c.config == "" {
			continue
		}
		if err := writeKubeconfig(c.config, b.Server(), ca.PEM(), pair); err != nil {
			return nil, err
		}
	}

	cert, err := tls.X509KeyPair(own.CertPEM, own.KeyPEM)
	if err != nil {
		return nil, fmt.Errorf("bed: client certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	b.http = &http.Client{Transport: &http.Transport{
		// Every request uses a new connection: one to an API server that was killed is useless.
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}}
	return &rest.Config{
		Host:            b.Server(),
		TLSClientConfig: rest.TLSClientConfig{CAData: ca.PEM(), CertData: own.CertPEM, KeyData: own.KeyPEM},
		QPS:             2000,
		Burst:           4000,
		UserAgent:       "talosmate-lab-kubelets",
		ContentConfig:   rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf", AcceptContentTypes: "application/vnd.kubernetes.protobuf,application/json"},
	}, nil
}

// writeKubeconfig writes a kubeconfig with embedded keys, so that it can be copied.
func writeKubeconfig(file, server string, ca []byte, pair pki.Pair) error {
	const name = "talosmate-lab"
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	cfg.AuthInfos["admin@"+name] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.CertPEM, ClientKeyData: pair.KeyPEM}
	cfg.Contexts["admin@"+name] = &clientcmdapi.Context{Cluster: name, AuthInfo: "admin@" + name}
	cfg.CurrentContext = "admin@" + name
	if err := clientcmd.WriteToFile(*cfg, file); err != nil {
		return fmt.Errorf("bed: %s: %w", file, err)
	}
	return nil
}

// freePorts returns ports on which nothing listened a moment ago. They are below the ephemeral ports, so that no
// outgoing connection can take the API server's port while it is down. All are held until the last is found, so that
// they differ.
func freePorts(n int) ([]int, error) {
	const low, high, tries = 10000, 32000, 1000
	var ports []int
	for range tries {
		if len(ports) == n {
			return ports, nil
		}
		port := low + rand.IntN(high-low)                                           //nolint:gosec // not a secret
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port))) //nolint:noctx // returns at once
		if err != nil {
			continue
		}
		defer l.Close() //nolint:errcheck // nothing was sent
		ports = append(ports, port)
	}
	return nil, errors.New("bed: no free ports on " + loopback)
}
