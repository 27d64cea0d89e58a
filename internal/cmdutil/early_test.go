package cmdutil

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// TestRowsAreShownAsTheyCome asks three nodes of which one answers at once, one after two seconds and a quarter and one after four and a quarter. A
// terminal shows what there is from the first second on; whatever is not a terminal gets the whole list and nothing else.
func TestRowsAreShownAsTheyCome(t *testing.T) {
	t.Parallel()

	const (
		first  = "NODE   VERSION\nn1     v1.14.1\nwaiting for 2 nodes of 3: n2, n3\n"
		second = "NODE   VERSION\nn1     v1.14.1\nn2     v1.14.1\nwaiting for 1 node of 3: n3\n"
	)

	for name, tt := range map[string]struct {
		io       iostreams.Streams
		format   output.Format
		progress string
		want     string
	}{
		"a terminal":         {iostreams.Streams{OutTTY: true, Height: 24}, output.Table, "auto", first + "\x1b[3A" + second + "\x1b[4A"},
		"a low terminal":     {iostreams.Streams{OutTTY: true, Height: 3}, output.Table, "auto", "… 2 more: the terminal is too low to show them\nwaiting for 2 nodes of 3: n2, n3\n\x1b[2A… 3 more: the terminal is too low to show them\nwaiting for 1 node of 3: n3\n\x1b[2A"},
		"a pipe":             {iostreams.Streams{}, output.Table, "auto", ""},
		"a document":         {iostreams.Streams{OutTTY: true}, output.JSON, "auto", ""},
		"names":              {iostreams.Streams{OutTTY: true}, output.Name, "auto", ""},
		"without progress":   {iostreams.Streams{OutTTY: true}, output.Table, "none", ""},
		"a terminal of text": {iostreams.Streams{OutTTY: true, Env: func(string) (string, bool) { return "dumb", true }}, output.Table, "auto", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			synctest.Test(t, func(t *testing.T) {
				var out, warned bytes.Buffer

				io := tt.io
				io.Out, io.Err = &out, &warned

				if io.Env == nil {
					io.Env = func(string) (string, bool) { return "", false }
				}

				cluster, err := talos.NewCluster(nil, "test", conn.Options{Endpoints: []string{"10.0.0.1"}, Concurrency: 4})
				if err != nil {
					t.Fatal(err)
				}

				t.Cleanup(func() { _ = cluster.Close() })

				cmd := &cobra.Command{Use: "things"}
				cmd.Flags().String("progress", tt.progress, "")

				now := func() time.Time { return time.Now().UTC() }
				c := &Call{
					IO: &io, Cmd: cmd, ctx: t.Context(), cluster: cluster, factory: &Factory{IO: &io, Now: now},
					Printer: &output.Printer{Out: &out, Format: tt.format, Schema: "VersionList", Now: now},
				}
				columns := []output.Column[talos.Version]{
					{Header: "NODE", Value: talos.Version.NodeName}, {Header: "VERSION", Value: func(v talos.Version) string { return v.Tag }},
				}
				after := map[string]time.Duration{"n2": 2250 * time.Millisecond, "n3": 4250 * time.Millisecond}

				outcomes := eachEarly[talos.Version](c, []talos.Target{
					{Address: "10.0.0.1", Hostname: "n1"}, {Address: "10.0.0.2", Hostname: "n2"}, {Address: "10.0.0.3", Hostname: "n3"},
				}, func(_ context.Context, n *talos.Node) ([]talos.Version, error) {
					<-time.After(after[n.Hostname])

					if n.Hostname == "n3" {
						c.Warn("n3 was slow")

						return nil, errors.New("no answer")
					}

					return []talos.Version{{Tag: "v1.14.1"}}, nil
				}, func(rows []talos.Version, err error) Reading {
					return ListReading[talos.Version]{Rows: rows, Err: err, Columns: columns, Name: talos.Version.NodeName}
				})

				if len(outcomes) != 3 || outcomes[2].Err == nil || len(outcomes[1].Value) != 1 {
					t.Errorf("%+v", outcomes)
				}

				got := strings.NewReplacer(string(iostreams.EraseLine), "", string(iostreams.EraseBelow), "").Replace(out.String())
				if got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}

				if warned.String() != "warning: n3 was slow\n" {
					t.Errorf("on stderr: %q", warned.String())
				}
			})
		})
	}
}
