// Command kubebed is a Kubernetes control plane in one binary, and the
// supervisor that runs it with machines that do not exist.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/talosmate/talosmate/lab/kube/internal/bed"
	"github.com/talosmate/talosmate/lab/kube/internal/control"
	"github.com/talosmate/talosmate/lab/kube/internal/kubelet"
)

const usage = `usage:
  kubebed up --dir DIR --nodes FILE.json [flags]   run a cluster until SIGTERM
  kubebed COMPONENT [flags]                        be etcd, kube-apiserver,
                                                   kube-controller-manager or kube-scheduler
`

// asChild is set in the environment of the children.
const asChild = "KUBEBED_CHILD"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	if args[0] != "up" {
		if os.Getenv(asChild) != "" {
			go bed.WhenOrphaned(context.Background(), func() { os.Exit(1) })
		}
		code, known := runComponent(args[0], args[1:])
		if !known {
			fmt.Fprintf(stderr, "kubebed: no command or component %q in this binary\n%s", args[0], usage)
			return 2
		}
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	err := up(ctx, args[1:], stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "kubebed: %v\n", err)
		return 2
	default:
		fmt.Fprintf(stderr, "kubebed: %v\n", err)
		return 1
	}
}

var errUsage = errors.New("usage")

// options are the flags of up.
type options struct {
	dir, nodes, control string
	withParent          bool
	startTimeout        time.Duration
	timing              kubelet.Timing
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{timing: kubelet.DefaultTiming()}
	f := flag.NewFlagSet("kubebed up", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.dir, "dir", "", "directory for kubeconfig, keys, logs and etcd's data (required)")
	f.StringVar(&o.nodes, "nodes", "", "JSON file with the machines, - for standard input (required)")
	f.StringVar(&o.control, "control", "127.0.0.1:0", "loopback address of the control interface")
	f.BoolVar(&o.withParent, "with-parent", true, "exit when the process that started this one exits")
	f.DurationVar(&o.startTimeout, "start-timeout", 2*time.Minute, "give up if the machines are not ready by then")
	f.DurationVar(&o.timing.Boot, "boot", o.timing.Boot, "time from a kubelet's start to its being ready")
	f.DurationVar(&o.timing.PodStart, "pod-start", o.timing.PodStart, "time a pod takes to become ready")
	f.DurationVar(&o.timing.PodStop, "pod-stop", o.timing.PodStop, "time a pod takes to shut down")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", errUsage, err)
	}
	if o.dir == "" || o.nodes == "" || f.NArg() > 0 {
		return o, fmt.Errorf("%w: up needs --dir and --nodes and no arguments", errUsage)
	}
	host, _, err := net.SplitHostPort(o.control)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		// The interface has no authentication.
		return o, fmt.Errorf("%w: --control %s is not a loopback address with a port", errUsage, o.control)
	}
	return o, nil
}

func up(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	specs, err := readNodes(o.nodes)
	if err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("own path: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.withParent {
		go bed.WhenOrphaned(ctx, cancel)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.control)
	if err != nil {
		return fmt.Errorf("control interface: %w", err)
	}
	defer listener.Close() //nolint:errcheck // closed by Serve when it was used
	return bed.Run(ctx, bed.Config{
		Executable: executable, Environment: []string{asChild + "=1"},
		Dir: o.dir, Nodes: specs, Timing: o.timing, StartTimeout: o.startTimeout,
	}, func(ctx context.Context, b *bed.Bed) error {
		return serve(ctx, b, listener, stdout)
	})
}

// serve answers on the control interface until the bed ends.
func serve(ctx context.Context, b *bed.Bed, listener net.Listener, stdout io.Writer) error {
	c := cluster{
		bed:     b,
		url:     "http://" + listener.Addr().String(),
		breaker: func(m bed.Mode, span time.Duration) error { return b.BreakAPIServer(ctx, m, span) },
	}
	server := &http.Server{
		Handler:           control.Handler(b.Kubelets, c),
		ReadHeaderTimeout: 5 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer os.Remove(statusFile(b)) //nolint:errcheck // a client that reads it finds that nothing answers
	if err := announce(b, c.Status(), stdout); err != nil {
		return err
	}
	select {
	case err := <-served:
		return fmt.Errorf("control interface: %w", err)
	case <-ctx.Done():
		return server.Close()
	}
}

func statusFile(b *bed.Bed) string {
	return filepath.Join(filepath.Dir(b.Kubeconfig()), "kubebed.json")
}

// announce reports that the bed is ready: on standard output, and in DIR/kubebed.json for other processes.
func announce(b *bed.Bed, s control.Status, stdout io.Writer) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	text = append(text, '\n')
	if err := os.WriteFile(statusFile(b), text, 0o600); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	if _, err := stdout.Write(text); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

// cluster shows a bed to the control interface.
type cluster struct {
	bed     *bed.Bed
	url     string
	breaker func(bed.Mode, time.Duration) error
}

func (c cluster) Break(mode bed.Mode, span time.Duration) error { return c.breaker(mode, span) }

func (c cluster) Configure(ctx context.Context, s bed.Settings) error { return c.bed.Configure(ctx, s) }

func (c cluster) Status() control.Status {
	s := control.Status{
		Kubeconfig: c.bed.Kubeconfig(),
		Server:     c.bed.Server(),
		Control:    c.url,
		Pid:        os.Getpid(),
		Pids:       []int{},
		Processes:  c.bed.Pids(),
		APIServer:  "up",
	}
	for _, pid := range s.Processes {
		s.Pids = append(s.Pids, pid)
	}
	slices.Sort(s.Pids)
	if mode := c.bed.Outage(); mode != "" {
		s.APIServer = string(mode)
	}
	return s
}

func readNodes(file string) ([]kubelet.Spec, error) {
	if file == "-" {
		return bed.ReadNodes(os.Stdin)
	}
	f, err := os.Open(file) //nolint:gosec // the user's own file
	if err != nil {
		return nil, fmt.Errorf("nodes: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	return bed.ReadNodes(f)
}
