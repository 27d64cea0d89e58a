// Package foreign reads YAML and JSON that this program did not write: answers of nodes and registries, and files of
// the user. It bounds bytes, depth, nodes and aliases, so that code that walks the result ends soon, even if it follows
// aliases.
package foreign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/lists"
)

const (
	maxBytes = 16 << 20
	maxDepth = 200
	// maxMarks bounds the characters that can begin a node, and so the memory for parsing.
	maxMarks = 1_000_000
	// maxKeys bounds the keys of one mapping: the YAML library compares each with each.
	maxKeys = 5_000
	// maxCopies and maxGrowth bound what aliases add: a number of nodes, or a multiple of the nodes that are written
	// out.
	maxCopies = 10_000
	maxGrowth = 10
)

// ErrTooLarge marks input beyond one of the bounds.
var ErrTooLarge = errors.New("too large to be read")

// Documents parses every document of a YAML stream, and returns those before an error too. Aliases are kept; following
// them is bounded.
func Documents(text []byte) ([]*yaml.Node, error) {
	if err := size(text); err != nil {
		return nil, err
	}

	var out []*yaml.Node

	dec := yaml.NewDecoder(bytes.NewReader(text))
	b := budget{bytes: maxBytes}

	for {
		doc := &yaml.Node{}

		err := dec.Decode(doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}

		if err != nil {
			return out, plain(err)
		}

		b.nodes = maxCopies + maxGrowth*count(doc)

		if err = b.spend(doc); err != nil {
			return out, err
		}

		out = append(out, doc)
	}
}

// Document parses the first document of a YAML text. It returns a zero node when there is none.
func Document(text []byte) (*yaml.Node, error) {
	all, err := Documents(text)
	if err != nil || len(all) == 0 {
		return &yaml.Node{}, err
	}

	return all[0], nil
}

// Check returns the reason why a YAML text exceeds the bounds or cannot be parsed, for text that another library reads.
func Check(text []byte) error {
	_, err := Documents(text)

	return err
}

// YAML decodes the first document of a YAML text. Errors do not quote values.
func YAML(text []byte, into any) error {
	if err := Check(text); err != nil {
		return err
	}

	return plain(yaml.Unmarshal(text, into))
}

// Decode decodes a document from Documents. Errors do not quote values.
func Decode(doc *yaml.Node, into any) error { return plain(doc.Decode(into)) }

// Strict decodes like YAML and refuses unknown fields. An empty text is io.EOF.
func Strict(text []byte, into any) error {
	if err := Check(text); err != nil {
		return err
	}

	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)

	return plain(dec.Decode(into))
}

// JSON decodes a JSON text. Errors do not quote values.
func JSON(text []byte, into any) error {
	if err := CheckJSON(text); err != nil {
		return err
	}

	return plain(json.Unmarshal(text, into))
}

// CheckJSON returns the reason why a JSON text exceeds the bounds, for text that another library reads.
func CheckJSON(text []byte) error {
	if len(text) > maxBytes {
		return tooLarge("it has %d bytes, more than %d", len(text), maxBytes)
	}

	if jsonDepth(text) > maxDepth {
		return tooLarge("it is nested more than %d deep", maxDepth)
	}

	return nil
}

func tooLarge(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTooLarge, fmt.Sprintf(format, args...))
}

// size checks what is known before parsing.
func size(text []byte) error {
	if len(text) > maxBytes {
		return tooLarge("it has %d bytes, more than %d", len(text), maxBytes)
	}

	marks := 0
	for _, mark := range []string{",", "\n", "\r", ":", "[", "{", "- ", "-\t", "? ", "\u0085", "\u2028", "\u2029"} {
		marks += bytes.Count(text, []byte(mark))
	}

	if marks > maxMarks {
		return tooLarge("it has more than %d values", maxMarks)
	}

	return nil
}

// count counts the nodes that are written out.
func count(n *yaml.Node) int {
	total := 1
	for _, c := range n.Content {
		total += count(c)
	}

	return total
}

// budget is the number of nodes that a walk along aliases may still visit.
type budget struct {
	nodes, bytes int
	above        []*yaml.Node
}

