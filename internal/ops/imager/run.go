package imager

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/talosmate/talosmate/internal/container"
	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/registry"
	"github.com/talosmate/talosmate/internal/runbook"
)

// When to run the container with all privileges.
const (
	PrivilegedAuto   = "auto" // When this version and profile need it.
	PrivilegedAlways = "always"
	PrivilegedNever  = "never"
)

// Options configure a build.
type Options struct {
	OutputDir    string
	Lock         string // The lock file, empty for none. It is created if it does not exist.
	UpdateLock   bool   // Resolve again and replace the lock.
	Load         bool   // Load an installer into the engine.
	Push         string // Push an installer to this reference.
	Network      string // The container's network, empty for the engine's default.
	RegistryAuth string // A docker config file for the imager's own pulls.
	Insecure     bool   // The imager may pull over plain HTTP.
	Privileged   string // auto, always or never.
	Timeout      time.Duration
}

// Result is the result of a build.
type Result struct {
	DryRun          bool            `json:"dry_run"`                  // Nothing was run or written.
	Profile         string          `json:"profile"`                  // The imager's profile.
	Kind            Kind            `json:"kind"`                     // What it produces: iso, image, installer, uki, …
	TalosVersion    string          `json:"talos_version"`            // The Talos version.
	Arch            string          `json:"arch"`                     // The architecture.
	Engine          string          `json:"engine"`                   // The container engine: docker, podman or nerdctl.
	EngineVersion   string          `json:"engine_version,omitempty"` // The engine's version.
	Privileged      bool            `json:"privileged"`               // Whether the container ran with all privileges.
	Images          []Input         `json:"images"`                   // Every image that was an input.
	Unresolved      bool            `json:"unresolved,omitempty"`     // Of a dry run: a registry could not be reached, so that images are named by tag and nothing was checked there.
	Command         []string        `json:"command"`                  // The command that was or would be run.
	Document        string          `json:"document,omitempty"`       // The profile on the imager's stdin, every image by digest, an embedded machine configuration redacted.
	LockFile        string          `json:"lock_file,omitempty"`      // The lock file that was used or written.
	OutputDir       string          `json:"output_dir"`               // Where the results are.
	Expected        string          `json:"expected"`                 // The name of the file that this profile makes.
	Files           []Product       `json:"files"`                    // The results; never null.
	Changes         []Change        `json:"changes,omitzero"`         // With --check: what locking again would change.
	Loaded          string          `json:"loaded,omitempty"`         // The name under which the engine has the installer.
	Pushed          *registry.Image `json:"pushed,omitempty"`         // Where the installer was pushed, by digest: ready for an upgrade.
	DurationSeconds float64         `json:"duration_seconds"`         // How long it took.
}

// Builder carries builds out.
type Builder struct {
	Registry Registry
	// Engine finds the container engine.
	Engine func(context.Context) (*container.Engine, error)
	// Guess names the engine for a dry run.
	Guess func() *container.Engine
	Sink  progress.Sink
	Now   func() time.Time
	// Caller is the user and group that are to own the results.
	Caller func() (uid, gid int)
}

// DryRun resolves every image and returns the command that would be run. Images of a registry that cannot be reached keep
// their tags, and the result says so.
func (b *Builder) DryRun(ctx context.Context, build Build, o Options) (Result, error) {
	p, err := b.prepare(ctx, build, o, b.Guess(), true)
	if p.result.Images != nil {
		p.result.DryRun = true
		p.result.Unresolved = o.Lock == "" && slices.ContainsFunc(p.inputs, func(in Input) bool { return in.Digest == "" })
		p.result.Command = p.engine.Argv(build.spec(p.target, p.inputs, b.host(p, o, absolute(o.OutputDir), "")))
	}

	return p.result, err
}

// Run builds. The result is valid even on error.
func (b *Builder) Run(ctx context.Context, build Build, o Options) (result Result, err error) {
	started := b.Now()

	if _, err = build.check(); err != nil {
		return Result{}, err
	}

	limited, cancel := ctx, context.CancelFunc(func() {})
	if o.Timeout > 0 {
		limited, cancel = context.WithTimeoutCause(ctx, o.Timeout,
			errs.New(errs.Timeout, "the build did not finish within %s", o.Timeout).WithHint("--build-timeout sets how long it may take"))
	}

	defer cancel()

	e, err := b.Engine(limited)
	if err != nil {
		return Result{}, err
	}

	p, err := b.prepare(limited, build, o, e, false)
	if err != nil {
		return p.result, err
	}

	err = b.carryOut(limited, build, o, &p)
	p.result.DurationSeconds = b.Now().Sub(started).Seconds()

	return p.result, err
}

