package conn

import (
	"errors"
	"fmt"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/api/storage"
	"google.golang.org/grpc/codes"

	"github.com/talosmate/talosmate/internal/errs"
)

// longCalls lists the calls that are answered only when their work is done.
func longCalls() []string {
	return []string{
		machine.MachineService_EtcdDefragment_FullMethodName,
		machine.MachineService_EtcdLeaveCluster_FullMethodName,
		machine.MachineService_ImagePull_FullMethodName,
		machine.MachineService_Upgrade_FullMethodName,
		storage.StorageService_BlockDeviceWipe_FullMethodName,
	}
}

// isChange reports whether a call may change something: every call that is not known to be a read, except a dry run.
func isChange(method string, request any) bool {
	if apply, ok := request.(*machine.ApplyConfigurationRequest); ok && apply.GetDryRun() {
		return false
	}

	return !isRead(method)
}

// isRead reports whether a method is known to change nothing.
func isRead(method string) bool {
	switch method[strings.LastIndexByte(method, '/')+1:] {
	case "Get", "List", "Watch", // of resources, files and images
		"CPUFreqStats", "CPUInfo", "Containers", "ControllerRuntimeDependencies", "Copy", "DiskStats", "DiskUsage", "Disks", "Dmesg",
		"EtcdAlarmList", "EtcdDowngradeValidate", "EtcdMemberList", "EtcdSnapshot", "EtcdStatus", "Events", "HealthCheck", "Hostname", "ImageList",
		"Kubeconfig", "LoadAvg", "Logs", "LogsContainers", "Memory", "Mounts", "Netstat", "NetworkDeviceStats", "PacketCapture", "Processes",
		"Read", "ServiceList", "Stats", "SystemStat", "Time", "TimeCheck", "Verify", "Version":
		return true
	default:
		return false
	}
}

// lostAnswer reports whether a call that was sent may have been carried out although its answer did not arrive. Every
// error of the transport itself counts: a passed deadline, a broken connection or stream, an answer that could not be
// read.
func (e *rpcError) lostAnswer() bool {
	switch e.code { //nolint:exhaustive // any other code is an answer of the node
	case codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.Unavailable:
		return !e.undelivered && !behind(e.message) && !EtcdRefused(e)
	case codes.Unknown:
		return e.message == "EOF"
	case codes.Internal:
		return says(e, "RST_STREAM", "without sending trailers", "unmarshal", "grpc: ", "unexpected EOF")
	case codes.ResourceExhausted:
		return says(e, "received message larger than max", "larger than max")
	default:
		return false
	}
}

// afterSending corrects the translation of a changing call that was sent, so that it claims no more than is known: a
// lost answer is an unknown outcome, and an error from the node is never called unreachable.
func (e *rpcError) afterSending() {
	switch {
	case e.kind == errs.KindInterrupted:
	case e.lostAnswer():
		e.kind, e.exit, e.retryable = errs.KindUnknownOutcome, errs.Unknown, false
		e.hint = "the request was sent and its answer was lost: check the node before you send it again"
	case e.kind == errs.KindUnreachable || e.kind == errs.KindTimeout:
		e.exit = errs.Failed
	}
}

// AfterChange is the error of work that may have changed the node: where it could not be read what became of that, the
// outcome is not known, and the node is never one that was not reached.
func (c *Conn) AfterChange(err error) error {
	if code := errs.ExitCode(err); !c.changed.Load() || code != errs.Unreachable && code != errs.Timeout {
		return err
	}

	return &errs.Error{
		Exit: errs.Unknown, Kind: errs.KindUnknownOutcome, Node: c.Address, Hostname: c.Whole().Hostname,
		Hint: "it was changed: read its state before you repeat the command",
		Err:  fmt.Errorf("what became of the change is not known: %w", err),
	}
}

// Undelivered reports whether a call was not sent: no connection to the node, or to the endpoint in front of it, could
// be made, so nothing was carried out.
func Undelivered(err error) bool {
	var (
		rpc    *rpcError
		unsent *unsentError
	)

	return errors.As(err, &unsent) || errors.As(err, &rpc) && rpc.undelivered
}

// unsentError is why a change was not sent.
type unsentError struct{ error }

// Unwrap returns the reason.
func (e *unsentError) Unwrap() error { return e.error }
