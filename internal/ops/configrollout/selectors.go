package configrollout

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	"github.com/siderolabs/talos/pkg/machinery/cel"
	"github.com/siderolabs/talos/pkg/machinery/cel/celenv"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/talosmate/talosmate/internal/gate"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/probe"
	"github.com/talosmate/talosmate/internal/talos"
)

// Messages as which the expressions of selectors see what a node has (Talos, pkg/machinery/cel/celenv).
const (
	linkMessage   protoreflect.FullName = "talos.resource.definitions.network.LinkStatusSpec"
	diskMessage   protoreflect.FullName = "talos.resource.definitions.block.DiskSpec"
	volumeMessage protoreflect.FullName = "talos.resource.definitions.block.DiscoveredVolumeSpec"
)

// object is what a selector may match: its spec as the node shows it, and as expressions see it.
type object struct {
	id      string
	spec    map[string]any
	message proto.Message
}

// inventory is what a node has of a kind, read once.
type inventory struct {
	n     probe.API
	links []object
	disks []object
	own   string // The system disk.
}

// text is a field of an object.
func (o object) text(field string) string {
	value, _ := o.spec[field].(string)

	return value
}

// objects reads the resources of a kind.
func objects(ctx context.Context, n probe.API, namespace, typ string, as protoreflect.FullName) ([]object, error) {
	list, err := n.Resources(ctx, namespace, typ)
	if err != nil {
		return nil, err
	}

	kind, err := protoregistry.GlobalTypes.FindMessageByName(as)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", typ, err)
	}

	out := make([]object, 0, len(list))

	for _, r := range list {
		o := object{id: r.Metadata.ID, message: kind.New().Interface()}
		o.spec, _ = r.Spec.(map[string]any) // anything else has no fields

		raw, err := json.Marshal(protoFields(o.spec))
		if err == nil {
			err = (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, o.message)
		}

		if err != nil {
			return nil, fmt.Errorf("cannot read %s %s: %w", typ, o.id, err)
		}

		out = append(out, o)
	}

	return out, nil
}

// protoFields gives the scalar fields of a spec their form in JSON of protocol buffers.
func protoFields(spec map[string]any) map[string]any {
	out := map[string]any{}

	for name, value := range spec {
		switch value := value.(type) {
		case map[string]any: // no selector of a node's hardware needs it
			continue
		case string:
			if strings.HasSuffix(name, "Addr") {
				mac, err := net.ParseMAC(value)
				if err != nil {
					continue
				}

				out[name] = base64.StdEncoding.EncodeToString(mac)

				continue
			}
		}

		switch name {
		case "flags", "port", "duplex", "operationalState": // words of enumerations
		case "type":
			if value == "ether" { // of a link
				out[name] = 1
			} else {
				out[name] = value
			}
		case "pciID":
			out["pciid"] = value
		case "speedMbit":
			out["speedMegabits"] = value
		default:
			out[name] = value
		}
	}

	return out
}

// gateSelectors checks that every link, disk and volume that the configuration selects is on the node: Talos would wait for
// what is not there, without an error (TM166).
func gateSelectors(ctx context.Context, n probe.API, node string, cfg machineconfig.Config) (gate.Verdict, error) {
	v := inventory{n: n}

	var (
		missing []string
		checked int
	)

	for _, s := range selectorsOf(cfg) {
		found, err := v.matches(ctx, s)
		if err != nil {
			return gate.Verdict{}, err
		}

		checked++

		if !found {
			missing = append(missing, s.where+" ("+s.what()+")")
		}
	}

	if len(missing) > 0 {
		return gate.New(gate.NothingSelected, gate.Refuse, node, "the node has nothing that matches %s", strings.Join(missing, ", ")).
			WithRemedy("see `talosmate network links`, `talosmate system disks` and `talosmate storage discovered` for what it has"), nil
	}

	return gate.New(gate.NothingSelected, gate.Pass, node, "%d selectors and names of links, disks and volumes match something", checked), nil
}

// selector is one place of a configuration that selects something of the node.
type selector struct {
	where  string            // The place.
	kind   string            // link, disk or volume.
	match  string            // A CEL expression.
	name   string            // Or a name: of a link, or the path of a disk.
	fields map[string]string // Or patterns by the fields of a link.
}