// prepared is a build with everything resolved.
type prepared struct {
	target target
	inputs []Input
	epoch  int64
	engine *container.Engine
	result Result
}

func (b *Builder) prepare(ctx context.Context, build Build, o Options, e *container.Engine, byTag bool) (prepared, error) {
	p := prepared{engine: e}

	var err error
	if p.target, err = build.check(); err != nil {
		return p, err
	}

	kind := p.target.profile.Kind
	if (o.Load || o.Push != "") && kind != KindInstaller {
		return p, errs.Usagef("--load and --push are for installers: profile %s makes a %s", p.target.profile.Name, kind)
	}

	b.say("resolve", "resolving images")

	if p.inputs, p.epoch, err = b.inputs(ctx, build, o, p.target, e, byTag); err != nil {
		return p, err
	}

	p.result = Result{
		Profile: p.target.profile.Name, Kind: kind, TalosVersion: build.TalosVersion, Arch: build.Arch,
		Engine: e.Name, EngineVersion: e.Version, Images: p.inputs, LockFile: o.Lock, OutputDir: absolute(o.OutputDir),
		Expected: p.target.profile.Product(build.Arch), Files: []Product{},
	}

	if build.document != nil {
		p.result.Document = build.document.shown(p.inputs, o.Insecure)
	}

	p.result.Privileged = o.Privileged == PrivilegedAlways ||
		o.Privileged != PrivilegedNever && NeedsLoopDevices(p.target.version, kind)

	return p, nil
}

// inputs takes the images from the lock if there is one, and otherwise resolves them.
func (b *Builder) inputs(ctx context.Context, build Build, o Options, t target, e *container.Engine, byTag bool) ([]Input, int64, error) {
	if o.Lock != "" && !o.UpdateLock {
		lock, ok, err := readLock(o.Lock)
		if err != nil {
			return nil, 0, err
		}

		if ok {
			changes, err := lock.mismatch(build)
			if err == nil && len(changes) > 0 {
				err = errs.Usagef("the lock file %s is for another build: %s changed", o.Lock, changes[0].Subject).
					WithHint("lock again with --update-lock; --check shows what would change")
			}

			if err == nil {
				if err = lock.belongs(build, t); err != nil {
					err = errs.Usagef("the lock file %s was changed after it was made: %w", o.Lock, err).
						WithHint("lock again with --update-lock")
				}
			}

			return lock.Images, lock.SourceDateEpoch, err
		}
	}

	inputs, err := resolver{registry: b.Registry, local: e.Has, byTag: byTag && o.Lock == ""}.resolve(ctx, build, t)
	if err != nil || o.Lock == "" {
		return inputs, 0, err
	}

	// Whole days: a build that is locked twice on one day is the same build.
	lock, err := newLock(build, inputs, b.Now().UTC().Truncate(24*time.Hour).Unix())

	return inputs, lock.SourceDateEpoch, err
}

// Check resolves again and reports what would change in the lock file. Without a lock file everything is new.
func (b *Builder) Check(ctx context.Context, build Build, lockFile string) ([]Change, error) {
	t, err := build.check()
	if err != nil {
		return nil, err
	}

	old, ok, err := readLock(lockFile)
	if err != nil {
		return nil, err
	}

	if !ok {
		return nil, errs.Usagef("there is no lock file %s to check against", lockFile).WithHint("a build with --lock writes it")
	}

	inputs, err := resolver{registry: b.Registry}.resolve(ctx, build, t)
	if err != nil {
		return nil, err
	}

	now, err := newLock(build, inputs, old.SourceDateEpoch)
	if err != nil {
		return nil, err
	}

	return old.compare(now), nil
}

func (b *Builder) host(p prepared, o Options, out, name string) host {
	h := host{
		out: out, name: name, network: o.Network, insecure: o.Insecure, privileged: p.result.Privileged, epoch: p.epoch,
	}

	if o.RegistryAuth != "" {
		h.registryAuth = absolute(o.RegistryAuth)
	}

	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		h.selinux = true
	}

	// A root daemon would write files as root; rootless podman maps its root to the caller anyway.
	uid, gid := b.Caller()
	if uid > 0 && p.engine.Name != "podman" && !p.engine.Rootless && !h.privileged && RunsAsUser(p.target.version) {
		h.user = fmt.Sprintf("%d:%d", uid, gid)
	}

	return h
}

