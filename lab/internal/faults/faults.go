// Package faults holds the named faults that are armed on one simulated node.
package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
)

// The names of faults, as the control endpoint takes them.
const (
	Latency                 = "latency"                    // DUR: delays every RPC that this node executes
	Loss                    = "loss"                       // P: each RPC breaks its connection with this probability
	InstallExitCode         = "install-exit-code"          // N: the next install ends with this exit code
	BootOldSlot             = "boot-old-slot"              // the next upgraded boot falls back to the old slot
	NeverReturn             = "never-return"               // the next reboot never comes back
	ReturnWithoutKubernetes = "return-without-kubernetes"  // after the next boot the kubelet stays down
	LoseExtensions          = "lose-extensions"            // the next install drops the node's extensions
	DropAnswer              = "drop-answer"                // METHOD[:SKIP]: execute the next such RPC, or the one after SKIP others, then cut the connection
	DropRequest             = "drop-request"               // METHOD[:SKIP]: the same, without executing it
	HoldRequest             = "hold-request"               // METHOD[:SKIP]: such RPCs wait, not executed, until the fault is cleared or the caller disconnects
	HoldAnswer              = "hold-answer"                // METHOD[:SKIP]: such RPCs are executed, and their answers wait
	CutStream               = "cut-stream"                 // METHOD:BYTES: cut the next such stream after this many bytes
	FailRPC                 = "fail-rpc"                   // METHOD:CODE:MESSAGE[:COUNT]
	PullError               = "pull-error"                 // TEXT: every pull fails with this error
	PullSlow                = "pull-slow"                  // DUR: every pull takes this long
	DiskFull                = "disk-full"                  // nothing can be written
	RegistryStatus          = "registry-status"            // N: the registry answers with this HTTP status
	EventStreamDead         = "event-stream-dead"          // [end|hang]: event streams end, or stay open without events
	ClockSkew               = "clock-skew"                 // DUR: the node's clock is off by this much
	SlowBoot                = "slow-boot"                  // DUR: every boot takes this much longer
	DefragKills             = "defrag-kills"               // the etcd member dies after the next defragmentation
	LeaveFails              = "leave-fails"                // the next graceful reset cannot leave etcd
	CordonFails             = "cordon-fails"               // no API server: shutdowns, resets and legacy upgrades cannot cordon the node
	TeardownStuck           = "teardown-stuck"             // the next sequence that stops the node cannot unmount its volumes
	ColdBootFails           = "cold-boot-fails"            // a boot through the firmware does not come up; kexec does
	Bootloader              = "bootloader"                 // grub or systemd-boot: the boot loader that the next boot shows
	PlatformConfig          = "platform-config"            // without a configuration on its disk the node boots with its first one
	APIServerDown           = "apiserver-down-after-apply" // the API server does not come up with the next configuration, until another is applied
	ProxyLoses              = "proxy-loses-after-apply"    // the first object of kube-proxy is missing with the next configuration, until another is applied
	ServiceFails            = "service-fails"              // ID: the service is unhealthy in every boot from the next one on
	StaysLearner            = "stays-learner"              // the etcd member is not promoted, as one that cannot catch up
	Discovery               = "discovery"                  // off, alone or missing:NAME[,NAME]: what discovery shows to this node
	Wire                    = "wire"                       // SEED[:KIND[,KIND]]: what a bad network does to the bytes of the node's connections
)

// The boot loaders.
const (
	GRUB        = "grub"
	SystemdBoot = "systemd-boot"
)

// The values of the fault discovery.
const (
	DiscoveryOff     = "off"
	DiscoveryAlone   = "alone"
	DiscoveryMissing = "missing"
)

// ErrUnknown is returned for a fault name that does not exist.
var ErrUnknown = errors.New("unknown fault")

// Fault is one armed fault.
type Fault struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	// Method is the RPC that a fault is limited to, short (Reboot) or full (machine.MachineService/Reboot).
	Method string `json:"method,omitempty"`
	// Count is how often it still applies; 0 means until cleared.
	Count int `json:"count,omitempty"`
	// Skip is how many RPCs pass first.
	Skip  int       `json:"skip,omitempty"`
	Armed time.Time `json:"armed"`

	Code    codes.Code    `json:"-"`
	Message string        `json:"-"`
	N       int64         `json:"-"`
	Names   []string      `json:"-"`
	P       float64       `json:"-"`
	Dur     time.Duration `json:"-"`

	gone chan struct{} // Closed when it is cleared or replaced.
}

