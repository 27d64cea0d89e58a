package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// OnClash states what a merge does with a name that exists already.
type OnClash string

// The ways to resolve a clash.
const (
	Refuse    OnClash = ""          // A usage error.
	Overwrite OnClash = "overwrite" // The new one replaces the old one.
	Rename    OnClash = "rename"    // The new one gets a free name, NAME-1 and so on.
)

// Merged is the result of a merge.
type Merged struct {
	Context   string // The context's name in the result.
	Cluster   string // The cluster's name in the result.
	User      string // The user's name in the result.
	Server    string // The API server's address.
	Overwrote bool   // Something of that name was replaced.
	Renamed   bool   // A clash was solved by renaming.
}

// KubeconfigPath is where kubectl looks first: the first file of $KUBECONFIG, else ~/.kube/config.
func KubeconfigPath(env func(string) (string, bool)) string {
	if list, ok := env("KUBECONFIG"); ok {
		for _, path := range filepath.SplitList(list) {
			if path != "" {
				return path
			}
		}
	}

	home, _ := env("HOME")

	return filepath.Join(home, ".kube", "config")
}

// MergeKubeconfig adds the context of an admin kubeconfig, with its cluster and user, to another kubeconfig (nil for
// none) and makes it the current one. name renames the context. Everything else in the other kubeconfig is kept.
func MergeKubeconfig(into []byte, from Admin, name string, clash OnClash) ([]byte, Merged, error) {
	dst := clientcmdapi.NewConfig()

	if len(into) > 0 {
		var err error
		if dst, err = clientcmd.Load(into); err != nil {
			return nil, Merged{}, errs.Usagef("cannot read the kubeconfig to merge into: %w", err)
		}
	}

	if name == "" {
		name = from.Context
	}

	m := Merged{Context: name, Cluster: from.Cluster, User: from.User, Server: from.Server}

	var clashes []string

	for _, c := range []struct {
		kind, name string
		there      bool
	}{
		{"context", m.Context, dst.Contexts[m.Context] != nil},
		{"cluster", m.Cluster, dst.Clusters[m.Cluster] != nil},
		{"user", m.User, dst.AuthInfos[m.User] != nil},
	} {
		if c.there {
			clashes = append(clashes, fmt.Sprintf("%s %q", c.kind, c.name))
		}
	}

	switch {
	case len(clashes) == 0:
	case clash == Overwrite:
		if err := onlyOf(dst, m); err != nil {
			return nil, m, err
		}

		m.Overwrote = true
	case clash == Rename:
		m.Context = free(m.Context, dst.Contexts)
		m.Cluster = free(m.Cluster, dst.Clusters)
		m.User = free(m.User, dst.AuthInfos)
		m.Renamed = true
	default:
		return nil, m, errs.Usagef("the kubeconfig already has %s", strings.Join(clashes, " and ")).
			WithHint("give --overwrite to replace it, --rename to keep both, or another --context-name")
	}

	from.Context, from.Cluster, from.User = m.Context, m.Cluster, m.User
	src := from.config()
	dst.Clusters[m.Cluster], dst.AuthInfos[m.User], dst.Contexts[m.Context] = src.Clusters[m.Cluster], src.AuthInfos[m.User], src.Contexts[m.Context]
	dst.CurrentContext = m.Context

	raw, err := clientcmd.Write(*dst)

	return raw, m, err
}

// onlyOf refuses to replace a cluster or a user that another context uses: that context would then reach another
// server, or use another user.
func onlyOf(dst *clientcmdapi.Config, m Merged) error {
	for _, name := range slices.Sorted(maps.Keys(dst.Contexts)) {
		ctx := dst.Contexts[name]

		for _, shared := range []struct {
			kind, name string
			used       bool
		}{
			{"cluster", m.Cluster, ctx.Cluster == m.Cluster && dst.Clusters[m.Cluster] != nil},
			{"user", m.User, ctx.AuthInfo == m.User && dst.AuthInfos[m.User] != nil},
		} {
			if name != m.Context && shared.used {
				return errs.Usagef("cannot replace the %s %q: the context %q uses it too", shared.kind, shared.name, name).
					WithHint("give --rename to keep both, or --context-name %s to replace that context", name)
			}
		}
	}

	return nil
}

func free[T any](name string, taken map[string]T) string {
	for i := 0; ; i++ {
		candidate := name
		if i > 0 {
			candidate = fmt.Sprintf("%s-%d", name, i)
		}

		if _, there := taken[candidate]; !there {
			return candidate
		}
	}
}

// ReadKubeconfig reads a file that may be missing.
func ReadKubeconfig(path string) ([]byte, error) {
	raw, err := fsutil.ReadFile(path, fsutil.MaxText)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}

	if err != nil {
		return nil, errs.Usagef("cannot read the kubeconfig: %w", err)
	}

	return raw, nil
}

// Contexts names the contexts of a kubeconfig file, none if it cannot be read.
func Contexts(path string) []string {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil
	}

	return slices.Sorted(maps.Keys(config.Contexts))
}