// carryOut pulls, runs and collects. It always removes its temporary files.
func (b *Builder) carryOut(ctx context.Context, build Build, o Options, p *prepared) (err error) {
	var undo runbook.Undo

	defer func() {
		if undoErr := undo.Run(ctx, 30*time.Second); undoErr != nil {
			err = errors.Join(err, undoErr)
		}
	}()

	dir := absolute(o.OutputDir)
	if err = os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: images for others to boot from, without secrets
		return diskError(dir, fmt.Errorf("cannot make the output directory: %w", err))
	}

	// In the output directory, so that files can be renamed to their final names.
	scratch, err := os.MkdirTemp(dir, ".talosmate-imager-")
	if err != nil {
		return diskError(dir, fmt.Errorf("cannot make a directory for the build: %w", err))
	}

	uid, gid := b.Caller()
	if os.Geteuid() == 0 && uid > 0 {
		if err = os.Chown(scratch, uid, gid); err != nil {
			return errors.Join(fmt.Errorf("cannot hand the build's directory over: %w", err), os.RemoveAll(scratch))
		}
	}

	undo.Push("remove "+scratch, func(context.Context) error { return os.RemoveAll(scratch) })

	spec := build.spec(p.target, p.inputs, b.host(*p, o, scratch, containerName()))
	p.result.Command = p.engine.Argv(spec)

	if err = b.pull(ctx, p.engine, spec.Image); err != nil {
		return err
	}

	b.say("build", "running "+spec.Image)

	if err = p.engine.Run(ctx, spec, func(line string) { b.say("build", line) }); err != nil {
		return b.explain(ctx, err, p, dir)
	}

	if p.target.profile.Kind == KindInstaller {
		if err = b.finishInstallers(scratch, build, o, p); err != nil {
			return err
		}
	}

	if p.result.Files, err = collect(scratch, dir, owner{uid, gid}); err != nil {
		p.result.Files = []Product{}

		return diskError(dir, err)
	}

	if err = b.saveLock(build, o, p); err != nil {
		return err
	}

	return b.deliver(ctx, o, p)
}

func (b *Builder) pull(ctx context.Context, e *container.Engine, image string) error {
	if e.Has(ctx, image) {
		return nil
	}

	b.say("pull", image)

	return e.Pull(ctx, image, func(line string) { b.say("pull", line) })
}

func (b *Builder) saveLock(build Build, o Options, p *prepared) error {
	if o.Lock == "" {
		return nil
	}

	lock, err := newLock(build, p.inputs, p.epoch)
	if err != nil {
		return err
	}

	if old, ok, err := readLock(o.Lock); err == nil && ok && len(old.compare(lock)) == 0 && old.SourceDateEpoch == lock.SourceDateEpoch {
		return nil
	}

	return lock.write(o.Lock)
}

// explain adds a hint to a container's failure.
func (b *Builder) explain(ctx context.Context, err error, p *prepared, dir string) error {
	var exit *container.ExitError
	if ctx.Err() != nil || !errors.As(err, &exit) {
		return err
	}

	out := errs.New(errs.Failed, "the imager failed: %w", exit)

	switch text := exit.Output; {
	case isFull(text):
		return diskError(dir, fmt.Errorf("the imager failed: %w", exit))
	case strings.Contains(text, "loop") && p.engine.Rootless:
		return out.WithHint("a rootless engine has no loop devices: Talos 1.13 and newer need none, older ones need an engine that runs as root")
	case strings.Contains(text, "loop") && !p.result.Privileged:
		return out.WithHint("this build seems to need loop devices: try --privileged always")
	case strings.Contains(text, "UNAUTHORIZED"), strings.Contains(text, "401 Unauthorized"), strings.Contains(text, "DENIED"):
		return out.WithHint("the imager pulls images itself and does not have your credentials: pass them with --registry-auth FILE")
	default:
		return out.WithHint("the lines above are the imager's own; --progress plain shows all of them")
	}
}

func (b *Builder) say(stage, message string) {
	b.Sink.Emit(progress.Event{Time: b.Now(), Stage: stage, Message: message})
}

// Caller is the user who is to own the results: the one who called sudo, else the process's own.
func Caller(env func(string) (string, bool)) (uid, gid int) {
	uid, gid = os.Geteuid(), os.Getegid()

	if uid != 0 {
		return uid, gid
	}

	number := func(key string) int {
		value, _ := env(key)

		n, err := strconv.Atoi(value)
		if err != nil {
			return 0
		}

		return n
	}

	if u := number("SUDO_UID"); u > 0 {
		return u, number("SUDO_GID")
	}

	return uid, gid
}

// containerName is unique, so that only our own container is ever removed.
func containerName() string { return "talosmate-imager-" + strings.ToLower(rand.Text()[:10]) }
