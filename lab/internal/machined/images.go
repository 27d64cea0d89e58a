package machined

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/talosmate/talosmate/lab/internal/images"
)

// imageService is machine.ImageService, which is new in Talos 1.13.
type imageService struct {
	machine.UnimplementedImageServiceServer
	*Service
}

// store selects the image store as machined's containerd helper does.
func store(c *common.ContainerdInstance) (images.Namespace, error) {
	switch c.GetDriver() {
	case common.ContainerDriver_CRI:
		switch c.GetNamespace() {
		case common.ContainerdNamespace_NS_CRI:
			return images.CRI, nil
		case common.ContainerdNamespace_NS_SYSTEM:
			return images.System, nil
		default:
			return "", status.Errorf(codes.InvalidArgument, "unsupported namespace %s", c.GetNamespace())
		}
	case common.ContainerDriver_CONTAINERD:
		switch c.GetNamespace() {
		case common.ContainerdNamespace_NS_SYSTEM:
			return images.InMemory, nil
		case common.ContainerdNamespace_NS_CRI:
			return "", status.Error(codes.InvalidArgument, "cannot use CRI namespace with containerd driver")
		default:
			return "", status.Errorf(codes.InvalidArgument, "unsupported namespace %s", c.GetNamespace())
		}
	default:
		return "", status.Errorf(codes.InvalidArgument, "unsupported driver %s", c.GetDriver())
	}
}

// List implements machine.ImageService.
func (s *imageService) List(req *machine.ImageServiceListRequest, srv grpc.ServerStreamingServer[machine.ImageServiceListResponse]) error {
	ns, err := store(req.GetContainerd())
	if err != nil {
		return err
	}

	for _, img := range s.node.Images.List(ns) {
		err := srv.Send(&machine.ImageServiceListResponse{
			Name: img.Name, Digest: img.Digest, Size: img.Size, CreatedAt: timestamppb.New(img.Created), Labels: maps.Clone(img.Labels),
		})
		if err != nil {
			return err
		}
	}

	return nil
}

// Pull implements machine.ImageService.
func (s *imageService) Pull(req *machine.ImageServicePullRequest, srv grpc.ServerStreamingServer[machine.ImageServicePullResponse]) error {
	ns, err := store(req.GetContainerd())
	if err != nil {
		return err
	}

	name, err := s.node.Pull(srv.Context(), ns, req.GetImageRef(), func(layer string, done bool, offset, total int64) {
		if !done {
			_ = srv.Send(progress(layer, machine.ImageServicePullLayerProgress_DOWNLOADING, offset, total)) //nolint:errcheck // as machined: the end of the stream reports it

			return
		}

		_ = srv.Send(progress(layer, machine.ImageServicePullLayerProgress_DOWNLOAD_COMPLETE, 0, 0)) //nolint:errcheck // as machined: the end of the stream reports it
		_ = srv.Send(progress(layer, machine.ImageServicePullLayerProgress_EXTRACT_COMPLETE, 0, 0))  //nolint:errcheck // as machined: the end of the stream reports it
	})
	if err != nil {
		if errors.Is(err, images.ErrNotFound) {
			return status.Errorf(codes.NotFound, "error pulling image: %s", err)
		}

		return err
	}

	return srv.Send(&machine.ImageServicePullResponse{Response: &machine.ImageServicePullResponse_Name{Name: name}})
}

func progress(layer string, st machine.ImageServicePullLayerProgress_Status, offset, total int64) *machine.ImageServicePullResponse {
	return &machine.ImageServicePullResponse{Response: &machine.ImageServicePullResponse_PullProgress{
		PullProgress: &machine.ImageServicePullProgress{
			LayerId:  layer,
			Progress: &machine.ImageServicePullLayerProgress{Status: st, Elapsed: durationpb.New(0), Offset: offset, Total: total},
		},
	}}
}

// Remove implements machine.ImageService.
func (s *imageService) Remove(_ context.Context, req *machine.ImageServiceRemoveRequest) (*emptypb.Empty, error) {
	ns, err := store(req.GetContainerd())
	if err != nil {
		return nil, err
	}

	if !s.node.Images.Remove(ns, req.ImageRef) {
		return nil, status.Errorf(codes.NotFound, "image %s not found", req.ImageRef)
	}

	return &emptypb.Empty{}, nil
}

// ImageList implements machine.MachineService, the API before 1.13.
func (s *Service) ImageList(req *machine.ImageListRequest, srv grpc.ServerStreamingServer[machine.ImageListResponse]) error { //nolint:staticcheck // the old API
	ns, err := legacyStore(req.GetNamespace())
	if err != nil {
		return err
	}

	for _, img := range s.node.Images.List(ns) {
		err := srv.Send(&machine.ImageListResponse{ //nolint:staticcheck // the old API
			Name: img.Name, Digest: img.Digest, Size: img.Size, CreatedAt: timestamppb.New(img.Created),
		})
		if err != nil {
			return err
		}
	}

	return nil
}

func legacyStore(ns common.ContainerdNamespace) (images.Namespace, error) {
	switch ns {
	case common.ContainerdNamespace_NS_CRI:
		return images.CRI, nil
	case common.ContainerdNamespace_NS_SYSTEM:
		return images.System, nil
	default:
		return "", status.Errorf(codes.InvalidArgument, "unsupported namespace %s", ns)
	}
}

