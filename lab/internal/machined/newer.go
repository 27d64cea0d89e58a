package machined

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"go.yaml.in/yaml/v4"
)

// newer is a configuration with documents of a Talos version that the lab's machinery does not know: they are kept and
// shown, and have no effect.
type newer struct {
	config.Provider

	rest []byte
}

// Bytes implements config.Provider.
func (n *newer) Bytes() ([]byte, error) { return n.with(n.Provider.Bytes()) }

// EncodeBytes implements config.Provider.
func (n *newer) EncodeBytes(o ...encoder.Option) ([]byte, error) {
	return n.with(n.Provider.EncodeBytes(o...))
}

// Clone implements config.Provider.
func (n *newer) Clone() config.Provider { return &newer{Provider: n.Provider.Clone(), rest: n.rest} }

func (n *newer) with(text []byte, err error) ([]byte, error) {
	return slices.Concat(bytes.TrimRight(text, "\n"), []byte("\n"), n.rest), err
}

// loadNewer reads a configuration of which the lab's machinery knows only a part.
func loadNewer(text []byte) (config.Provider, error) {
	var known, rest bytes.Buffer

	dec := yaml.NewDecoder(bytes.NewReader(text))

	for {
		var doc yaml.Node
		if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}

		one, err := yaml.Marshal(&doc)
		if err != nil {
			return nil, err
		}

		into := &known
		if _, err := configloader.NewFromBytes(one); err != nil {
			into = &rest
		}

		into.WriteString("---\n")
		into.Write(one)
	}

	cfg, err := configloader.NewFromBytes(known.Bytes())
	if err != nil {
		return nil, err
	}

	return &newer{Provider: cfg, rest: rest.Bytes()}, nil
}
