package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/kube"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/etcd"
	"github.com/talosmate/talosmate/internal/ops/health"
	"github.com/talosmate/talosmate/internal/ops/image"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/support"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/talos"
)

const (
	maxLog    = 1 << 20  // Bytes that are kept of one log.
	maxSent   = 64 << 20 // Bytes that a node may send of one log.
	maxListed = 500      // Logs, containers and types of one node.
)

// nodeReads are the reads of one node: the same documents as those of the commands.
func (o *supportOptions) nodeReads(c *cmdutil.Call, n *talos.Node) support.NodeReads {
	return support.NodeReads{
		Target: n.Target,
		Alive: func(ctx context.Context) error {
			_, err := n.Version(ctx)

			return err
		},
		Config: n.MachineConfig,
		Reads: []support.Read{
			rows(c, n, "version", "version", "VersionList", one(n.Version)),
			rows(c, n, "services", "service list", "ServiceList", n.Services),
			rows(c, n, "containers", "container list", "ContainerList", inBoth(n.Containers)),
			rows(c, n, "container-stats", "container stats", "ContainerStatsList", inBoth(n.ContainerStats)),
			rows(c, n, "images", "image list --namespace all", "ImageList", inBoth(imagesInUse(n))),
			rows(c, n, "processes", "processes", "ProcessList", func(ctx context.Context) ([]talos.Process, error) {
				return n.Processes(ctx, "")
			}),
			rows(c, n, "extensions", "extension list", "ExtensionList", n.NodeExtensions),
			rows(c, n, "memory", "system memory", "MemoryList", one(n.Memory)),
			rows(c, n, "load", "system load", "LoadList", one(n.LoadAverage)),
			rows(c, n, "cpu", "system cpu", "CPUList", one(n.CPU)),
			rows(c, n, "modules", "system modules", "KernelModuleList", n.KernelModules),
			rows(c, n, "disks", "system disks", "DiskList", n.Disks),
			rows(c, n, "mounts", "system mounts", "MountList", n.Mounts),
			rows(c, n, "time", "system time", "ClockList", one(func(ctx context.Context) (talos.Clock, error) { return n.Clock(ctx, "") })),
			rows(c, n, "volumes", "storage volumes", "VolumeList", n.Volumes),
			rows(c, n, "discovered-volumes", "storage discovered", "DiscoveredVolumeList", n.DiscoveredVolumes),
			rows(c, n, "lvm", "storage lvm", "LVMList", n.LVM),
			rows(c, n, "raid", "storage raid", "RAIDArrayList", n.Arrays),
			rows(c, n, "addresses", "network addresses", "AddressList", n.Addresses),
			rows(c, n, "interfaces", "network interfaces", "InterfaceList", func(ctx context.Context) ([]talos.Interface, error) {
				return n.Interfaces(ctx, true)
			}),
			rows(c, n, "routes", "network routes", "RouteList", n.Routes),
			rows(c, n, "resolvers", "network resolvers", "ResolverList", n.Resolvers),
			rows(c, n, "hostname", "network hostname", "HostnameList", n.HostnameStatus),
			rows(c, n, "sockets", "network netstat --process", "SocketList", func(ctx context.Context) ([]talos.Socket, error) {
				return n.Sockets(ctx, talos.SocketFilter{Process: true})
			}),
			rows(c, n, "kubespan", "network kubespan", "KubeSpanPeerList", n.KubeSpanPeers),
			{Path: "machineconfig.yaml", Command: "machineconfig get", Do: func(ctx context.Context) (support.Content, error) { return configText(ctx, n) }},
			{Path: "dmesg.log", Command: "dmesg", Do: func(ctx context.Context) (support.Content, error) {
				text := tail{lines: o.tail}
				err := n.Dmesg(ctx, false, c.Idle(), text.add)

				return text.content(true), err
			}},
			{Path: "logs", Command: "logs", More: func(ctx context.Context) ([]support.Read, error) { return o.serviceLogs(ctx, c, n) }},
			{Path: "container-logs", Command: "logs -k", More: func(ctx context.Context) ([]support.Read, error) { return o.containerLogs(ctx, c, n) }},
			{Path: "resources", Command: "get", More: func(ctx context.Context) ([]support.Read, error) { return resourceReads(ctx, c, n) }},
		},
	}
}

// rows is the read of a list of one node.
func rows[T any, P cmdutil.Row[T]](c *cmdutil.Call, n *talos.Node, name, command, schema string, fetch func(context.Context) ([]T, error)) support.Read {
	return support.Read{Path: name + ".json", Command: command, Do: func(ctx context.Context) (support.Content, error) {
		list, err := fetch(ctx)
		if err != nil {
			return support.Content{}, err
		}

		for i := range list {
			P(&list[i]).SetNode(n.Target)
		}

		return support.Content{Document: output.ListAs(*c.Printer, schema, []string{n.Address}, list, nil)}, nil
	}}
}