func (b *budget) spend(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		if slices.Contains(b.above, n.Alias) {
			return tooLarge("line %d: the alias *%s contains itself", n.Line, n.Value)
		}

		return b.spend(n.Alias)
	}

	b.nodes--
	b.bytes -= len(n.Value)

	switch {
	case len(b.above) > maxDepth:
		return tooLarge("line %d: it is nested more than %d deep", n.Line, maxDepth)
	case b.nodes < 0 || b.bytes < 0:
		return tooLarge("line %d: aliases make it many times larger than it is written", n.Line)
	case n.Kind == yaml.MappingNode && len(n.Content) > 2*maxKeys:
		return tooLarge("line %d: a mapping has more than %d keys", n.Line, maxKeys)
	}

	b.above = append(b.above, n)

	for _, c := range n.Content {
		if err := b.spend(c); err != nil {
			return err
		}
	}

	b.above = b.above[:len(b.above)-1]

	return nil
}

// jsonDepth is how deep arrays and objects are nested.
func jsonDepth(text []byte) int {
	depth, deepest, quoted := 0, 0, false

	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
			deepest = max(deepest, depth)
		case c == ']' || c == '}':
			depth--
		}
	}

	return deepest
}

// plain turns a decoder's error into one that quotes no value of the input, which may be a secret.
func plain(err error) error {
	var (
		several  *yaml.LoadErrors
		mismatch *json.UnmarshalTypeError
		number   *strconv.NumError
		stamp    *time.ParseError
	)

	switch {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case errors.As(err, &several):
		return errors.Join(lists.Map(several.Errors, func(e *yaml.LoadError) error {
			return fmt.Errorf("line %d: %w", e.Mark.Line, plain(cause(e)))
		})...)
	case errors.As(err, &mismatch):
		return fmt.Errorf("byte %d: field %s is not of type %s", mismatch.Offset, mismatch.Field, mismatch.Type)
	case errors.As(err, &number):
		return fmt.Errorf("a number cannot be read: %w", number.Err)
	case errors.As(err, &stamp):
		return errors.New("a time cannot be read")
	case Unquoted(err.Error()) != err.Error():
		return errors.New(Unquoted(err.Error()))
	default:
		return err
	}
}

// cause is what the decoder says of a value, without the place, which the caller names.
func cause(e *yaml.LoadError) error {
	if err := e.Unwrap(); err != nil {
		return err
	}

	return errors.New(e.Message)
}

// Unquoted removes the quoted values from the text of a YAML error.
func Unquoted(text string) string {
	return regexp.MustCompile("(cannot (?:construct|unmarshal|decode) !!\\w+) `[^`]*`").ReplaceAllString(text, "$1")
}

// Encrypted reports whether a YAML text is a file that SOPS encrypted.
func Encrypted(text []byte) bool {
	if !bytes.Contains(text, []byte("sops")) {
		return false
	}

	documents, _ := Documents(text) // its own reader says what cannot be read

	return slices.ContainsFunc(documents, func(doc *yaml.Node) bool {
		if len(doc.Content) == 0 {
			return false
		}

		mark := Get(doc.Content[0], "sops")

		return Get(mark, "version") != nil || Get(mark, "mac") != nil
	})
}

// Clone copies a node with all that it contains. Aliases still name the nodes of the original.
func Clone(n *yaml.Node) *yaml.Node {
	out := *n
	out.Content = lists.Map(n.Content, Clone)

	return &out
}

// Get returns the value of a key of a mapping, nil when there is none or the node is not a mapping.
func Get(n *yaml.Node, key string) *yaml.Node {
	_, value := Entry(n, key)

	return value
}

// Entry returns a key of a mapping and its value, nil when there is none or the node is not a mapping.
func Entry(n *yaml.Node, key string) (name, value *yaml.Node) {
	if at := position(n, key); at >= 0 {
		return n.Content[at], n.Content[at+1]
	}

	return nil, nil
}

// Delete removes a key of a mapping and its value, and reports whether it was there.
func Delete(n *yaml.Node, key string) bool {
	at := position(n, key)
	if at >= 0 {
		n.Content = slices.Delete(n.Content, at, at+2)
	}

	return at >= 0
}

// position is where a key of a mapping stands, -1 for nowhere.
func position(n *yaml.Node, key string) int {
	if n == nil || n.Kind != yaml.MappingNode {
		return -1
	}

	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return i
		}
	}

	return -1
}

// Walk calls do for every value at a path, with its key, nil for an element of a list. A step * is each element of a list.
func Walk(n *yaml.Node, path []string, do func(key, value *yaml.Node)) {
	if n == nil || len(path) == 0 {
		return
	}

	step := func(key, value *yaml.Node) {
		switch {
		case value == nil:
		case len(path) == 1:
			do(key, value)
		default:
			Walk(value, path[1:], do)
		}
	}

	if path[0] != "*" {
		step(Entry(n, path[0]))

		return
	}

	for _, element := range n.Content {
		step(nil, element)
	}
}
