package migrate

import (
	"net/netip"
	"slices"
	"strings"

	coreconfig "github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/types/meta"
	"github.com/siderolabs/talos/pkg/machinery/config/types/network"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/nethelpers"
)

func linkKinds() []string {
	return []string{
		"LinkConfig", "BondConfig", "BridgeConfig", "VLANConfig", "WireguardConfig", "DummyLinkConfig", "DHCPv4Config", "DHCPv6Config",
		"Layer2VIPConfig", "HCloudVIPConfig",
	}
}

// links converts all interfaces at once: with the first document Talos stops DHCP on links that no document names.
func links(s *source) *unit {
	if s.v.MachineConfig.MachineNetwork == nil || len(s.v.MachineConfig.MachineNetwork.NetworkInterfaces) == 0 {
		return nil
	}

	u, devices := s.unit(), s.v.MachineConfig.MachineNetwork.NetworkInterfaces

	for _, kind := range linkKinds() {
		if !s.wants(kind) {
			u.block("machine.network.interfaces", "the documents of links belong together, and "+kind+" was not chosen", "choose all of "+strings.Join(linkKinds(), ", "))

			break
		}
	}

	if s.provider.RunDefaultDHCPOperators() && len(s.o.Links) == 0 {
		u.block("machine.network.interfaces", "Talos runs DHCP on the physical links that v1alpha1 does not name, and on none once a document names one",
			"name the physical links of the machine with --links, or migrate the node itself with -n")
	}

	mentioned := map[string]bool{}

	for i, d := range devices {
		path := index("machine.network.interfaces", i)
		u.device(path, d, devices)
		mentioned[d.Interface()] = true

		if d.Bond() != nil {
			for _, member := range d.Bond().Interfaces() {
				mentioned[member] = true
			}
		}

		if d.Bridge() != nil {
			for _, member := range d.Bridge().Interfaces() {
				mentioned[member] = true
			}
		}
	}

	if s.provider.RunDefaultDHCPOperators() {
		for _, link := range s.o.Links {
			if mentioned[link] {
				continue
			}

			doc := network.NewDHCPv4ConfigV1Alpha1(link)
			u.write(doc)
			u.add(doc, "", "Talos runs DHCP on physical links that v1alpha1 does not name, and on none that documents do not")
		}
	}

	u.clear("machine.network.interfaces")

	return u.validate("machine.network.interfaces").unique("machine.network.interfaces")
}

// device writes the documents of one interface.
func (u *unit) device(path string, d *v1alpha1.Device, all v1alpha1.NetworkDeviceList) {
	if d.DeviceSelector != nil {
		u.block(path+".deviceSelector", "documents name a link, and a selector may match several", "name the interface, or write a LinkAliasConfig by hand")
	}

	if d.Ignore() {
		u.block(path+".ignore", "no document keeps the kernel's command line from configuring a link", "remove the interface, if the command line does not name it")
	}

	if v := d.DeviceVIPConfig; v != nil && v.EquinixMetalConfig != nil {
		u.block(path+".vip.equinixMetal", "no document says it", "")
	}

	name := d.Interface()
	common := u.common(path, d.Addresses(), d.DeviceRoutes, uint32(d.DeviceMTU)) //nolint:gosec // G115: as Talos itself reads it
	first := u.link(path, d, all, common)

	written := len(u.docs)
	u.dhcp(path, name, d.DHCP(), d.DeviceDHCPOptions)

	switch bare, ok := first.(*network.LinkConfigV1Alpha1); {
	case !ok || bare.LinkMTU != 0 || len(bare.LinkAddresses)+len(bare.LinkRoutes) > 0:
		u.docs = slices.Insert(u.docs, written, first)
	case len(u.docs) > written:
		first = u.docs[written] // Talos brings links up that run DHCP
	case d.DeviceBridgePort != nil:
		first = network.NewBridgeConfigV1Alpha1(d.DeviceBridgePort.BridgePortMaster) // and ports of bridges
	default:
		u.write(first)
	}

	u.vip(path+".vip", name, d.DeviceVIPConfig)

	for i, v := range d.DeviceVlans {
		at := index(path+".vlans", i)
		vlan := network.NewVLANConfigV1Alpha1(nethelpers.VLANLinkName(name, v.VlanID))
		vlan.VLANIDConfig, vlan.ParentLinkConfig = v.VlanID, name
		vlan.CommonLinkConfig = u.common(at, v.Addresses(), v.VlanRoutes, v.VlanMTU)
		u.write(vlan)
		u.dhcp(at, vlan.MetaName, v.DHCP(), v.VlanDHCPOptions)
		u.vip(at+".vip", vlan.MetaName, v.VlanVIP)
		u.move(at, vlan, "")
	}

	u.move(path, first, "")
}

