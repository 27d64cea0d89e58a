// Package cosi serves a node's resources: cosi-project's in-memory state, filled from the recordings and updated by the
// node's state machine.
package cosi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/resource/protobuf"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/talosmate/talosmate/lab/internal/rbac"
)

// recordedType is one resource type in a cosi.yaml.
type recordedType struct {
	Namespace   string         `yaml:"namespace"`
	Sensitivity string         `yaml:"sensitivity"`
	Items       []recordedItem `yaml:"items"`
}

type recordedItem struct {
	Metadata yaml.Node `yaml:"metadata"`
	Spec     yaml.Node `yaml:"spec"`
}

// Seeds are recorded resources that can be put into a state.
type Seeds struct {
	items []resource.Resource
	first time.Time
}

// ParseSeeds reads a cosi.yaml. Types that machinery has get their protobuf form too, so that typed clients can read
// them.
func ParseSeeds(raw []byte) (*Seeds, error) {
	var types map[string]recordedType
	if err := yaml.Unmarshal(raw, &types); err != nil {
		return nil, fmt.Errorf("parse recorded resources: %w", err)
	}

	seeds := &Seeds{}

	for typ, recorded := range types {
		for i := range recorded.Items {
			res, err := fromYAML(&recorded.Items[i])
			if err != nil {
				return nil, fmt.Errorf("recorded resource %s: %w", typ, err)
			}

			seeds.add(res)
		}
	}

	return seeds, nil
}

func (s *Seeds) add(res resource.Resource) {
	s.items = append(s.items, res)

	if created := res.Metadata().Created(); s.first.IsZero() || created.Before(s.first) {
		s.first = created
	}
}

func fromYAML(item *recordedItem) (resource.Resource, error) {
	var md resource.Metadata
	if err := md.UnmarshalYAML(&item.Metadata); err != nil {
		return nil, err
	}

	recorded, err := yaml.Marshal(&item.Spec)
	if err != nil {
		return nil, err
	}

	wire := &v1alpha1.Resource{
		Metadata: &v1alpha1.Metadata{
			Namespace: md.Namespace(), Type: md.Type(), Id: md.ID(), Version: md.Version().String(),
			Phase: md.Phase().String(), Owner: md.Owner(),
		},
		Spec: &v1alpha1.Spec{YamlSpec: string(recorded)},
	}

	if typed, err := typedFromYAML(wire, &item.Spec); err == nil {
		if marshaled, err := protobuf.FromResource(typed); err == nil {
			if m, err := marshaled.Marshal(); err == nil {
				wire.Spec.ProtoSpec = m.Spec.GetProtoSpec() // the text stays that of the release
			}
		}
	}

	res, err := protobuf.Unmarshal(wire)
	if err != nil {
		return nil, err
	}

	*res.Metadata() = md

	return res, nil
}

// typedFromYAML makes machinery's own type for a recorded resource. The registry's decoder returns the empty value to
// fill for an empty message.
func typedFromYAML(wire *v1alpha1.Resource, spec *yaml.Node) (resource.Resource, error) {
	empty, err := protobuf.Unmarshal(&v1alpha1.Resource{Metadata: wire.Metadata, Spec: &v1alpha1.Spec{}})
	if err != nil {
		return nil, err
	}

	typed, err := protobuf.UnmarshalResource(empty)
	if err != nil {
		return nil, err
	}

	if _, raw := typed.(*protobuf.Resource); raw {
		return nil, fmt.Errorf("type %s is not known to machinery", wire.Metadata.Type)
	}

	return typed, decodeSpec(spec, typed)
}

// decodeSpec reads a spec from its YAML. A few types marshal themselves in a form that they cannot unmarshal.
func decodeSpec(spec *yaml.Node, typed resource.Resource) error {
	switch t := typed.(type) {
	case *k8s.Manifest:
		return spec.Decode(&t.TypedSpec().Items)
	case *k8s.StaticPod:
		return spec.Decode(&t.TypedSpec().Pod)
	case *network.EthernetStatus:
		return decodeEthernet(spec, t.TypedSpec())
	default:
		return spec.Decode(typed.Spec())
	}
}

// decodeEthernet reads the features from the mapping in which they are written.
func decodeEthernet(spec *yaml.Node, to *network.EthernetStatusSpec) error {
	rest := *spec
	rest.Content = nil

	for i := 0; i+1 < len(spec.Content); i += 2 {
		if spec.Content[i].Value != "features" {
			rest.Content = append(rest.Content, spec.Content[i], spec.Content[i+1])

			continue
		}

		for f := spec.Content[i+1].Content; len(f) > 1; f = f[2:] {
			to.Features = append(to.Features, network.EthernetFeatureStatus{Name: f[0].Value, Status: f[1].Value})
		}
	}

	features := to.Features
	err := rest.Decode(to)
	to.Features = features

	return err
}

// Without drops the seeds for which the predicate holds.
func (s *Seeds) Without(drop func(resource.Metadata) bool) *Seeds {
	out := &Seeds{first: s.first}

	for _, res := range s.items {
		if !drop(*res.Metadata()) {
			out.items = append(out.items, res)
		}
	}

	return out
}

// backing passes the seeds of one namespace to the in-memory state.
type backing struct {
	items []resource.Resource
}

