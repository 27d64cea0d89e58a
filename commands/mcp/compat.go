package mcp

import (
	"strings"

	"github.com/talosmate/talosmate/internal/lists"
)

// alias is a tool's name in other servers for Talos.
type alias struct{ name, command string }

func aliases() []alias {
	return []alias{
		{"talos_addresses", "network addresses"},
		{"talos_apply_config", "machineconfig apply"},
		{"talos_bootstrap", "bootstrap"},
		{"talos_config_info", "config info"},
		{"talos_containers", "container list"},
		{"talos_cpu", "system cpu"},
		{"talos_describe", "describe"},
		{"talos_discovered_volumes", "storage discovered"},
		{"talos_disk_usage", "system usage"},
		{"talos_disks", "system disks"},
		{"talos_dmesg", "dmesg"},
		{"talos_etcd_alarm", "etcd alarm list"},
		{"talos_etcd_alarm_disarm", "etcd alarm disarm"},
		{"talos_etcd_defrag", "etcd defrag"},
		{"talos_etcd_forfeit_leadership", "etcd forfeit-leadership"},
		{"talos_etcd_leave", "etcd leave"},
		{"talos_etcd_members", "etcd members"},
		{"talos_etcd_remove_member", "etcd remove-member"},
		{"talos_etcd_snapshot", "etcd snapshot"},
		{"talos_etcd_status", "etcd status"},
		{"talos_events", "events"},
		{"talos_extensions", "extension list"},
		{"talos_get", "get"},
		{"talos_get_config", "machineconfig get"},
		{"talos_health", "health"},
		{"talos_hostname", "network hostname"},
		{"talos_image_list", "image list"},
		{"talos_image_prune", "image prune"},
		{"talos_image_pull", "image pull"},
		{"talos_image_remove", "image remove"},
		{"talos_interfaces", "network interfaces"},
		{"talos_logs", "logs"},
		{"talos_ls", "fs ls"},
		{"talos_members", "members"},
		{"talos_memory", "system memory"},
		{"talos_mounts", "system mounts"},
		{"talos_netstat", "network netstat"},
		{"talos_patch_config", "machineconfig patch"},
		{"talos_processes", "processes"},
		{"talos_read", "fs read"},
		{"talos_reboot", "node reboot"},
		{"talos_reset", "node reset"},
		{"talos_resolvers", "network resolvers"},
		{"talos_rollback", "node rollback"},
		{"talos_routes", "network routes"},
		{"talos_service_restart", "service restart"},
		{"talos_service_start", "service start"},
		{"talos_service_stop", "service stop"},
		{"talos_services", "service list"},
		{"talos_shutdown", "node shutdown"},
		{"talos_stats", "container stats"},
		{"talos_time", "system time"},
		{"talos_upgrade", "upgrade node"},
		{"talos_upgrade_k8s", "upgrade kubernetes"},
		{"talos_validate", "validate"},
		{"talos_version", "version"},
		{"talos_volumes", "storage volumes"},
		{"talos_wipe", "node wipe"},
	}
}

// aliasesOf makes the tools under their other names. Commands without a tool have none.
func aliasesOf(all []tool) []tool {
	var out []tool

	for _, a := range aliases() {
		if t, ok := lists.Find(all, func(t tool) bool { return strings.Join(t.path, " ") == a.command }); ok {
			t.name, t.alias = a.name, true
			out = append(out, t)
		}
	}

	return out
}

// otherNames are parameters of other servers, with ours in the order of preference.
func otherNames() map[string][]string {
	return map[string][]string{
		"node":          {"nodes"},
		"confirm":       {"yes"},
		"config":        {"file"},
		"patch":         {"patch"},
		"resource_type": {"type"},
		"resource_id":   {"id"},
		"service":       {"service", "id"},
		"service_id":    {"service", "id"},
		"member_id":     {"id"},
		"output_path":   {"file"},
		"tail_lines":    {"tail"},
	}
}