// link makes the document of the interface itself.
func (u *unit) link(path string, d *v1alpha1.Device, all v1alpha1.NetworkDeviceList, common network.CommonLinkConfig) coreconfig.Document {
	name := d.Interface()

	if p := d.DeviceBridgePort; p != nil && !slices.ContainsFunc(all, func(o *v1alpha1.Device) bool { return o.DeviceInterface == p.BridgePortMaster && o.DeviceBridge != nil }) {
		u.block(path+".bridgePort", "the bridge is not in this configuration", "add the bridge as an interface")
	}

	switch {
	case d.DeviceBond != nil:
		doc := network.NewBondConfigV1Alpha1(name)
		doc.CommonLinkConfig = common
		u.bond(path+".bond", d.DeviceBond, doc)

		return doc
	case d.DeviceBridge != nil:
		doc := network.NewBridgeConfigV1Alpha1(name)
		doc.CommonLinkConfig = common
		doc.BridgeLinks = slices.Clone(d.DeviceBridge.BridgedInterfaces)

		for _, o := range all {
			if o.DeviceBridgePort != nil && o.DeviceBridgePort.BridgePortMaster == name && !slices.Contains(doc.BridgeLinks, o.DeviceInterface) {
				doc.BridgeLinks = append(doc.BridgeLinks, o.DeviceInterface)
			}
		}

		doc.BridgeSTP.BridgeSTPEnabled = new(d.DeviceBridge.STP().Enabled())
		if stp := d.DeviceBridge.BridgeSTP; stp == nil || stp.STPEnabled == nil {
			u.add(doc, "stp.enabled", "bridges have STP with v1alpha1, and have not with the document unless it says so")
		}

		if d.DeviceBridge.BridgeVLAN != nil {
			doc.BridgeVLAN.BridgeVLANFiltering = d.DeviceBridge.BridgeVLAN.BridgeVLANFiltering
		}

		return doc
	case d.DeviceWireguardConfig != nil:
		doc := network.NewWireguardConfigV1Alpha1(name)
		doc.CommonLinkConfig = common
		u.wireguard(path+".wireguard", d.DeviceWireguardConfig, doc)

		return doc
	case d.Dummy():
		doc := network.NewDummyLinkConfigV1Alpha1(name)
		doc.CommonLinkConfig = common

		return doc
	default:
		doc := network.NewLinkConfigV1Alpha1(name)
		doc.CommonLinkConfig = common

		return doc
	}
}

func (u *unit) common(path string, addresses []string, routes []*v1alpha1.Route, mtu uint32) network.CommonLinkConfig {
	out := network.CommonLinkConfig{LinkMTU: mtu}

	for _, text := range addresses {
		address, err := prefix(text)
		if err != nil {
			u.block(path+".addresses", "an address is none", "correct it first")

			continue
		}

		out.LinkAddresses = append(out.LinkAddresses, network.AddressConfig{AddressAddress: address})
	}

	for i, r := range routes {
		doc, err := route(r)
		if err != nil {
			u.block(index(path+".routes", i), "the route is not one: Talos ignores it", "correct or remove it")

			continue
		}

		out.LinkRoutes = append(out.LinkRoutes, doc)
	}

	return out
}

func prefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		return netip.ParsePrefix(text)
	}

	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}

	return netip.PrefixFrom(address, address.BitLen()), nil
}