// ImagePull implements machine.MachineService, the API before 1.13.
func (s *Service) ImagePull(ctx context.Context, req *machine.ImagePullRequest) (*machine.ImagePullResponse, error) { //nolint:staticcheck // the old API
	ns, err := legacyStore(req.GetNamespace())
	if err != nil {
		return nil, err
	}

	if _, err := s.node.Pull(ctx, ns, req.GetReference(), func(string, bool, int64, int64) {}); err != nil {
		if errors.Is(err, images.ErrNotFound) {
			return nil, status.Errorf(codes.NotFound, "error pulling image: %s", err)
		}

		return nil, err
	}

	return &machine.ImagePullResponse{Messages: []*machine.ImagePull{{}}}, nil //nolint:staticcheck // the old API
}

// lifecycleService is machine.LifecycleService, which is new in Talos 1.13.
type lifecycleService struct {
	machine.UnimplementedLifecycleServiceServer
	*Service
}

// outputChunk is the size in which machined cuts the installer's output: by bytes, not lines.
const outputChunk = 512

// Upgrade implements machine.LifecycleService: it installs and does not activate.
func (s *lifecycleService) Upgrade(req *machine.LifecycleServiceUpgradeRequest, srv grpc.ServerStreamingServer[machine.LifecycleServiceUpgradeResponse]) error {
	return s.install(req.GetContainerd(), req.GetSource().GetImageName(), "upgrade", s.node.Installed(),
		func(p *machine.LifecycleServiceInstallProgress) error {
			return srv.Send(&machine.LifecycleServiceUpgradeResponse{Progress: p})
		})
}

// Install implements machine.LifecycleService: the first installation, in maintenance mode.
func (s *lifecycleService) Install(req *machine.LifecycleServiceInstallRequest, srv grpc.ServerStreamingServer[machine.LifecycleServiceInstallResponse]) error {
	if s.node.Installed() {
		return status.Error(codes.AlreadyExists, "machine is already installed")
	}

	if req.GetDestination().GetDisk() == "" {
		return status.Error(codes.InvalidArgument, "destination disk is required")
	}

	return s.install(req.GetContainerd(), req.GetSource().GetImageName(), "installation", true,
		func(p *machine.LifecycleServiceInstallProgress) error {
			return srv.Send(&machine.LifecycleServiceInstallResponse{Progress: p})
		})
}

// install runs the installer to its end, with the lock, even if the client disconnects; machined's log has the outcome.
func (s *lifecycleService) install(
	instance *common.ContainerdInstance, image, what string, installed bool,
	send func(*machine.LifecycleServiceInstallProgress) error,
) error {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	default:
		return status.Error(codes.FailedPrecondition, "another installation/upgrade is already in progress")
	}

	if !installed {
		return status.Error(codes.FailedPrecondition, "machine is not installed")
	}

	if image == "" {
		return status.Error(codes.InvalidArgument, "installer image name is required")
	}

	ns, err := store(instance)
	if err != nil {
		return status.Errorf(codes.Internal, "%s failed: %v", what, err)
	}

	img, ok := s.node.Images.Get(ns, image)
	if !ok {
		return status.Errorf(codes.Internal, "%s failed: installer image %q not found in containerd store: image %q: not found", what, image, image)
	}

	ref, err := images.ParseReference(image)
	if err != nil {
		return status.Errorf(codes.Internal, "%s failed: %v", what, err)
	}

	if ref.Digest == "" {
		ref.Digest = img.Digest
	}

	m, err := s.node.Registry.Resolve(ref)
	if err != nil {
		return status.Errorf(codes.Internal, "%s failed: %v", what, err)
	}

	out := &chunked{send: func(text string) error {
		return send(&machine.LifecycleServiceInstallProgress{Response: &machine.LifecycleServiceInstallProgress_Message{Message: text}})
	}}

	s.node.Logf("machined", "starting %s: installer_image=%s, disk=%s", what, image, s.node.SystemDiskPath())

	code, err := s.node.Install(image, m, true, out.say)
	if err != nil {
		return status.Errorf(codes.Internal, "%s failed: failed to start task: %v", what, err)
	}

	if err := out.flush(); err != nil {
		s.node.Logf("machined", "error streaming output: failed to send message: %v", err)
	}

	if code == 0 {
		s.node.Logf("machined", "%s completed successfully: exit_code=%d", what, code)
	} else {
		s.node.Logf("machined", "%s failed: exit_code=%d", what, code)
	}

	return send(&machine.LifecycleServiceInstallProgress{Response: &machine.LifecycleServiceInstallProgress_ExitCode{ExitCode: int32(code)}})
}

// chunked cuts text into chunks that end anywhere, as a reader of a pipe receives it.
type chunked struct {
	mu   sync.Mutex
	rest string
	send func(string) error
	err  error
}

func (c *chunked) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.rest += text

	for len(c.rest) > outputChunk && c.err == nil {
		c.err = c.send(c.rest[:outputChunk])
		c.rest = c.rest[outputChunk:]
	}
}

func (c *chunked) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.rest != "" && c.err == nil {
		c.err = c.send(c.rest)
		c.rest = ""
	}

	return c.err
}