func (s selector) what() string {
	if s.match != "" {
		return s.match
	}

	if s.name != "" {
		return s.kind + " " + s.name
	}

	var out []string
	for _, field := range slices.Sorted(maps.Keys(s.fields)) {
		out = append(out, field+": "+s.fields[field])
	}

	return strings.Join(out, ", ")
}

// field walks a document.
func field(value any, keys ...string) any {
	for _, k := range keys {
		m, _ := value.(map[string]any)
		value = m[k]
	}

	return value
}

func text(value any, keys ...string) string {
	s, _ := field(value, keys...).(string)

	return s
}

func items(value any, keys ...string) []any {
	list, _ := field(value, keys...).([]any)

	return list
}

// selectorsOf lists what a configuration selects. Links that it makes itself are not asked for.
func selectorsOf(cfg machineconfig.Config) []selector {
	var (
		out  []selector
		made []string
	)

	for _, d := range cfg.Documents {
		doc, err := d.Value()
		if err != nil {
			continue // the validator has said so
		}

		link := func(name string) { out = append(out, selector{where: d.Key(), kind: "link", name: name}) }

		switch d.Kind {
		case "LinkAliasConfig":
			made = append(made, d.Name)
			out = append(out, selector{where: d.Key(), kind: "link", match: text(doc, "selector", "match")})
		case "VLANConfig", "BondConfig", "BridgeConfig", "VRFConfig", "DummyLinkConfig", "WireguardConfig", "VethConfig":
			made = append(made, d.Name, text(doc, "peer", "name"), text(doc, "peerName"))

			if parent := text(doc, "parent"); parent != "" {
				link(parent)
			}

			for _, one := range items(doc, "links") {
				link(fmt.Sprint(one))
			}
		case "LinkConfig", "EthernetConfig", "DHCPv4Config", "DHCPv6Config":
			link(d.Name)
		case "Layer2VIPConfig", "HCloudVIPConfig":
			link(text(doc, "link"))
		case "VolumeConfig", "UserVolumeConfig", "RawVolumeConfig", "SwapVolumeConfig":
			out = append(out, selector{where: d.Key(), kind: "disk", match: text(doc, "provisioning", "diskSelector", "match")})
		case "ExistingVolumeConfig":
			out = append(out, selector{where: d.Key(), kind: "volume", match: text(doc, "discovery", "volumeSelector", "match")})
		case "v1alpha1":
			devices, own := devicesOf(doc)
			out, made = append(out, devices...), append(made, own...)

			for _, disk := range items(doc, "machine", "disks") {
				out = append(out, selector{where: "machine.disks", kind: "disk", name: text(disk, "device")})
			}
		}
	}

	return slices.DeleteFunc(out, func(s selector) bool {
		empty := s.match == "" && s.name == "" && len(s.fields) == 0

		return empty || s.kind == "link" && slices.ContainsFunc(made, func(name string) bool { return aliased(name, s.name) })
	})
}

// aliased reports whether a name of a link is one that the configuration makes; net%d stands for net0, net1 and so on.
func aliased(made, name string) bool {
	before, after, pattern := strings.Cut(made, "%d")
	if !pattern {
		return made != "" && made == name
	}

	return len(name) > len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
}

// devicesOf are the links of v1alpha1, and those that it makes.
func devicesOf(doc map[string]any) (out []selector, made []string) {
	const where = "machine.network.interfaces"

	for _, one := range items(doc, "machine", "network", "interfaces") {
		name := text(one, "interface")

		if s := patterns(field(one, "deviceSelector")); len(s) > 0 {
			out = append(out, selector{where: where + " deviceSelector", kind: "link", fields: s})

			continue
		}

		virtual := false

		for _, k := range []string{"bond", "bridge", "wireguard", "dummy"} {
			virtual = virtual || field(one, k) != nil && field(one, k) != false

			for _, part := range items(one, k, "interfaces") {
				out = append(out, selector{where: where + " " + name, kind: "link", name: fmt.Sprint(part)})
			}

			for _, part := range items(one, k, "deviceSelectors") {
				out = append(out, selector{where: where + " " + name, kind: "link", fields: patterns(part)})
			}
		}

		if virtual {
			made = append(made, name)
		} else {
			out = append(out, selector{where: where, kind: "link", name: name})
		}
	}

	return out, made
}