// one makes a list of one row.
func one[T any](fetch func(context.Context) (T, error)) func(context.Context) ([]T, error) {
	return func(ctx context.Context) ([]T, error) {
		row, err := fetch(ctx)

		return []T{row}, err
	}
}

// inBoth asks both containerd instances. Without one of them the list would be half a list.
func inBoth[T any](fetch func(context.Context, string) ([]T, error)) func(context.Context) ([]T, error) {
	return func(ctx context.Context) ([]T, error) {
		own, err := fetch(ctx, talos.NamespaceSystem)
		if err != nil {
			return nil, err
		}

		pods, err := fetch(ctx, talos.NamespaceCRI)

		return append(own, pods...), err
	}
}

// imagesInUse reads the images of one containerd instance with what uses them, as the node itself knows it.
func imagesInUse(n *talos.Node) func(context.Context, string) ([]talos.Image, error) {
	return func(ctx context.Context, namespace string) ([]talos.Image, error) {
		list, err := n.Images(ctx, namespace)
		if err != nil {
			return nil, err
		}

		usage, err := image.ReadUsage(ctx, n, namespace)
		if err != nil {
			return nil, err
		}

		return image.Sort(usage.Mark(list)), nil
	}
}

func configText(ctx context.Context, n *talos.Node) (support.Content, error) {
	raw, err := n.MachineConfig(ctx)
	if err != nil {
		return support.Content{}, err
	}

	cfg, err := machineconfig.Parse(raw)
	if err != nil {
		return support.Content{}, n.Blame("read the machine configuration", errors.New(err.Error())) // it is the node's fault
	}

	cfg.Redact()

	text, err := cfg.YAML()

	return support.Content{Text: text}, n.Blame("show the machine configuration", err)
}

func (o *supportOptions) serviceLogs(ctx context.Context, c *cmdutil.Call, n *talos.Node) ([]support.Read, error) {
	ids, err := n.LogIDs(ctx)

	return lists.Map(ids[:min(len(ids), maxListed)], func(id string) support.Read {
		return o.log(c, n, talos.LogRequest{ID: id}, id, "logs "+id)
	}), err
}

func (o *supportOptions) containerLogs(ctx context.Context, c *cmdutil.Call, n *talos.Node) ([]support.Read, error) {
	list, err := n.Containers(ctx, talos.NamespaceCRI)
	list = lists.Filter(list, func(c talos.Container) bool { return !c.Sandbox })

	return lists.Map(list[:min(len(list), maxListed)], func(one talos.Container) support.Read {
		return o.log(c, n, talos.LogRequest{ID: one.ID, Kubernetes: true}, one.ID, "logs -k "+one.ID)
	}), err
}

func (o *supportOptions) log(c *cmdutil.Call, n *talos.Node, r talos.LogRequest, name, command string) support.Read {
	r.Tail, r.Idle = o.tail+1, c.Idle() // one more shows that there are more

	return support.Read{Path: support.File(name) + ".log", Command: output.Line(command), Do: func(ctx context.Context) (support.Content, error) {
		text := tail{lines: o.tail}
		err := n.Logs(ctx, r, text.add)

		return text.content(false), err
	}}
}

// tail keeps the end of a text.
type tail struct {
	lines int
	text  []byte
	sent  int
	cut   bool
}

// add takes a chunk. More than twice of what is kept is never in memory.
func (t *tail) add(chunk []byte) error {
	if t.sent += len(chunk); t.sent > maxSent {
		return fmt.Errorf("the node sends more than %d bytes", maxSent)
	}

	t.text = append(t.text, chunk[max(0, len(chunk)-2*maxLog):]...)
	if len(t.text) > 2*maxLog {
		t.text, t.cut = append([]byte{}, t.text[len(t.text)-maxLog:]...), true
	}

	return nil
}

// content is the end as whole lines.
func (t *tail) content(kernel bool) support.Content {
	text := string(t.text)

	if len(text) > maxLog {
		text, t.cut = text[len(text)-maxLog:], true
	}

	if t.cut {
		_, text, _ = strings.Cut(text, "\n") // the line that was cut
	}

	lines := slices.Collect(strings.Lines(text))
	if more := len(lines) - t.lines; more > 0 {
		text, t.cut = strings.Join(lines[more:], ""), true
	}

	return support.Content{Text: []byte(text), Kernel: kernel, Truncated: t.cut}
}

// resourceReads are the lists of every type that the node has and that is not secret.
func resourceReads(ctx context.Context, c *cmdutil.Call, n *talos.Node) ([]support.Read, error) {
	kinds, err := n.ResourceKinds(ctx)

	var out []support.Read

	for _, kind := range kinds[:min(len(kinds), maxListed)] {
		read := rows(c, n, support.File(strings.ToLower(kind.Type)), "get "+output.Line(kind.Type), "ResourceList", func(ctx context.Context) ([]talos.Resource, error) {
			if kind.Sensitive {
				return nil, support.Skip{Reason: "Talos calls it sensitive"}
			}

			list, err := n.Resources(ctx, kind.DefaultNamespace, kind.Type)
			for i := range list {
				list[i].Spec = redact.Plain(list[i].Spec)
			}

			return list, err
		})

		out = append(out, withoutEmpty(read))
	}

	return out, err
}

