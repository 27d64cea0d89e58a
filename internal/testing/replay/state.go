package replay

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"go.yaml.in/yaml/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// stateServer replays cosi.yaml.
type stateServer struct {
	cosi.UnimplementedStateServer
	*Server
}

type recordedType struct {
	Sensitivity string     `yaml:"sensitivity"`
	Items       []recorded `yaml:"items"`
}

type recorded struct {
	Metadata struct {
		Namespace string            `yaml:"namespace"`
		Type      string            `yaml:"type"`
		ID        string            `yaml:"id"`
		Version   string            `yaml:"version"`
		Owner     string            `yaml:"owner"`
		Phase     string            `yaml:"phase"`
		Created   time.Time         `yaml:"created"`
		Updated   time.Time         `yaml:"updated"`
		Labels    map[string]string `yaml:"labels"`
	} `yaml:"metadata"`
	Spec yaml.Node `yaml:"spec"`
}

// sections returns the recorded types, unparsed: a file is large, and a request is about one of them.
func (s *stateServer) sections(ctx context.Context) (map[string][]string, error) {
	md, _ := metadata.FromIncomingContext(ctx)

	dir, err := s.folder(md)
	if err != nil {
		return nil, err
	}

	raw, err := os.ReadFile(filepath.Join(dir, "cosi.yaml"))
	if err != nil {
		return nil, status.Error(codes.Unimplemented, "no recorded resources")
	}

	all, name := map[string][]string{}, ""

	for line := range strings.Lines(string(raw)) {
		if line[0] != ' ' {
			name = strings.TrimSuffix(line, ":\n")
		} else {
			all[name] = append(all[name], line)
		}
	}

	return all, nil
}

func parse(section []string) (recordedType, error) {
	var t recordedType
	if err := yaml.Unmarshal([]byte(strings.Join(section, "")), &t); err != nil {
		return t, status.Error(codes.Internal, err.Error())
	}

	return t, nil
}

func (s *stateServer) list(ctx context.Context, typ string) ([]*cosi.Resource, error) {
	all, err := s.sections(ctx)
	if err != nil {
		return nil, err
	}

	if typ == "MachineConfigs.config.talos.dev" && s.Config != "" {
		item := recorded{Spec: yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s.Config}}
		item.Metadata.Namespace, item.Metadata.Type, item.Metadata.ID, item.Metadata.Version = "config", typ, "v1alpha1", "1"
		item.Metadata.Phase = "running"

		r, err := resource(item)

		return []*cosi.Resource{r}, err
	}

	t, err := parse(all[typ])
	if err != nil {
		return nil, err
	}

	if t.Sensitivity == "sensitive" {
		return nil, status.Error(codes.PermissionDenied, "not authorized")
	}

	out := make([]*cosi.Resource, 0, len(t.Items))

	for _, item := range t.Items {
		r, err := resource(item)
		if err != nil {
			return nil, err
		}

		out = append(out, r)
	}

	return out, nil
}

func resource(item recorded) (*cosi.Resource, error) {
	spec, err := yaml.Marshal(&item.Spec)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}

	m := item.Metadata

	return &cosi.Resource{
		Metadata: &cosi.Metadata{
			Namespace: m.Namespace, Type: m.Type, Id: m.ID, Version: m.Version, Owner: m.Owner, Phase: m.Phase, Labels: m.Labels,
			Created: timestamppb.New(m.Created), Updated: timestamppb.New(m.Updated),
		},
		Spec: &cosi.Spec{YamlSpec: string(spec)},
	}, nil
}

// Get implements cosi.StateServer.
func (s *stateServer) Get(ctx context.Context, req *cosi.GetRequest) (*cosi.GetResponse, error) {
	list, err := s.list(ctx, req.GetType())
	if err != nil {
		return nil, err
	}

	for _, r := range list {
		if r.GetMetadata().GetId() == req.GetId() && r.GetMetadata().GetNamespace() == req.GetNamespace() {
			return &cosi.GetResponse{Resource: r}, nil
		}
	}

	return nil, status.Errorf(codes.NotFound, "resource %s(%s/%s@undefined) doesn't exist", req.GetType(), req.GetNamespace(), req.GetId())
}

// List implements cosi.StateServer.
func (s *stateServer) List(req *cosi.ListRequest, stream grpc.ServerStreamingServer[cosi.ListResponse]) error {
	list, err := s.list(stream.Context(), req.GetType())
	if err != nil {
		return err
	}

	for _, r := range list {
		if r.GetMetadata().GetNamespace() != req.GetNamespace() {
			continue
		}

		if err = stream.Send(&cosi.ListResponse{Resource: r}); err != nil {
			return err
		}
	}

	return nil
}
