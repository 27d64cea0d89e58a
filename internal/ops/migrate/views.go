package migrate

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/siderolabs/gen/optional"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
)

// views gives what Talos makes of accessors that differ between v1alpha1 and documents.
func views(c config.Config, known map[reflect.Type][]accessor, links []string, controlPlane bool) map[string]string {
	out := reading{known, map[string]string{}}
	all := view{
		"environment": environmentOf(c), "discovery": c.Cluster().Discovery().Enabled() && c.Cluster().Discovery().Registries().Kubernetes().Enabled(),
		"install": installOf(c), "links": linksOf(c, links),
	}

	if controlPlane {
		all["etcd encryption"], all["authorizers"] = EtcdEncryption(c), authorizersOf(c)
		all["kube-apiserver"], all["kube-proxy"], all["manifests"] = apiServerOf(c), proxyOf(c), manifestsOf(c)
	}

	for name, view := range all {
		out.value(reflect.ValueOf(&view).Elem(), reflect.TypeFor[any](), name)
	}

	for _, name := range []string{constants.StatePartitionLabel, constants.EphemeralPartitionLabel} {
		e := c.Machine().SystemDiskEncryption().Get(name)

		v, known := c.Volumes().ByName(name)
		if known && v.Encryption() != nil {
			e = v.Encryption()
		}

		out.value(reflect.ValueOf(&e).Elem(), reflect.TypeFor[config.EncryptionConfig](), "encryption of "+name)
		mount, trim := v.Mount(), v.Trim()
		out.value(reflect.ValueOf(&mount).Elem(), reflect.TypeFor[config.VolumeMountConfig](), "mount of "+name)
		out.value(reflect.ValueOf(&trim).Elem(), reflect.TypeFor[config.VolumeTrimConfig](), "trim of "+name)
	}

	return out.values
}

func environmentOf(c config.Config) map[string]string {
	out := map[string]string{}
	maps.Copy(out, c.Machine().Env())
	maps.Copy(out, c.Environment().Variables())

	return out
}

func installOf(c config.Config) view {
	if d := c.UnattendedInstallConfig(); d != nil {
		return view{"image": d.InstallerImage(), "disk": d.VolumeSelector().String(), "wipe": d.VolumeWipe(), "uki": true}
	}

	i := c.Machine().Install()
	out := view{
		"image": i.Image(), "wipe": i.Zero(), "uki": i.GrubUseUKICmdline() || i.Image() == "" && i.Disk() == "",
		"args": i.ExtraKernelArgs(), "bios": i.LegacyBIOSSupport(), "extensions": len(i.Extensions()),
	}

	if match, err := i.DiskMatchExpression(); err == nil && match != nil {
		out["disk"] = match.String()
	} else if i.Disk() != "" {
		if expression, err := diskExpression(i.Disk()); err == nil {
			out["disk"] = expression.String()
		}
	}

	if _, there := out["disk"]; !there {
		return nil
	}

	return out
}

// EtcdEncryption is the encryption configuration of kube-apiserver that Talos renders from a machine configuration; nil
// if it encrypts nothing.
func EtcdEncryption(c config.Config) map[string]any {
	if d := c.K8sEtcdEncryptionConfig(); d != nil {
		return d.EtcdEncryptionConfig()
	}

	if c.Cluster() == nil || c.Cluster().SecretboxEncryptionSecret() == "" && c.Cluster().AESCBCEncryptionSecret() == "" {
		return nil
	}

	return legacyEncryption(c.Cluster().SecretboxEncryptionSecret(), c.Cluster().AESCBCEncryptionSecret())
}

func authorizersOf(c config.Config) []any {
	var out []any
	for _, a := range effectiveAuthorizers(c.K8sAuthorizerConfigs(), c.K8sAPIServerConfig().InjectDefaultAuthorizers()) {
		out = append(out, view{"type": a.kind, "name": a.name, "webhook": a.webhook})
	}

	return out
}

func apiServerOf(c config.Config) view {
	s := c.K8sAPIServerConfig()
	args := maps.Clone(s.ExtraArgs())

	for _, flag := range AuthenticationFlags() {
		delete(args, flag)
	}

	out := view{"arguments": args}

	switch {
	case !s.UseAuthenticationConfig():
		out["authentication"] = authentication(s.ExtraArgs())
	case c.K8sAuthenticationConfig() != nil:
		out["authentication"] = c.K8sAuthenticationConfig().Configuration()
	}

	return out
}