// withoutEmpty makes no file of a list without rows. Talos has more types than a node has resources of.
func withoutEmpty(read support.Read) support.Read {
	do := read.Do
	read.Do = func(ctx context.Context) (support.Content, error) {
		content, err := do(ctx)
		if list, ok := content.Document.(output.List[talos.Resource]); ok {
			content.Empty = len(list.Items) == 0
		}

		return content, err
	}

	return read
}

// clusterReads are the reads of the cluster as a whole.
func clusterReads(c *cmdutil.Call, cluster *talos.Cluster, o *supportOptions) ([]support.Read, error) {
	world, err := healthWorld(c, o.now)
	if err != nil {
		return nil, err
	}

	var (
		look sync.Once
		view etcd.View
		fail error
	)

	// One look at etcd serves three documents.
	seen := func(ctx context.Context) (etcd.View, error) {
		look.Do(func() { view, fail = etcd.Look(ctx, cluster) })

		return view, fail
	}

	return []support.Read{
		{Path: "cluster/health.json", Command: "health", Do: func(ctx context.Context) (support.Content, error) {
			r := health.Check(ctx, world(), health.Options{Scope: health.ScopeFull})

			var unhealthy error
			if !r.Healthy {
				unhealthy = errs.New(errs.Negative, "the cluster is not healthy").WithKind(errs.KindNegative)
			}

			return support.Content{Document: output.ResultAs(*c.Printer, "HealthResult", r, unhealthy), Err: unhealthy}, nil
		}},
		whole(c, "cluster/members.json", "members", "MemberList", func(ctx context.Context) ([]talos.Member, error, error) {
			list, err := cluster.Members(ctx)

			return list, nil, err
		}),
		whole(c, "etcd/status.json", "etcd status", "EtcdStatusList", func(ctx context.Context) ([]talos.EtcdStatus, error, error) {
			v, err := seen(ctx)

			return v.StatusRows(), errors.Join(v.Err(true), v.Healthy(true)), err
		}),
		whole(c, "etcd/members.json", "etcd members", "EtcdMemberList", func(ctx context.Context) ([]etcd.ListedMember, error, error) {
			v, err := seen(ctx)

			return v.ListedMembers(), errors.Join(v.Err(false, etcd.PartMembers), v.Consistent()), err
		}),
		whole(c, "etcd/alarms.json", "etcd alarm list", "EtcdAlarmList", func(ctx context.Context) ([]talos.EtcdAlarm, error, error) {
			v, err := seen(ctx)

			return v.Alarms(), v.Err(false, etcd.PartAlarms), err
		}),
		ofKubernetes(c, cluster, "kubernetes/nodes.json", "kubectl get nodes -o wide", "KubernetesNodeList", (*kube.Client).NodeReports),
		ofKubernetes(c, cluster, "kubernetes/pods.json", "kubectl get pods -A -o wide", "KubernetesPodList", (*kube.Client).PodReports),
		ofKubernetes(c, cluster, "kubernetes/events.json", "kubectl get events -A", "KubernetesEventList", (*kube.Client).EventReports),
	}, nil
}

// whole is the read of a list of the cluster. partial is what the document reports as missing.
func whole[T any](c *cmdutil.Call, path, command, schema string, fetch func(context.Context) (list []T, partial, err error)) support.Read {
	return support.Read{Path: path, Command: command, Do: func(ctx context.Context) (support.Content, error) {
		list, partial, err := fetch(ctx)
		if err != nil {
			return support.Content{}, err
		}

		return support.Content{Document: output.ListAs(*c.Printer, schema, nil, list, partial), Err: partial}, nil
	}}
}

// ofKubernetes is the read of a list of Kubernetes. It is skipped where the nodes are not members of it, and for a
// certificate that gets no credentials.
func ofKubernetes[T any](c *cmdutil.Call, cluster *talos.Cluster, path, command, schema string, fetch func(*kube.Client, context.Context) ([]T, error)) support.Read {
	return whole(c, path, command, schema, func(ctx context.Context) ([]T, error, error) {
		if name, err := cluster.Endpoint().KubernetesName(ctx); err == nil && name == "" {
			return nil, nil, support.Skip{Reason: "the control plane that was asked is not a Kubernetes member"}
		}

		k, err := c.Kubernetes(ctx)
		if err != nil && !cluster.Context.HasAnyRole(cmdutil.Admins()) {
			err = support.Skip{Reason: err.Error()}
		}

		if err != nil {
			return nil, nil, err
		}

		list, err := fetch(k, ctx)

		return list, nil, err
	})
}