// Gone is closed once the fault is disarmed.
func (f *Fault) Gone() <-chan struct{} { return f.gone }

// Set is the faults of one node.
type Set struct {
	mu    sync.Mutex
	armed []*Fault
	log   func(event, detail string)
}

// NewSet makes an empty set that logs when faults are armed and applied.
func NewSet(log func(event, detail string)) *Set {
	if log == nil {
		log = func(string, string) {}
	}

	return &Set{log: log}
}

// Parse reads NAME or NAME=VALUE.
func Parse(spec string) (*Fault, error) {
	name, value, _ := strings.Cut(spec, "=")
	f := &Fault{Name: name, Value: value, Armed: time.Now(), gone: make(chan struct{})}

	var err error

	switch name {
	case Latency, PullSlow, ClockSkew, SlowBoot:
		f.Dur, err = time.ParseDuration(value)
	case Loss:
		f.P, err = strconv.ParseFloat(value, 64)
		if err == nil && (f.P < 0 || f.P > 1) {
			err = errors.New("probability must lie between 0 and 1")
		}
	case InstallExitCode:
		f.Count = 1
		f.N, err = strconv.ParseInt(value, 10, 32)
	case RegistryStatus:
		f.N, err = strconv.ParseInt(value, 10, 32)
	case BootOldSlot, NeverReturn, ReturnWithoutKubernetes, LoseExtensions, DefragKills, LeaveFails, TeardownStuck, APIServerDown, ProxyLoses:
		f.Count = 1
	case DiskFull, PlatformConfig, CordonFails, ColdBootFails, StaysLearner:
	case PullError:
		if value == "" {
			err = errors.New("needs the error text")
		}
	case EventStreamDead:
		if value == "" {
			f.Value = "end"
		} else if value != "end" && value != "hang" {
			err = errors.New("must be end or hang")
		}
	case DropAnswer, DropRequest, HoldRequest, HoldAnswer:
		if name == DropAnswer || name == DropRequest {
			f.Count = 1
		}

		m, skip, ok := cutLast(value)
		if ok {
			f.Skip, err = strconv.Atoi(skip)
		}

		if err == nil {
			f.Method, err = method(m)
		}
	case CutStream:
		f.Count = 1

		m, n, ok := cutLast(value)
		if !ok {
			return nil, fmt.Errorf("fault %s: want METHOD:BYTES", name)
		}

		if f.Method, err = method(m); err == nil {
			f.N, err = strconv.ParseInt(n, 10, 64)
		}
	case FailRPC:
		err = parseFailRPC(f, value)
	case Bootloader:
		if value != GRUB && value != SystemdBoot {
			err = errors.New("must be grub or systemd-boot")
		}
	case ServiceFails:
		if value == "" {
			err = errors.New("needs the service")
		}
	case Discovery:
		err = parseDiscovery(f, value)
	case Wire:
		err = parseWire(f, value)
	default:
		return nil, fmt.Errorf("%w %q", ErrUnknown, name)
	}

	if err != nil {
		return nil, fmt.Errorf("fault %s: %w", name, err)
	}

	return f, nil
}

func parseDiscovery(f *Fault, value string) error {
	names, missing := strings.CutPrefix(value, DiscoveryMissing+":")

	switch {
	case value == DiscoveryOff || value == DiscoveryAlone:
	case missing && names != "":
		f.Names = strings.Split(names, ",")
	default:
		return errors.New("must be off, alone or missing:NAME[,NAME]")
	}

	return nil
}

func parseFailRPC(f *Fault, value string) error {
	parts := strings.SplitN(value, ":", 3)
	if len(parts) < 2 {
		return errors.New("want METHOD:CODE:MESSAGE[:COUNT]")
	}

	f.Method = parts[0]

	code, ok := parseCode(parts[1])
	if !ok {
		return fmt.Errorf("unknown gRPC code %q", parts[1])
	}

	f.Code = code

	if len(parts) == 3 {
		f.Message = parts[2]

		if head, last, ok := cutLast(f.Message); ok {
			if n, err := strconv.Atoi(last); err == nil {
				f.Message, f.Count = head, n
			}
		}
	}

	return nil
}

