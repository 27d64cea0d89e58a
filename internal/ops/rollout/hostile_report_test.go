package rollout

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/talosmate/talosmate/internal/iostreams"
)

// TestReportsOfHostileNodes draws and writes a run whose nodes have hostile names, versions and messages: the picture stays XML with
// nothing but shapes and texts, the report stays lines, and nothing is interpreted by a terminal.
func TestReportsOfHostileNodes(t *testing.T) {
	t.Parallel()

	const evil = "\x1b[2J</text><script>alert(1)</script><!-- ]]> &amp; \u202e\u0085\n# made up\n| a | b |\x00\xff"

	res := timeline()

	for i := range res.Nodes {
		res.Nodes[i].Hostname, res.Nodes[i].Node = evil, evil
		res.Nodes[i].Image, res.Nodes[i].WaitError, res.Nodes[i].K8sReadyError, res.Nodes[i].InstallerLines = evil, evil, evil, []string{evil}

		for j := range res.Nodes[i].Stages {
			res.Nodes[i].Stages[j].Message = evil
		}
	}

	var report, picture bytes.Buffer

	if err := errors.Join(WriteReport(&report, res, "up.svg"), WriteTimeline(&picture, res)); err != nil {
		t.Fatal(err)
	}

	for name, text := range map[string]string{"report": report.String(), "picture": picture.String()} {
		if iostreams.Neutral(text) != text {
			t.Errorf("the %s has what a terminal interprets", name)
		}

		if strings.Contains(text, "<script") || strings.Contains("\n"+text, "\n# made up") || strings.Contains("\n"+text, "\n| a |") {
			t.Errorf("the node wrote its own part of the %s:\n%s", name, text)
		}
	}

	for dec := xml.NewDecoder(&picture); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return
		}

		if err != nil {
			t.Fatal(err)
		}

		if start, ok := token.(xml.StartElement); ok && (start.Name.Local == "script" || start.Name.Local == "foreignObject") {
			t.Errorf("a %s", start.Name.Local)
		}
	}
}
