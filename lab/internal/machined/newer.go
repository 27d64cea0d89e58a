package machined

import (
	"bytes"
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

// loadNewer reads a configuration of which the lab's machinery knows only a part: kinds and fields that are new in Talos
// 1.14. Everything else must be right.
func loadNewer(text []byte) (config.Provider, error) {
	var known, rest bytes.Buffer

	err := documents(text, func(doc *yaml.Node, id document, _ int) error {
		one, err := yaml.Marshal(doc)
		if err != nil {
			return err
		}

		into := &known

		if newIn114(id.Kind) {
			into = &rest
		} else if _, err := configloader.NewFromBytes(one); err != nil {
			if !extendedIn114(id.Kind) {
				return err
			}

			into = &rest
		}

		into.WriteString("---\n")
		into.Write(one)

		return nil
	})
	if err != nil {
		return nil, err
	}

	cfg, err := configloader.NewFromBytes(known.Bytes())
	if err != nil {
		return nil, err
	}

	return &newer{Provider: cfg, rest: rest.Bytes()}, nil
}
