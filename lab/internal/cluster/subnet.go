package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// subnet is a /24 of 127/8 that this lab has reserved.
type subnet struct {
	prefix netip.Prefix
	lock   *os.File
}

// host returns an address of the subnet.
func (s *subnet) host(n int) netip.Addr {
	b := s.prefix.Addr().As4()
	b[2] += byte(n >> 8)
	b[3] = byte(n)

	return netip.AddrFrom4(b)
}

func (s *subnet) release() {
	if s.lock != nil {
		s.lock.Close() //nolint:errcheck
	}
}

// claimSubnet takes the given subnet, or any free one. A lock file, held while the lab runs, separates labs that start
// at the same time, and a probe avoids subnets in which something else listens. Clusters of more than 250 nodes take as
// many adjacent /24s as they need.
func claimSubnet(wanted, lockDir string, nodes int) (*subnet, error) {
	if err := os.MkdirAll(lockDir, 0o755); err != nil {
		return nil, err
	}

	if wanted != "" {
		prefix, err := netip.ParsePrefix(wanted)
		if err != nil {
			return nil, err
		}

		if prefix.Bits() != 24 || !prefix.Addr().IsLoopback() {
			return nil, fmt.Errorf("subnet %s is not a /24 of 127.0.0.0/8", wanted)
		}

		return tryClaim(prefix.Masked(), lockDir)
	}

	step := nodes/250 + 1
	start := os.Getpid()

	for i := range 240 * 16 {
		k := (start + i*7) % (240 * 16)
		a, b := 10+k/16, (k%16)*16

		if step > 16 {
			return nil, errors.New("too many nodes for one subnet")
		}

		s, err := tryClaim(netip.PrefixFrom(netip.AddrFrom4([4]byte{127, byte(a), byte(b), 0}), 24), lockDir)
		if err == nil {
			return s, nil
		}
	}

	return nil, errors.New("no free subnet in 127.0.0.0/8")
}

func tryClaim(prefix netip.Prefix, lockDir string) (*subnet, error) {
	name := strings.ReplaceAll(prefix.Addr().String(), ".", "-") + ".lock"

	f, err := os.OpenFile(filepath.Join(lockDir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}

	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close() //nolint:errcheck

		return nil, fmt.Errorf("subnet %s is taken by another lab: %w", prefix, err)
	}

	s := &subnet{prefix: prefix, lock: f}

	probe, err := net.Listen("tcp", netip.AddrPortFrom(s.host(2), 50000).String())
	if err != nil {
		s.release()

		return nil, fmt.Errorf("subnet %s: %w", prefix, err)
	}

	probe.Close() //nolint:errcheck

	return s, nil
}
