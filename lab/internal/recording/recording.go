// Package recording reads the recorded answers of real Talos nodes and
// rewrites their addresses and hostnames to those of the simulated cluster.
package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/talosmate/talosmate/lab/recordings"
)

// Call is one recorded request with all its answers.
type Call struct {
	Message   string            `json:"message"`
	Request   json.RawMessage   `json:"request"`
	Responses []json.RawMessage `json:"responses"`
	Error     *Error            `json:"error"`
}

// Error is the status that ended a recorded call.
type Error struct {
	Code    string `json:"grpc_code"`
	Message string `json:"message"`
}

// Status returns the recorded error as the gRPC error that the client received.
func (e *Error) Status() error {
	if e == nil {
		return nil
	}

	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		if c.String() == e.Code {
			return status.Error(c, e.Message)
		}
	}

	return status.Error(codes.Unknown, e.Message)
}

// Rewriter maps text of the recorded cluster to text of the simulated one.
type Rewriter func(string) string

// Identity is a Rewriter that leaves everything as recorded.
func Identity(s string) string { return s }

// NewRewriter maps recorded addresses 10.5.0.N and 10.6.0.N, and hostnames: nK of the recordings of 1.13, cp-K and
// worker-K of those of 1.14, where the workers follow the three control planes. The callbacks receive the last octet and
// the recorded number (1 to 5); an empty result keeps the recorded text.
func NewRewriter(address func(octet int) string, hostname func(number int) string) Rewriter {
	addresses := regexp.MustCompile(`\b10\.[56]\.0\.(\d{1,3})\b`)
	hostnames := regexp.MustCompile(`\b(?:n[1-5]|cp-[1-3]|worker-[12])\b`)

	return func(text string) string {
		text = addresses.ReplaceAllStringFunc(text, func(match string) string {
			n, _ := strconv.Atoi(match[strings.LastIndexByte(match, '.')+1:]) //nolint:errcheck // the pattern holds digits only
			if to := address(n); to != "" {
				return to
			}

			return match
		})

		return hostnames.ReplaceAllStringFunc(text, func(match string) string {
			number := int(match[len(match)-1] - '0')
			if strings.HasPrefix(match, "worker") {
				number += 3
			}

			if to := hostname(number); to != "" {
				return to
			}

			return match
		})
	}
}

// Set holds the recordings of one node, read through a Rewriter.
type Set struct {
	dir     string
	rewrite Rewriter
}

// Open selects the recordings of one node, e.g. "talos-v1.13.8/cp-1".
func Open(dir string, rewrite Rewriter) *Set {
	if rewrite == nil {
		rewrite = Identity
	}

	return &Set{dir: dir, rewrite: rewrite}
}

// Names lists the recorded calls, e.g. "MachineService.Version".
func (s *Set) Names() ([]string, error) {
	entries, err := fs.ReadDir(recordings.FS, s.dir)
	if err != nil {
		return nil, err
	}

	var names []string

	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			names = append(names, name)
		}
	}

	return names, nil
}

// Call reads one recorded call, rewritten.
func (s *Set) Call(name string) (*Call, error) {
	raw, err := recordings.FS.ReadFile(s.dir + "/" + name + ".json")
	if err != nil {
		return nil, fmt.Errorf("recording %s of %s: %w", name, s.dir, err)
	}

	var c Call
	if err := json.Unmarshal([]byte(s.rewrite(string(raw))), &c); err != nil {
		return nil, fmt.Errorf("recording %s of %s: %w", name, s.dir, err)
	}

	return &c, nil
}

// Has reports whether a call was recorded.
func (s *Set) Has(name string) bool {
	_, err := fs.Stat(recordings.FS, s.dir+"/"+name+".json")

	return err == nil
}

// Unary fills msg with the single answer of a recorded call; a recorded error is returned as the error that the client
// received.
func (s *Set) Unary(name string, msg proto.Message) error {
	c, err := s.Call(name)
	if err != nil {
		return err
	}

	if c.Error != nil {
		return c.Error.Status()
	}

	if len(c.Responses) != 1 {
		return fmt.Errorf("recording %s has %d answers", name, len(c.Responses))
	}

	return unmarshal(c.Responses[0], msg)
}

// Stream decodes every answer of a recorded stream into messages made by mk.
func Stream[T proto.Message](s *Set, name string, mk func() T) ([]T, error) {
	c, err := s.Call(name)
	if err != nil {
		return nil, err
	}

	out := make([]T, 0, len(c.Responses))

	for _, raw := range c.Responses {
		m := mk()
		if err := unmarshal(raw, m); err != nil {
			return nil, err
		}

		out = append(out, m)
	}

	return out, c.Error.Status()
}

// Bytes joins the data chunks of a recorded stream of bytes, rewritten.
func (s *Set) Bytes(name string) ([]byte, error) {
	c, err := s.Call(name)
	if err != nil {
		return nil, err
	}

	if c.Error != nil && len(c.Responses) == 0 {
		return nil, c.Error.Status()
	}

	var out []byte

	for _, raw := range c.Responses {
		var chunk struct {
			Bytes []byte `json:"bytes"`
		}
		if err := json.Unmarshal(raw, &chunk); err != nil {
			return nil, err
		}

		out = append(out, chunk.Bytes...)
	}

	return []byte(s.rewrite(string(out))), nil
}

// Resources reads the recorded COSI resources as YAML, rewritten.
func (s *Set) Resources() ([]byte, error) {
	raw, err := recordings.FS.ReadFile(s.dir + "/cosi.yaml")
	if err != nil {
		return nil, err
	}

	return []byte(s.rewrite(string(raw))), nil
}

func unmarshal(raw json.RawMessage, msg proto.Message) error {
	if len(raw) == 0 {
		return errors.New("empty recorded answer")
	}

	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(raw, msg)
}