func proxyOf(c config.Config) view {
	p := c.K8sProxyConfig()
	if !p.Enabled() {
		return view{"enabled": false}
	}

	out := view{
		"enabled": true, "image": p.Image(), "mode": p.Mode(),
		"resources": []string{p.Resources().CPURequests(), p.Resources().MemoryRequests(), p.Resources().CPULimits(), p.Resources().MemoryLimits()},
	}

	if p.UseConfigFile() {
		out["settings"], out["arguments"] = p.Config(), p.ExtraArgs()

		return out
	}

	settings, unknown := ProxySettings(p.ExtraArgs())
	if out["settings"] = settings; unknown != "" {
		out["arguments"] = p.ExtraArgs()
	}

	return out
}

func manifestsOf(c config.Config) view {
	out := view{}
	for _, m := range c.K8sExternalManifestConfigs() {
		out[m.URL()] = []any{m.URL(), m.Headers()}
	}

	return out
}

// linksOf gives links, addresses, routes and operators as Talos's controllers make them of both forms (Talos,
// internal/app/machined/pkg/controllers/network/link_config.go and its neighbours).
func linksOf(c config.Config, physical []string) view {
	l := linkMap{}
	ignored := map[string]bool{}

	for _, d := range c.Machine().Network().Devices() {
		if d.Selector() != nil {
			l.at("selector of " + fmt.Sprint(d.Selector().HardwareAddress(), d.Selector().Bus(), d.Selector().KernelDriver(), d.Selector().PCIID(), d.Selector().PermanentAddress()))
		}

		if d.Ignore() {
			ignored[d.Interface()] = true

			continue
		}

		l.device(d)
	}

	for _, d := range c.NetworkCommonLinkConfigs() {
		l.document(d)
	}

	l.operators(c)

	if c.RunDefaultDHCPOperators() {
		for _, name := range physical {
			if _, configured := l[name]; !configured && !ignored[name] {
				l.at(name)["dhcp4"] = view{"metric": defaultMetric, "client": nethelpers.ClientIdentifierMAC}
			}
		}
	}

	out := view{"default DHCP": c.RunDefaultDHCPOperators() && len(physical) == 0}
	for name, link := range l {
		out[name] = link
	}

	return out
}

// view is a map whose zero values are the same as none.
type view map[string]any

type linkMap map[string]view

func (l linkMap) at(name string) view {
	if l[name] == nil {
		l[name] = view{"up": true}
	}

	return l[name]
}

func (l linkMap) add(name, what string, value any) {
	list, _ := l.at(name)[what].([]string)
	l.at(name)[what] = slices.Sorted(slices.Values(append(list, fmt.Sprint(value))))
}

func (l linkMap) device(d config.Device) {
	name := d.Interface()
	link := l.at(name)
	link["mtu"] = uint32(d.MTU()) //nolint:gosec // G115: as Talos itself reads it

	for _, a := range d.Addresses() {
		if p, err := prefix(a); err == nil {
			l.add(name, "addresses", p)
		}
	}

	l.routes(name, d.Routes())
	l.dhcp(name, d.DHCP(), d.DHCPOptions())
	l.vip(name, d.VIPConfig())

	switch {
	case d.Bond() != nil:
		link["bond"] = bondOf(d.Bond())

		for i, member := range d.Bond().Interfaces() {
			l.at(member)["master"] = fmt.Sprint(name, i)
		}
	case d.Bridge() != nil:
		link["bridge"] = view{"stp": d.Bridge().STP().Enabled(), "vlan": d.Bridge().VLAN().FilteringEnabled()}

		for _, member := range d.Bridge().Interfaces() {
			l.at(member)["master"] = name
		}
	case d.WireguardConfig() != nil:
		link["wireguard"] = wireguardOf(d.WireguardConfig())
	case d.Dummy():
		link["dummy"] = true
	}

	if d.BridgePort() != nil {
		link["master"] = d.BridgePort().Master()
	}

	for _, v := range d.Vlans() {
		vlan := nethelpers.VLANLinkName(name, v.ID())
		l.at(vlan)["vlan"], l.at(vlan)["parent"], l.at(vlan)["mode"], l.at(vlan)["mtu"] = v.ID(), name, v.Mode(), v.MTU()

		for _, a := range v.Addresses() {
			if p, err := netip.ParsePrefix(a); err == nil {
				l.add(vlan, "addresses", p)
			}
		}

		l.routes(vlan, v.Routes())
		l.dhcp(vlan, v.DHCP(), v.DHCPOptions())
		l.vip(vlan, v.VIPConfig())
	}
}