func parseCode(name string) (codes.Code, bool) {
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if strings.EqualFold(c.String(), name) || strings.EqualFold(strings.ReplaceAll(name, "_", ""), c.String()) {
			return c, true
		}
	}

	return 0, false
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}

	return s[:i], s[i+1:], true
}

func method(s string) (string, error) {
	if s == "" {
		return "", errors.New("needs a METHOD")
	}

	return s, nil
}

// Arm adds a fault; one of the same name and method is replaced.
func (s *Set) Arm(f *Fault) {
	s.mu.Lock()
	s.disarm(func(o *Fault) bool { return o.Name == f.Name && o.Method == f.Method })
	s.armed = append(s.armed, f)
	s.mu.Unlock()

	s.log("fault-armed", f.Name+"="+f.Value)
}

// Clear removes the faults of a name, or all for an empty name, and returns their number.
func (s *Set) Clear(name string) int {
	s.mu.Lock()
	before := len(s.armed)
	s.disarm(func(o *Fault) bool { return name == "" || o.Name == name })
	n := before - len(s.armed)
	s.mu.Unlock()

	if n > 0 {
		s.log("fault-cleared", name)
	}

	return n
}

// disarm removes faults and releases what they hold.
func (s *Set) disarm(which func(*Fault) bool) {
	s.armed = slices.DeleteFunc(s.armed, func(f *Fault) bool {
		if !which(f) {
			return false
		}

		if f.gone != nil {
			close(f.gone)
		}

		return true
	})
}

// Hold logs that a fault holds an RPC, and waits until the fault releases it or the caller has disconnected, which it
// logs too.
func (s *Set) Hold(ctx context.Context, f Fault) {
	s.log("fault-holds", f.Name+"="+f.Value)

	select {
	case <-f.Gone():
	case <-ctx.Done():
		s.log("fault-left", f.Name+"="+f.Value)
	}
}

// Struck logs that a fault that stays armed has had an effect.
func (s *Set) Struck(name, detail string) { s.log("fault-struck", name+"="+detail) }

// List returns copies of the armed faults.
func (s *Set) List() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()

	out := make([]Fault, 0, len(s.armed))
	for _, f := range s.armed {
		out = append(out, *f)
	}

	return out
}

// Get returns a fault that stays armed.
func (s *Set) Get(name string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, f := range s.armed {
		if f.Name == name {
			return *f, true
		}
	}

	return Fault{}, false
}

// Take returns a fault and decrements its count.
func (s *Set) Take(name string) (Fault, bool) {
	return s.take(func(f *Fault) bool { return f.Name == name })
}

// TakeFor returns the fault of a name that matches the full method name.
func (s *Set) TakeFor(name, fullMethod string) (Fault, bool) {
	return s.take(func(f *Fault) bool { return f.Name == name && Matches(f.Method, fullMethod) })
}

func (s *Set) take(match func(*Fault) bool) (Fault, bool) {
	s.mu.Lock()

	i := slices.IndexFunc(s.armed, match)
	if i < 0 {
		s.mu.Unlock()

		return Fault{}, false
	}

	if s.armed[i].Skip > 0 {
		s.armed[i].Skip--
		s.mu.Unlock()

		return Fault{}, false
	}

	f := *s.armed[i]

	if f.Count > 0 {
		s.armed[i].Count--
		if s.armed[i].Count == 0 {
			s.armed = slices.Delete(s.armed, i, i+1)
		}
	}

	s.mu.Unlock()
	s.log("fault-struck", f.Name+"="+f.Value)

	return f, true
}

// Matches reports whether a method as the user writes it is the full gRPC method name.
func Matches(name, fullMethod string) bool {
	full := strings.TrimPrefix(fullMethod, "/")
	name = strings.TrimPrefix(name, "/")

	if strings.EqualFold(name, full) || name == "*" {
		return true
	}

	service, short, _ := strings.Cut(full, "/")
	if strings.EqualFold(name, short) {
		return true
	}

	// ImageService/Pull and ImageService.Pull without the package
	_, bare, _ := strings.Cut(service, ".")

	return strings.EqualFold(strings.ReplaceAll(name, "/", "."), bare+"."+short)
}