// patterns are the fields of a deviceSelector.
func patterns(selector any) map[string]string {
	out := map[string]string{}

	of, _ := selector.(map[string]any)
	for k, v := range of {
		out[k] = fmt.Sprint(v)
	}

	return out
}

// matches reports whether the node has what a selector selects.
func (v *inventory) matches(ctx context.Context, s selector) (bool, error) {
	var err error

	switch {
	case s.kind == "link" && v.links == nil:
		v.links, err = objects(ctx, v.n, "network", "LinkStatuses.net.talos.dev", linkMessage)
	case s.kind != "link" && v.disks == nil:
		if v.disks, err = objects(ctx, v.n, "runtime", "Disks.block.talos.dev", diskMessage); err == nil {
			v.own, err = systemDisk(ctx, v.n)
		}
	}

	if err != nil {
		return false, err
	}

	switch {
	case s.kind == "volume":
		return v.volume(ctx, s)
	case s.kind == "disk" && s.name != "":
		return slices.ContainsFunc(v.disks, func(o object) bool {
			symlinks, _ := o.spec["symlinks"].([]any)

			return o.text("dev_path") == s.name || slices.Contains(symlinks, any(s.name))
		}), nil
	case s.kind == "disk":
		return v.any(s.match, celenv.DiskLocator(), v.disks, func(o object) map[string]any {
			return map[string]any{"disk": o.message, "system_disk": v.own != "" && o.id == v.own}
		})
	case s.match != "":
		return v.any(s.match, celenv.LinkLocator(), v.links, func(o object) map[string]any { return map[string]any{"link": o.message} })
	case s.name != "":
		return slices.ContainsFunc(v.links, func(o object) bool {
			others, _ := o.spec["altNames"].([]any)

			return o.id == s.name || o.text("alias") == s.name || slices.Contains(others, any(s.name))
		}), nil
	default:
		return slices.ContainsFunc(v.links, func(o object) bool { return device(o, s.fields) }), nil
	}
}

// device reports whether a link fits a deviceSelector (Talos, pkg/machinery/config/types/v1alpha1, NetworkDeviceSelector).
func device(o object, want map[string]string) bool {
	for name, pattern := range want {
		switch name {
		case "physical":
			if physical := o.text("type") == "ether" && o.text("kind") == ""; fmt.Sprint(physical) != pattern {
				return false
			}
		default:
			if fit, err := path.Match(strings.ToLower(pattern), strings.ToLower(o.text(name))); err != nil || !fit {
				return false
			}
		}
	}

	return true
}

// any reports whether an expression holds for any of the objects.
func (*inventory) any(match string, env *celgo.Env, all []object, variables func(object) map[string]any) (bool, error) {
	expression, err := cel.ParseBooleanExpression(match, env)
	if err != nil {
		return false, fmt.Errorf("cannot read the selector %s: %w", match, err)
	}

	for _, o := range all {
		if is, err := expression.EvalBool(env, variables(o)); err == nil && is {
			return true, nil
		}
	}

	return false, nil
}

// volume reports whether a selector matches a volume that is discovered on the node.
func (v *inventory) volume(ctx context.Context, s selector) (bool, error) {
	volumes, err := objects(ctx, v.n, "runtime", "DiscoveredVolumes.block.talos.dev", volumeMessage)
	if err != nil {
		return false, err
	}

	return v.any(s.match, celenv.VolumeLocator(), volumes, func(o object) map[string]any {
		disk, _ := lists.Find(v.disks, func(d object) bool { return d.id == o.id || d.id == o.text("parent") })

		return map[string]any{"volume": o.message, "disk": disk.message}
	})
}

// systemDisk is the disk that Talos is installed on, empty for none.
func systemDisk(ctx context.Context, n probe.API) (string, error) {
	list, err := n.Resources(ctx, "runtime", "SystemDisks.block.talos.dev")
	if err != nil || len(list) == 0 {
		return "", err
	}

	spec, err := talos.Decode[struct {
		DiskID string `json:"diskID"`
	}](list[0])

	return spec.DiskID, err
}
