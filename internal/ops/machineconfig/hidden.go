package machineconfig

import (
	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/redact"
)

// Hidden hides in an error what it quotes of the secrets of configurations and patches.
func Hidden(err error, texts ...[]byte) error {
	if err == nil {
		return nil
	}

	var documents []*yaml.Node

	for _, text := range texts {
		some, _ := foreign.Documents(text) // what cannot be read is what err says
		documents = append(documents, some...)
	}

	text := redact.Message(err.Error(), documents...)
	if text == err.Error() {
		return err
	}

	return errs.Reworded(err, text)
}