func route(r *v1alpha1.Route) (network.RouteConfig, error) {
	out := network.RouteConfig{RouteMetric: r.RouteMetric, RouteMTU: r.RouteMTU}

	if r.RouteNetwork != "" {
		to, err := netip.ParsePrefix(r.RouteNetwork)
		if err != nil {
			return out, err
		}

		if to.Bits() > 0 || r.RouteGateway == "" { // a route without a destination is the default route
			out.RouteDestination = meta.Prefix{Prefix: to}
		}
	}

	for _, f := range []struct {
		text string
		to   *meta.Addr
	}{{r.RouteGateway, &out.RouteGateway}, {r.RouteSource, &out.RouteSource}} {
		if f.text == "" {
			continue
		}

		address, err := netip.ParseAddr(f.text)
		if err != nil {
			return out, err
		}

		f.to.Addr = address
	}

	return out, nil
}

// dhcp writes the operators. v1alpha1 sends no client identifier, and the documents send the MAC unless they say no.
func (u *unit) dhcp(path, link string, on bool, o *v1alpha1.DHCPOptions) {
	if !on {
		return
	}

	if o == nil {
		o = &v1alpha1.DHCPOptions{}
	}

	const why = "v1alpha1 sends no client identifier, and the document sends the MAC unless it says no"

	if o.IPv4() {
		doc := network.NewDHCPv4ConfigV1Alpha1(link)
		doc.ConfigRouteMetric, doc.ConfigClientIdentifier = o.DHCPRouteMetric, new(nethelpers.ClientIdentifierNone)
		u.write(doc)
		u.add(doc, "clientIdentifier", why)
	}

	if o.IPv6() {
		doc := network.NewDHCPv6ConfigV1Alpha1(link)
		doc.ConfigRouteMetric, doc.ConfigClientIdentifier = o.DHCPRouteMetric, new(nethelpers.ClientIdentifierNone)

		if o.DHCPDUIDv6 != "" {
			doc.ConfigClientIdentifier = new(nethelpers.ClientIdentifierDUID)
			if err := doc.ConfigDUIDRaw.UnmarshalText([]byte(colons(o.DHCPDUIDv6))); err != nil {
				u.block(path+".dhcpOptions.duidv6", "it is not a DUID in hexadecimal", "correct it first")
			}
		}

		u.write(doc)
		u.add(doc, "clientIdentifier", why)
	}
}

// colons puts the colons into a DUID that is written without.
func colons(text string) string {
	if strings.Contains(text, ":") {
		return text
	}

	var out []string
	for i := 0; i+1 < len(text); i += 2 {
		out = append(out, text[i:i+2])
	}

	return strings.Join(out, ":")
}

func (u *unit) vip(path, link string, from *v1alpha1.DeviceVIPConfig) {
	switch {
	case from == nil:
	case from.HCloudConfig != nil:
		doc := network.NewHCloudVIPConfigV1Alpha1(from.SharedIP)
		doc.LinkName, doc.APIToken = link, from.HCloudConfig.HCloudAPIToken
		u.write(doc)
	default:
		if from.EquinixMetalConfig != nil {
			u.block(path+".equinixMetal", "no document says it", "")
		}

		doc := network.NewLayer2VIPConfigV1Alpha1(from.SharedIP)
		doc.LinkName = link
		u.write(doc)
	}
}

func (u *unit) wireguard(path string, from *v1alpha1.DeviceWireguardConfig, doc *network.WireguardConfigV1Alpha1) {
	doc.WireguardPrivateKey, doc.WireguardListenPort, doc.WireguardFirewallMark = from.WireguardPrivateKey, from.WireguardListenPort, from.WireguardFirewallMark

	for i, p := range from.WireguardPeers {
		peer := network.WireguardPeer{WireguardPublicKey: p.WireguardPublicKey, WireguardPersistentKeepaliveInterval: p.WireguardPersistentKeepaliveInterval}

		if p.WireguardEndpoint != "" {
			endpoint, err := netip.ParseAddrPort(p.WireguardEndpoint)
			if err != nil {
				u.block(index(path+".peers", i)+".endpoint", "the document takes an address and a port, and no name", "write the address")
			}

			peer.WireguardEndpoint = meta.AddrPort{AddrPort: endpoint}
		}

		for _, text := range p.WireguardAllowedIPs {
			allowed, err := netip.ParsePrefix(text)
			if err != nil {
				u.block(index(path+".peers", i)+".allowedIPs", "an entry is not a subnet", "correct it first")
			}

			peer.WireguardAllowedIPs = append(peer.WireguardAllowedIPs, meta.Prefix{Prefix: allowed})
		}

		doc.WireguardPeers = append(doc.WireguardPeers, peer)
	}
}

