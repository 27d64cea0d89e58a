package faults_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/talosmate/talosmate/lab/internal/faults"
)

func TestParse(t *testing.T) {
	for spec, check := range map[string]func(*faults.Fault) bool{
		"latency=20ms":         func(f *faults.Fault) bool { return f.Dur == 20*time.Millisecond && f.Count == 0 },
		"loss=0.5":             func(f *faults.Fault) bool { return f.P == 0.5 },
		"install-exit-code=3":  func(f *faults.Fault) bool { return f.N == 3 && f.Count == 1 },
		"boot-old-slot":        func(f *faults.Fault) bool { return f.Count == 1 },
		"defrag-kills":         func(f *faults.Fault) bool { return f.Count == 1 },
		"drop-answer=Reboot":   func(f *faults.Fault) bool { return f.Method == "Reboot" },
		"drop-answer=Reboot:2": func(f *faults.Fault) bool { return f.Method == "Reboot" && f.Skip == 2 },
		"drop-request=Reboot":  func(f *faults.Fault) bool { return f.Method == "Reboot" && f.Count == 1 },
		"hold-request=Reboot":  func(f *faults.Fault) bool { return f.Method == "Reboot" && f.Count == 0 },
		"hold-answer=List:2":   func(f *faults.Fault) bool { return f.Method == "List" && f.Skip == 2 && f.Count == 0 },
		"cut-stream=Logs:4096": func(f *faults.Fault) bool { return f.Method == "Logs" && f.N == 4096 },
		"fail-rpc=machine.MachineService/Version:Unavailable:a: b:2": func(f *faults.Fault) bool {
			return f.Code == codes.Unavailable && f.Message == "a: b" && f.Count == 2
		},
		"fail-rpc=Version:not_found:gone": func(f *faults.Fault) bool { return f.Code == codes.NotFound && f.Count == 0 },
		"event-stream-dead":               func(f *faults.Fault) bool { return f.Value == "end" },
		"pull-error=no route to registry": func(f *faults.Fault) bool { return f.Value == "no route to registry" },
		"registry-status=503":             func(f *faults.Fault) bool { return f.N == 503 },
		"wire=7":                          func(f *faults.Fault) bool { return f.N == 7 && len(f.Names) == 8 && f.Count == 0 },
		"wire=7:delay,reset": func(f *faults.Fault) bool {
			return f.N == 7 && slices.Equal(f.Names, []string{faults.WireDelay, faults.WireReset})
		},
		"clock-skew=-5s": func(f *faults.Fault) bool { return f.Dur == -5*time.Second },
	} {
		f, err := faults.Parse(spec)
		if err != nil || !check(f) {
			t.Errorf("%s: %+v %v", spec, f, err)
		}
	}

	for _, spec := range []string{"nosuch", "loss=2", "latency", "drop-answer", "drop-answer=X:y", "cut-stream=Logs", "fail-rpc=X", "fail-rpc=X:Nosuch:y", "pull-error", "event-stream-dead=x", "wire", "wire=x", "wire=1:nosuch"} {
		if _, err := faults.Parse(spec); err == nil {
			t.Errorf("%s: no error", spec)
		}
	}
}

func TestMatches(t *testing.T) {
	const method = "/machine.ImageService/Pull"

	for name, want := range map[string]bool{
		"Pull": true, "pull": true, "machine.ImageService/Pull": true, "/machine.ImageService/Pull": true,
		"ImageService/Pull": true, "ImageService.Pull": true, "*": true,
		"ImagePull": false, "Pul": false, "OtherService/Pull": false,
	} {
		if got := faults.Matches(name, method); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestStrikesAreUsedUp(t *testing.T) {
	s := faults.NewSet(nil)

	f, err := faults.Parse("fail-rpc=Version:Unavailable:x:2")
	if err != nil {
		t.Fatal(err)
	}

	s.Arm(f)

	if _, ok := s.TakeFor(faults.FailRPC, "/machine.MachineService/Reboot"); ok {
		t.Error("struck another method")
	}

	for i := range 3 {
		if _, ok := s.TakeFor(faults.FailRPC, "/machine.MachineService/Version"); ok != (i < 2) {
			t.Errorf("strike %d: %t", i, ok)
		}
	}

	if len(s.List()) != 0 {
		t.Error("still armed")
	}
}

// What is held is let go by the fault's end, or by its caller's.
func TestHold(t *testing.T) {
	var said []string

	s := faults.NewSet(func(event, _ string) { said = append(said, event) })

	f, err := faults.Parse("hold-answer=Reboot")
	if err != nil {
		t.Fatal(err)
	}

	s.Arm(f)

	held, ok := s.TakeFor(faults.HoldAnswer, "/machine.MachineService/Reboot")
	if !ok {
		t.Fatal("does not strike")
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Hold(ctx, held)

	select {
	case <-held.Gone():
		t.Fatal("gone with one caller")
	default:
	}

	s.Clear("")
	s.Hold(t.Context(), held)

	if want := []string{"fault-armed", "fault-struck", "fault-holds", "fault-left", "fault-cleared", "fault-holds"}; !slices.Equal(said, want) {
		t.Errorf("%v, want %v", said, want)
	}
}

func TestSkip(t *testing.T) {
	s := faults.NewSet(nil)

	f, err := faults.Parse("drop-answer=Reboot:2")
	if err != nil {
		t.Fatal(err)
	}

	s.Arm(f)

	for call, want := range []bool{false, false, true, false} {
		if _, got := s.TakeFor(faults.DropAnswer, "/machine.MachineService/Reboot"); got != want {
			t.Errorf("call %d: %t, want %t", call, got, want)
		}
	}
}

func TestValuesOfDiscoveryAndBootLoader(t *testing.T) {
	for spec, valid := range map[string]bool{
		"discovery=off": true, "discovery=alone": true, "discovery=missing:a,b": true, "discovery=missing:": false, "discovery=": false,
		"bootloader=grub": true, "bootloader=systemd-boot": true, "bootloader=lilo": false,
	} {
		if _, err := faults.Parse(spec); (err == nil) != valid {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