func metric(m uint32) uint32 {
	if m == 0 {
		return defaultMetric
	}

	return m
}

func (l linkMap) routes(link string, routes []config.Route) {
	for _, r := range routes {
		to := r.Network()
		if p, err := netip.ParsePrefix(to); err == nil && p.Bits() == 0 && r.Gateway() != "" {
			to = ""
		} else if err == nil {
			to = p.String()
		}

		l.add(link, "routes", fmt.Sprint(to, " via ", r.Gateway(), " from ", r.Source(), " metric ", metric(r.Metric()), " mtu ", r.MTU()))
	}
}

func (l linkMap) dhcp(link string, on bool, o config.DHCPOptions) {
	if on && o.IPv4() {
		l.at(link)["dhcp4"] = view{"metric": metric(o.RouteMetric()), "client": nethelpers.ClientIdentifierNone}
	}

	if on && o.IPv6() {
		client := view{"metric": metric(o.RouteMetric()), "client": nethelpers.ClientIdentifierNone}
		if o.DUIDv6() != "" {
			client["client"], client["duid"] = nethelpers.ClientIdentifierDUID, colons(o.DUIDv6())
		}

		l.at(link)["dhcp6"] = client
	}
}

func (l linkMap) vip(link string, v config.VIPConfig) {
	if v == nil {
		return
	}

	token := ""
	if v.HCloud() != nil {
		token = v.HCloud().APIToken()
	}

	if v.EquinixMetal() != nil {
		token = "equinix " + v.EquinixMetal().APIToken()
	}

	l.add(link, "vip", v.IP()+" "+token)
}

func bondOf(b config.Bond) view {
	return view{
		"mode": b.Mode(), "hash": named0(b.HashPolicy(), nethelpers.BondXmitHashPolicyByName), "lacp": named0(b.LACPRate(), nethelpers.LACPRateByName),
		"arpValidate": named0(b.ARPValidate(), nethelpers.ARPValidateByName), "arpAll": named0(b.ARPAllTargets(), nethelpers.ARPAllTargetsByName),
		"primary": b.Primary(), "reselect": named0(b.PrimaryReselect(), nethelpers.PrimaryReselectByName), "failover": named0(b.FailOverMac(), nethelpers.FailOverMACByName),
		"adSelect": named0(b.ADSelect(), nethelpers.ADSelectByName), "miimon": b.MIIMon(), "updelay": b.UpDelay(), "downdelay": b.DownDelay(),
		"arpInterval": b.ARPInterval(), "igmp": b.ResendIGMP(), "minLinks": b.MinLinks(), "lp": b.LPInterval(), "packets": b.PacketsPerSlave(),
		"peerNotif": b.NumPeerNotif(), "tlb": b.TLBDynamicLB(), "all": b.AllSlavesActive(), "prio": b.ADActorSysPrio(), "key": b.ADUserPortKey(),
		"notifyDelay": b.PeerNotifyDelay(),
	}
}

func named0[T any](name string, parse func(string) (T, error)) T {
	v, _ := parse(name) //nolint:errcheck // what is no value is not converted

	return v
}

func wireguardOf(w config.WireguardConfig) view {
	out := view{"key": w.PrivateKey(), "port": w.ListenPort(), "mark": w.FirewallMark()}
	peers := []any{}

	for _, p := range w.Peers() {
		peers = append(peers, view{
			"key": p.PublicKey(), "endpoint": p.Endpoint(), "keepalive": p.PersistentKeepaliveInterval(), "allowed": p.AllowedIPs(),
		})
	}

	out["peers"] = peers

	return out
}

