package cmdutil

import (
	"bytes"
	"io"

	"github.com/spf13/cobra"
)

// CompletionScript corrects a completion script that cobra writes to w. Cobra's take "-columns=" in
// `-o custom-columns=NODE:.node` for a flag and put it before the candidates.
func CompletionScript(w io.Writer) io.Writer { return scriptWriter{w} }

type scriptWriter struct{ io.Writer }

// Write implements io.Writer. Cobra writes a script in one piece.
func (w scriptWriter) Write(p []byte) (int, error) {
	if _, err := w.Writer.Write(bytes.ReplaceAll(p, []byte(`'-.*='`), []byte(`'^-.*='`))); err != nil {
		return 0, err
	}

	return len(p), nil
}

// AddCompletion adds cobra's command that writes completion scripts, for a command line.
func AddCompletion(f *Factory, root *cobra.Command, args []string) {
	root.SetOut(CompletionScript(f.IO.Out)) // the command keeps it

	root.InitDefaultCompletionCmd(args...)
	root.SetOut(f.IO.Out)
}
