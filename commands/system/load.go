package system

import (
	"fmt"

	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdLoad(f *cmdutil.Factory) *cmdutil.Cmd {
	number := func(of func(talos.LoadAverage) float64) func(talos.LoadAverage) string {
		return func(l talos.LoadAverage) string { return fmt.Sprintf("%.2f", of(l)) }
	}

	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "load", Short: "Show the load averages of each node",
		Example: "  talosmate system load\n" +
			"  talosmate system load -A --sort-by -load5",
		Spec: spec(),
	}, "LoadList", cmdutil.NodeList[talos.LoadAverage]{
		PerNode: true,
		Columns: []output.Column[talos.LoadAverage]{
			{Header: "1 MIN", Value: number(func(l talos.LoadAverage) float64 { return l.Load1 })},
			{Header: "5 MIN", Value: number(func(l talos.LoadAverage) float64 { return l.Load5 })},
			{Header: "15 MIN", Value: number(func(l talos.LoadAverage) float64 { return l.Load15 })},
		},
		Name:    func(l talos.LoadAverage) string { return l.Node },
		Watched: true,
	}, one((*talos.Node).LoadAverage))
}
