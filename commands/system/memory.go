package system

import (
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/output"
	"github.com/talosmate/talosmate/internal/talos"
)

func newCmdMemory(f *cmdutil.Factory) *cmdutil.Cmd {
	return cmdutil.NewNodeList(f, cmdutil.Command{
		Use: "memory", Aliases: []string{"mem", "free"}, Short: "Show the memory of each node",
		Long: "Show the memory of each node. Used is the total less what programs can still get, as free(1) counts it.",
		Example: "  talosmate system memory\n" +
			"  talosmate system memory -A --sort-by -used_ratio",
		Spec: spec(),
	}, "MemoryList", cmdutil.NodeList[talos.Memory]{
		PerNode: true,
		Columns: []output.Column[talos.Memory]{
			{Header: "TOTAL", Value: func(m talos.Memory) string { return output.Bytes(m.TotalBytes) }},
			{Header: "USED", Value: func(m talos.Memory) string { return output.Bytes(m.UsedBytes) }},
			{Header: "USED%", Value: func(m talos.Memory) string { return output.Percent(m.UsedRatio) }},
			{Header: "AVAILABLE", Value: func(m talos.Memory) string { return output.Bytes(m.AvailableBytes) }},
			{Header: "FREE", Value: func(m talos.Memory) string { return output.Bytes(m.FreeBytes) }},
			{Header: "CACHED", Value: func(m talos.Memory) string { return output.Bytes(m.CachedBytes) }},
			{Header: "BUFFERS", Wide: true, Value: func(m talos.Memory) string { return output.Bytes(m.BuffersBytes) }},
			{Header: "SHARED", Wide: true, Value: func(m talos.Memory) string { return output.Bytes(m.SharedBytes) }},
			{Header: "SWAP", Wide: true, Value: func(m talos.Memory) string { return output.Bytes(m.SwapTotalBytes) }},
			{Header: "SWAP FREE", Wide: true, Value: func(m talos.Memory) string { return output.Bytes(m.SwapFreeBytes) }},
		},
		Name:    func(m talos.Memory) string { return m.Node },
		Watched: true,
	}, one((*talos.Node).Memory))
}
