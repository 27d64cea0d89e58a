package machineconfig

import (
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/redact"
)

// Hidden hides in an error what it quotes of the secrets of configurations and patches.
func Hidden(err error, texts ...[]byte) error {
	if err == nil {
		return nil
	}

	var documents []Document

	for _, text := range texts {
		some, _ := foreign.Documents(text) // what cannot be read is what err says
		documents = append(documents, lists.Map(some, func(doc *yaml.Node) Document { return Document{node: doc} })...)
	}

	return hidden(err, documents...)
}

func hidden(err error, documents ...Document) error {
	var nodes []*yaml.Node

	for _, d := range documents {
		if d.node != nil {
			nodes = append(nodes, d.node)
		}
	}

	text := redact.Message(err.Error(), nodes...)
	if text == err.Error() {
		return err
	}

	return errs.Reworded(err, text)
}
