// Package etcd runs the real etcd members of the simulated control planes
// inside this process.
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// ErrStopped is returned for calls to a member that does not run.
var ErrStopped = errors.New("etcd member is stopped")

// Config is the configuration of one member.
type Config struct {
	Name       string
	Host       string
	ClientPort int
	PeerPort   int
	Dir        string // holds the data directory and the certificates
	CA         []byte
	Cert       []byte
	Key        []byte
	QuotaBytes int64
	// Log receives the member's own log lines.
	Log io.Writer
	// Ended is called when the member ends without being stopped: it was removed from the cluster, or it crashed.
	Ended func(reason string)
}

// Member is one etcd member; it survives stops and starts of its server.
type Member struct {
	cfg Config
	tls *tls.Config

	// starting serialises starts; mu is never held while etcd starts, since etcd's log may call back into the member
	starting sync.Mutex
	mu       sync.Mutex
	server   *embed.Etcd
}

// NewMember prepares a member; nothing runs yet.
func NewMember(cfg Config) (*Member, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}

	for name, content := range map[string][]byte{"ca.crt": cfg.CA, "member.crt": cfg.Cert, "member.key": cfg.Key} {
		if err := os.WriteFile(filepath.Join(cfg.Dir, name), content, 0o600); err != nil {
			return nil, err
		}
	}

	pair, err := tls.X509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		return nil, err
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cfg.CA)

	return &Member{cfg: cfg, tls: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12}}, nil
}

// clusterToken is etcd's own default, which Talos uses.
const clusterToken = "etcd-cluster"

// Name is the member's name, which is its node's hostname.
func (m *Member) Name() string {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.cfg.Name
}

// Quota is the limit of its database in bytes, 0 for etcd's own default.
func (m *Member) Quota() int64 { return m.cfg.QuotaBytes }

// PeerURL is where other members reach it.
func (m *Member) PeerURL() string { return "https://" + join(m.cfg.Host, m.cfg.PeerPort) }

// ClientURL is where clients reach it.
func (m *Member) ClientURL() string { return "https://" + join(m.cfg.Host, m.cfg.ClientPort) }

// DataDir is the directory that Talos mounts at /var/lib/etcd.
func (m *Member) DataDir() string { return filepath.Join(m.cfg.Dir, "data") }

// Empty reports whether there is no data yet.
func (m *Member) Empty() bool {
	entries, _ := os.ReadDir(m.DataDir()) //nolint:errcheck // a missing directory is empty

	return len(entries) == 0
}

// Wipe removes the data of a stopped member.
func (m *Member) Wipe() error {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.server != nil {
		return errors.New("etcd member still runs")
	}

	return os.RemoveAll(m.DataDir())
}

// Running reports whether the server runs.
func (m *Member) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.server != nil
}

// Start runs the member. initial names all members with their peer URLs and is used only while there is no data;
// existing means that it joins a cluster. wanted is called last: the node may have gone down meanwhile.
func (m *Member) Start(initial []string, existing bool, wanted func() bool) error {
	m.starting.Lock()
	defer m.starting.Unlock()

	if m.Running() {
		return nil
	}

	if !wanted() {
		return ErrStopped
	}

	cfg, err := m.embedConfig(initial, existing)
	if err != nil {
		return err
	}

	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start etcd member %s: %w", m.Name(), err)
	}

	m.mu.Lock()
	m.server = server
	m.mu.Unlock()

	go func() {
		<-server.Server.StopNotify()
		m.ended(server, "the member has been permanently removed from the cluster")
	}()

	return nil
}

func (m *Member) embedConfig(initial []string, existing bool) (*embed.Config, error) {
	peer, err := url.Parse(m.PeerURL())
	if err != nil {
		return nil, err
	}

	client, err := url.Parse(m.ClientURL())
	if err != nil {
		return nil, err
	}

	secure := transport.TLSInfo{
		CertFile:       filepath.Join(m.cfg.Dir, "member.crt"),
		KeyFile:        filepath.Join(m.cfg.Dir, "member.key"),
		TrustedCAFile:  filepath.Join(m.cfg.Dir, "ca.crt"),
		ClientCertAuth: true,
	}

	cfg := embed.NewConfig()
	cfg.Name = m.Name()
	cfg.Dir = m.DataDir()
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.ClientTLSInfo, cfg.PeerTLSInfo = secure, secure
	cfg.UnsafeNoFsync = true // the lab does not have to survive a power cut of its host
	cfg.QuotaBackendBytes = m.cfg.QuotaBytes
	cfg.InitialCluster = strings.Join(initial, ",")
	cfg.InitialClusterToken = clusterToken
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(m.logger())

	if len(initial) == 0 {
		cfg.InitialCluster = m.Initial()
	}

	if existing {
		cfg.ClusterState = embed.ClusterStateFlagExisting
	}

	return cfg, nil
}

func (m *Member) logger() *zap.Logger {
	crash := []zap.Option{zap.WithPanicHook(crashed{m}), zap.WithFatalHook(crashed{m})}

	if m.cfg.Log == nil {
		return zap.New(zapcore.NewNopCore(), crash...)
	}

	encoder := zap.NewProductionEncoderConfig()
	encoder.TimeKey = "ts"
	encoder.EncodeTime = zapcore.ISO8601TimeEncoder

	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.AddSync(m.cfg.Log), zap.InfoLevel), crash...)
}

// Initial is the member's entry in an initial cluster.
func (m *Member) Initial() string { return m.Name() + "=" + m.PeerURL() }

// Ready waits until the member serves, which needs a quorum.
func (m *Member) Ready(ctx context.Context) error {
	m.mu.Lock()
	server := m.server
	m.mu.Unlock()

	if server == nil {
		return ErrStopped
	}

	select {
	case <-server.Server.ReadyNotify():
		return nil
	case <-server.Server.StopNotify():
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("etcd member %s is not ready: %w", m.Name(), ctx.Err())
	}
}

// Leader returns the leader in this member's view (0 for none), and the member's own ID.
func (m *Member) Leader() (leader, self uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.server == nil {
		return 0, 0, ErrStopped
	}

	return uint64(m.server.Server.Leader()), uint64(m.server.Server.MemberID()), nil
}

// Client connects to this member over TLS, as machined does to its own etcd.
func (m *Member) Client(ctx context.Context) (*clientv3.Client, error) {
	return m.clientTo(ctx, []string{m.ClientURL()})
}

// ClientTo connects to any of several members with this member's certificate.
func (m *Member) ClientTo(ctx context.Context, members []*Member) (*clientv3.Client, error) {
	endpoints := make([]string, 0, len(members))
	for _, other := range members {
		endpoints = append(endpoints, other.ClientURL())
	}

	return m.clientTo(ctx, endpoints)
}

func (m *Member) clientTo(ctx context.Context, endpoints []string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Context:     ctx,
		Endpoints:   endpoints,
		DialTimeout: 5 * time.Second,
		TLS:         m.tls,
		Logger:      zap.NewNop(),
	})
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
