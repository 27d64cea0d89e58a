package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The kinds of the fault wire: what a bad network does to the bytes of a connection. Each but the first two happens
// once in a direction, at some byte.
const (
	WireDelay     = "delay"      // some pieces arrive late
	WireSlow      = "slow"       // little bandwidth
	WireReset     = "reset"      // the connection is reset
	WireClose     = "close"      // the connection is closed, as by a proxy that restarts
	WireCorrupt   = "corrupt"    // one bit flips
	WireDrop      = "drop"       // a piece of the stream is missing
	WireReorder   = "reorder"    // a piece arrives before the one in front of it
	WireBlackHole = "black-hole" // nothing arrives any more, and the connection stays open
)

// WireKinds are all kinds.
func WireKinds() []string {
	return []string{WireDelay, WireSlow, WireReset, WireClose, WireCorrupt, WireDrop, WireReorder, WireBlackHole}
}

func parseWire(f *Fault, value string) error {
	seed, kinds, limited := strings.Cut(value, ":")

	var err error
	if f.N, err = strconv.ParseInt(seed, 10, 64); err != nil {
		return errors.New("want SEED[:KIND[,KIND]]")
	}

	f.Names = WireKinds()
	if limited {
		f.Names = strings.Split(kinds, ",")
	}

	for _, kind := range f.Names {
		if !slices.Contains(WireKinds(), kind) {
			return fmt.Errorf("unknown kind %q: want some of %s", kind, strings.Join(WireKinds(), ", "))
		}
	}

	return nil
}

// Bend is what happens to the bytes of a connection in one direction.
type Bend struct {
	// Late is the longest delay of a piece, 0 for none.
	Late time.Duration
	// Rate is the bandwidth in bytes a second, 0 for no limit.
	Rate int64
	// Strike is the kind that happens at byte At, empty for none.
	Strike string
	At     int64
}

// The shapes of a bad network.
const (
	lateShare, slowShare, strikeShare = 0.4, 0.15, 0.3

	latest           = 60 * time.Millisecond
	slowest, fastest = 64 << 10, 512 << 10 // bytes a second
	strikesWithin    = 17                  // powers of two: a handshake has some thousand bytes, an answer up to some 100,000
)

// Bend returns what happens in one direction of the fault's connection with this number. It depends on the seed, the
// number and the direction only.
func (f *Fault) Bend(connection uint64, in bool) Bend {
	stream := connection << 1
	if in {
		stream |= 1
	}

	random := rand.New(rand.NewPCG(uint64(f.N), stream)) //nolint:gosec // a seed

	var (
		b       Bend
		strikes []string
	)

	// Every number is drawn, whatever the kinds are, so that leaving out a kind does not change the others.
	late, delay := random.Float64(), random.Int64N(int64(latest))+1
	slow, rate := random.Float64(), random.Int64N(fastest-slowest)+slowest
	strike, which, power, within := random.Float64(), random.Float64(), random.IntN(strikesWithin+1), random.Float64()

	for _, kind := range f.Names {
		switch {
		case kind == WireDelay && late < lateShare:
			b.Late = time.Duration(delay)
		case kind == WireSlow && slow < slowShare:
			b.Rate = rate
		case kind != WireDelay && kind != WireSlow:
			strikes = append(strikes, kind)
		}
	}

	if len(strikes) > 0 && strike < strikeShare {
		b.Strike = strikes[int(which*float64(len(strikes)))]
		b.At = int64((1 + within) * float64(int64(1)<<power))
	}

	return b
}