func (l linkMap) document(d config.NetworkCommonLinkConfig) {
	name := d.Name()
	link := l.at(name)
	link["up"], link["mtu"] = d.Up().ValueOr(true), d.MTU().ValueOrZero()

	if m, ok := d.Multicast().Get(); ok {
		link["multicast"] = fmt.Sprint(m)
	}

	for _, a := range d.Addresses() {
		l.add(name, "addresses", a.Address())

		if p, ok := a.RoutePriority().Get(); ok {
			l.add(name, "priorities", p)
		}
	}

	for _, r := range d.Routes() {
		text := fmt.Sprint(or(r.Destination()), " via ", or(r.Gateway()), " from ", or(r.Source()), " metric ", metric(r.Metric().ValueOrZero()), " mtu ", r.MTU().ValueOrZero())
		if t, ok := r.Table().Get(); ok {
			text += fmt.Sprint(" table ", t)
		}

		l.add(name, "routes", text)
	}

	switch t := d.(type) {
	case config.NetworkBondConfig:
		link["bond"] = bondOfDocument(t)

		for i, member := range t.Links() {
			l.at(member)["master"] = fmt.Sprint(name, i)
		}
	case config.NetworkBridgeConfig:
		link["bridge"] = view{"stp": t.STP().Enabled().ValueOrZero(), "vlan": t.VLAN().FilteringEnabled().ValueOrZero()}

		for _, member := range t.Links() {
			l.at(member)["master"] = name
		}
	case config.NetworkVLANConfig:
		link["vlan"], link["parent"], link["mode"] = t.VLANID(), t.ParentLink(), t.VLANMode().ValueOr(nethelpers.VLANProtocol8021Q)
	case config.NetworkWireguardConfig:
		out := view{"key": t.PrivateKey(), "port": t.ListenPort().ValueOrZero(), "mark": t.FirewallMark().ValueOrZero()}
		peers := []any{}

		for _, p := range t.Peers() {
			allowed := []string{}
			for _, a := range p.AllowedIPs() {
				allowed = append(allowed, a.String())
			}

			peers = append(peers, view{
				"key": p.PublicKey(), "endpoint": p.Endpoint().ValueOrZero(), "keepalive": p.PersistentKeepalive().ValueOrZero(), "allowed": allowed,
				"preshared": p.PresharedKey().ValueOrZero(),
			})
		}

		out["peers"] = peers
		link["wireguard"] = out
	case config.NetworkDummyLinkConfig:
		link["dummy"] = true
	}
}

func or[T fmt.Stringer](o optional.Optional[T]) string {
	if v, ok := o.Get(); ok {
		return v.String()
	}

	return ""
}

func bondOfDocument(b config.NetworkBondConfig) view {
	return view{
		"mode": b.Mode().String(), "hash": b.XmitHashPolicy().ValueOrZero(), "lacp": b.LACPRate().ValueOrZero(),
		"arpValidate": b.ARPValidate().ValueOrZero(), "arpAll": b.ARPAllTargets().ValueOrZero(), "primary": "",
		"reselect": b.PrimaryReselect().ValueOrZero(), "failover": b.FailOverMAC().ValueOrZero(), "adSelect": b.ADSelect().ValueOrZero(),
		"miimon": b.MIIMon().ValueOrZero(), "updelay": b.UpDelay().ValueOrZero(), "downdelay": b.DownDelay().ValueOrZero(),
		"arpInterval": b.ARPInterval().ValueOrZero(), "igmp": b.ResendIGMP().ValueOrZero(), "minLinks": b.MinLinks().ValueOrZero(),
		"lp": b.LPInterval().ValueOrZero(), "packets": b.PacketsPerSlave().ValueOrZero(), "peerNotif": b.NumPeerNotif().ValueOrZero(),
		"tlb": b.TLBDynamicLB().ValueOrZero(), "all": b.AllSlavesActive().ValueOrZero(), "prio": b.ADActorSysPrio().ValueOrZero(),
		"key": b.ADUserPortKey().ValueOrZero(), "notifyDelay": b.PeerNotifyDelay().ValueOrZero(), "targets": b.ARPIPTargets(), "targets6": b.NSIP6Targets(),
	}
}

// operators adds DHCP and virtual addresses of documents.
func (l linkMap) operators(c config.Config) {
	for _, d := range c.NetworkDHCPv4Configs() {
		l.at(d.Name())["dhcp4"] = view{
			"metric": metric(d.RouteMetric().ValueOrZero()), "client": d.ClientIdentifier(), "duid": d.DUIDRaw().ValueOrZero().String(),
			"hostname": d.IgnoreHostname().ValueOrZero(), "routes": d.IgnoreRoutes().ValueOrZero(),
		}
	}

	for _, d := range c.NetworkDHCPv6Configs() {
		l.at(d.Name())["dhcp6"] = view{
			"metric": metric(d.RouteMetric().ValueOrZero()), "client": d.ClientIdentifier(), "duid": d.DUIDRaw().ValueOrZero().String(),
			"hostname": d.IgnoreHostname().ValueOrZero(),
		}
	}

	for _, d := range c.NetworkVirtualIPConfigs() {
		token := ""
		if h, ok := d.(config.NetworkHCloudVIPConfig); ok {
			token = h.HCloudAPIToken()
		}

		l.add(d.Link(), "vip", d.VIP().String()+" "+token)
	}
}

// defaultMetric is network.DefaultRouteMetric of Talos.
const defaultMetric uint32 = 1024