func (b *backing) Load(_ context.Context, handle inmem.LoadHandler) error {
	for _, res := range b.items {
		if err := handle(res.Metadata().Type(), res); err != nil {
			return err
		}
	}

	return nil
}

func (b *backing) Put(context.Context, resource.Type, resource.Resource) error { return nil }

func (b *backing) Destroy(context.Context, resource.Type, resource.Pointer) error { return nil }

// State is the resources of one boot of one node.
type State struct {
	core state.CoreState
}

// NewState fills a new state with the seeds as if they had been made at boot.
func NewState(seeds *Seeds, boot time.Time) *State {
	byNamespace := map[resource.Namespace][]resource.Resource{}

	for _, seed := range seeds.items {
		res := seed.DeepCopy()
		md := res.Metadata()
		md.SetCreated(boot.Add(md.Created().Sub(seeds.first)))
		md.SetUpdated(boot.Add(md.Updated().Sub(seeds.first)))

		byNamespace[md.Namespace()] = append(byNamespace[md.Namespace()], res)
	}

	return &State{core: namespaced.NewState(func(ns resource.Namespace) state.CoreState {
		return inmem.NewStateWithOptions(inmem.WithBackingStore(&backing{items: byNamespace[ns]}))(ns)
	})}
}

// Core is the unrestricted state, for the node itself.
func (s *State) Core() state.CoreState { return s.core }

// Put makes a resource equal to the given one: it is created, updated if it differs, or left alone.
func (s *State) Put(ctx context.Context, res resource.Resource, owner string) error {
	current, err := s.core.Get(ctx, res.Metadata())
	if state.IsNotFoundError(err) {
		return s.core.Create(ctx, res, state.WithCreateOwner(owner))
	}

	if err != nil {
		return err
	}

	if same(current, res) {
		return nil
	}

	md := current.Metadata().Copy()
	*res.Metadata() = md

	return s.core.Update(ctx, res, state.WithUpdateOwner(md.Owner()), state.WithExpectedPhaseAny())
}

func same(a, b resource.Resource) bool {
	pa, errA := protobuf.FromResource(a)
	pb, errB := protobuf.FromResource(b)

	if errA != nil || errB != nil {
		return false
	}

	wa, errA := pa.Marshal()
	wb, errB := pb.Marshal()

	return errA == nil && errB == nil && string(wa.Spec.ProtoSpec) == string(wb.Spec.ProtoSpec) && wa.Spec.YamlSpec == wb.Spec.YamlSpec
}

// Remove destroys a resource if it exists.
func (s *State) Remove(ctx context.Context, ptr resource.Pointer) error {
	current, err := s.core.Get(ctx, ptr)
	if state.IsNotFoundError(err) {
		return nil
	}

	if err != nil {
		return err
	}

	res := current.DeepCopy()
	for _, fin := range *res.Metadata().Finalizers() {
		res.Metadata().Finalizers().Remove(fin)
	}

	if !current.Metadata().Finalizers().Empty() {
		if err := s.core.Update(ctx, res, state.WithUpdateOwner(current.Metadata().Owner()), state.WithExpectedPhaseAny()); err != nil {
			return err
		}
	}

	return s.core.Destroy(ctx, ptr, state.WithDestroyOwner(current.Metadata().Owner()))
}

// Get reads one resource.
func (s *State) Get(ctx context.Context, ptr resource.Pointer) (resource.Resource, error) {
	return s.core.Get(ctx, ptr)
}

// List reads all resources of a kind.
func (s *State) List(ctx context.Context, kind resource.Kind) ([]resource.Resource, error) {
	list, err := s.core.List(ctx, kind)

	return list.Items, err
}

// Guarded is the state as the API shows it: read-only, known types and namespaces only, sensitive types for os:admin
// only.
func (s *State) Guarded() state.CoreState {
	return state.Filter(s.core, func(ctx context.Context, access state.Access) error {
		if !access.Verb.Readonly() {
			return status.Error(codes.PermissionDenied, "write access is not allowed")
		}

		definition, err := s.core.Get(ctx, resource.NewMetadata(meta.NamespaceName, meta.ResourceDefinitionType, strings.ToLower(access.ResourceType), resource.VersionUndefined))
		if err != nil {
			if state.IsNotFoundError(err) {
				return status.Errorf(codes.PermissionDenied, "resource type %q is not supported", access.ResourceType)
			}

			return err
		}

		if sensitive(definition) && !rbac.Roles(ctx).Includes(role.Admin) {
			return rbac.ErrNotAuthorized
		}

		if _, err = s.core.Get(ctx, resource.NewMetadata(meta.NamespaceName, meta.NamespaceType, access.ResourceNamespace, resource.VersionUndefined)); err != nil {
			if state.IsNotFoundError(err) {
				return status.Errorf(codes.PermissionDenied, "namespace %q is not supported", access.ResourceNamespace)
			}

			return err
		}

		return nil
	})
}

func sensitive(definition resource.Resource) bool {
	typed := definition

	if raw, ok := definition.(*protobuf.Resource); ok {
		decoded, err := protobuf.UnmarshalResource(raw)
		if err != nil {
			return true
		}

		typed = decoded
	}

	rd, ok := typed.(*meta.ResourceDefinition)

	return !ok || rd.TypedSpec().Sensitivity == meta.Sensitive
}
