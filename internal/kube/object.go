package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/talosmate/talosmate/internal/errs"
)

// What is read of an object of any kind is bounded: an API server that a cluster extends may answer anything.
const (
	objectTimeout = 10 * time.Second
	objectSize    = 4 << 20
)

// Object reads an object of any kind that the cluster serves, as JSON has it. The namespace of one that is in none is empty.
// Secrets are not read: an expression over one would tell what is in it.
func (c *Client) Object(ctx context.Context, apiVersion, kind, namespace, name string) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()

	if apiVersion == "v1" && kind == "Secret" {
		return nil, errs.Usagef("an expression does not read Secrets")
	}

	base := []string{"/apis"}
	if !strings.Contains(apiVersion, "/") {
		base = []string{"/api"}
	}

	for i, part := range append(strings.Split(apiVersion, "/"), namespace, name) {
		if wrong := rest.IsValidPathSegmentName(part); len(wrong) > 0 || part == "" && i != strings.Count(apiVersion, "/")+1 {
			return nil, errs.Usagef("%q is not an API version, a namespace or a name", part)
		}
	}

	base = append(base, apiVersion)

	var known metav1.APIResourceList
	if err := c.get(ctx, &known, base...); err != nil {
		return nil, &errs.Error{Exit: errs.Failed, Err: fmt.Errorf("the API %s: %w", apiVersion, err), Hint: "`kubectl api-versions` lists those of the cluster"}
	}

	at := slices.IndexFunc(known.APIResources, func(r metav1.APIResource) bool { return r.Kind == kind && !strings.Contains(r.Name, "/") })

	switch {
	case at < 0:
		return nil, errs.Usagef("%s has no kind %q", apiVersion, kind).WithHint("`kubectl api-resources` lists the kinds of the cluster")
	case known.APIResources[at].Namespaced && namespace == "":
		return nil, errs.Usagef("a %s is in a namespace", kind).WithHint(`give it as the third argument: k8s(%q, %q, "NAMESPACE", %q)`, apiVersion, kind, name)
	case !known.APIResources[at].Namespaced && namespace != "":
		return nil, errs.Usagef("a %s is in no namespace", kind).WithHint(`leave the third argument empty: k8s(%q, %q, "", %q)`, apiVersion, kind, name)
	case namespace != "":
		base = append(base, "namespaces", namespace)
	}

	var out map[string]any

	return out, c.get(ctx, &out, append(base, known.APIResources[at].Name, name)...)
}

// get reads one path of the API.
func (c *Client) get(ctx context.Context, into any, path ...string) error {
	body, err := c.API.Discovery().RESTClient().Get().AbsPath(path...).SetHeader("Accept", "application/json").Stream(ctx)
	if err != nil {
		return causeOf(err)
	}
	defer body.Close() //nolint:errcheck // it was read

	raw, err := io.ReadAll(io.LimitReader(body, objectSize+1))

	switch {
	case err != nil:
		return causeOf(err)
	case len(raw) > objectSize:
		return errs.Usagef("it is larger than %d MiB", objectSize>>20)
	}

	return json.Unmarshal(raw, into)
}