// set is a pointer to a value that is not zero.
func set[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}

	return &v
}

// named parses a name of the kernel, which has a value even if it is empty.
func named[T comparable](u *unit, path, name string, parse func(string) (T, error)) *T {
	if name == "" {
		return nil
	}

	v, err := parse(name)
	if err != nil {
		u.block(path, "Talos knows no such value", "correct it first")
	}

	return &v
}

func (u *unit) bond(path string, from *v1alpha1.Bond, doc *network.BondConfigV1Alpha1) {
	for _, f := range []struct {
		set    bool
		field  string
		reason string
	}{
		{len(from.BondDeviceSelectors) > 0, "deviceSelectors", "documents name links, and a selector may match several"},
		{from.BondADActorSystem != "", "adActorSystem", "no document says it, and Talos ignores it"},
		{len(from.BondARPIPTarget) > 0, "arpIPTarget", "Talos ignores it in v1alpha1, and not in the document"},
	} {
		if f.set {
			u.block(path+"."+f.field, f.reason, "remove it, or write the interfaces by hand")
		}
	}

	mode, err := nethelpers.BondModeByName(from.BondMode)
	if err != nil {
		u.block(path+".mode", "Talos knows no such mode", "correct it first")
	}

	doc.BondLinks, doc.BondMode = from.BondInterfaces, &mode
	doc.BondXmitHashPolicy = named(u, path+".xmitHashPolicy", from.BondHashPolicy, nethelpers.BondXmitHashPolicyByName)
	doc.BondLACPRate = named(u, path+".lacpRate", from.BondLACPRate, nethelpers.LACPRateByName)
	doc.BondARPValidate = named(u, path+".arpValidate", from.BondARPValidate, nethelpers.ARPValidateByName)
	doc.BondARPAllTargets = named(u, path+".arpAllTargets", from.BondARPAllTargets, nethelpers.ARPAllTargetsByName)
	doc.BondPrimaryReselect = named(u, path+".primaryReselect", from.BondPrimaryReselect, nethelpers.PrimaryReselectByName)
	doc.BondFailOverMAC = named(u, path+".failOverMac", from.BondFailOverMac, nethelpers.FailOverMACByName)
	doc.BondADSelect = named(u, path+".adSelect", from.BondADSelect, nethelpers.ADSelectByName)

	if from.BondPrimary != "" {
		u.block(path+".primary", "BondConfig of Talos 1.14 cannot say it", "remove it")
	}

	doc.BondMIIMon, doc.BondUpDelay, doc.BondDownDelay = set(from.BondMIIMon), set(from.BondUpDelay), set(from.BondDownDelay)
	doc.BondARPInterval, doc.BondResendIGMP, doc.BondMinLinks = set(from.BondARPInterval), set(from.BondResendIGMP), set(from.BondMinLinks)
	doc.BondLPInterval, doc.BondPacketsPerSlave, doc.BondNumPeerNotif = set(from.BondLPInterval), set(from.BondPacketsPerSlave), set(from.BondNumPeerNotif)
	doc.BondTLBDynamicLB, doc.BondAllSlavesActive, doc.BondUseCarrier = set(from.BondTLBDynamicLB), set(from.BondAllSlavesActive), from.BondUseCarrier
	doc.BondADActorSysPrio, doc.BondADUserPortKey, doc.BondPeerNotifyDelay = set(from.BondADActorSysPrio), set(from.BondADUserPortKey), set(from.BondPeerNotifyDelay)
}
