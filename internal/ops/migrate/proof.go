package migrate

import (
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/cel"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
)

// Prove compares what Talos reads of two configurations: every accessor of config.Config, and the nested ones, by value.
// Accessors that may differ are replaced by what Talos makes of them, or have a reason. It returns the paths that differ.
func Prove(before, after config.Config, links []string) (proof Proof, differ []string) {
	// An accessor of a configuration that Talos does not accept may panic.
	defer func() {
		if p := recover(); p != nil {
			differ = append(differ, fmt.Sprintf("an accessor that fails: %v", p))
		}
	}()

	known := accessors()
	old, now := read(before, known), read(after, known)
	controlPlane := before.Machine().Type().IsControlPlane()
	proof.Exceptions = []Exception{}

	for _, path := range union(old, now) {
		if proof.Accessors++; old[path] == now[path] {
			continue
		}

		reason := excepted(path, before, controlPlane)
		if reason == "" {
			differ = append(differ, path)

			continue
		}

		e := Exception{Path: lookup(path), Reason: reason}
		if !slices.Contains(proof.Exceptions, e) {
			proof.Exceptions = append(proof.Exceptions, e)
		}
	}

	old, now = views(before, known, links, controlPlane), views(after, known, links, controlPlane)

	for _, path := range union(old, now) {
		if proof.Accessors++; old[path] != now[path] {
			differ = append(differ, path)
		}
	}

	return proof, differ
}

func union(a, b map[string]string) []string {
	var out []string

	for path := range a {
		out = append(out, path)
	}

	for path := range b {
		if _, both := a[path]; !both {
			out = append(out, path)
		}
	}

	slices.Sort(out)

	return out
}

// lookup cuts a path to the accessor that the user may look up.
func lookup(path string) string {
	parts := steps(path)

	return join("", parts[:min(2, len(parts))]...)
}

// read gives every value that the accessors of a configuration return, by its path.
func read(c config.Config, known map[reflect.Type][]accessor) map[string]string {
	out := reading{known, map[string]string{}}
	out.methods(reflect.ValueOf(c), reflect.TypeFor[config.Config](), "")

	return out.values
}

// reading has the values of accessors by their paths. What is zero is not there: absent and zero are the same to Talos,
// but for the top, where a section that is present is marked.
type reading struct {
	accessors map[reflect.Type][]accessor
	values    map[string]string
}

// accessor is a method of a type. Its first argument is the value.
type accessor struct {
	name string
	call reflect.Value
}

// arguments are those of the few accessors that take one.
func arguments(method string) []string {
	switch method {
	case "Get", "ByName":
		return []string{"STATE", "EPHEMERAL", "ETCD", "CRI", "KUBELET", "LOG", "IMAGECACHE"}
	default:
		return nil
	}
}

func (r reading) methods(v reflect.Value, t reflect.Type, path string) {
	methods, known := r.accessors[t]
	if !known {
		panic(fmt.Sprintf("no accessors are known of %s", t))
	}

	for _, m := range methods {
		call, at := m.call.Type(), join(path, m.name)

		switch {
		case call.NumOut() == 0:
		case call.NumIn() == 1:
			r.result(m.call, []reflect.Value{v}, at)
		case call.NumIn() == 2 && call.In(1).Kind() == reflect.String:
			for _, argument := range arguments(m.name) {
				r.result(m.call, []reflect.Value{v, reflect.ValueOf(argument)}, join(at, argument))
			}
		}
	}
}

// result reads what an accessor returns: the value, and an error or a bool where it has one.
func (r reading) result(call reflect.Value, in []reflect.Value, path string) {
	out := call.Call(in)
	declared := call.Type().Out(0)

	if len(steps(path)) == 1 && declared.Kind() == reflect.Interface && !out[0].IsNil() && !nilPointer(out[0]) {
		r.values[path] = "present"
	}

	r.value(out[0], declared, path)
}

func nilPointer(v reflect.Value) bool {
	return v.Kind() == reflect.Interface && v.Elem().Kind() == reflect.Pointer && v.Elem().IsNil()
}

// Specific lists the interfaces that Talos asks values for in type switches.
func Specific() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[config.NetworkBondConfig](), reflect.TypeFor[config.NetworkBridgeConfig](), reflect.TypeFor[config.NetworkVLANConfig](),
		reflect.TypeFor[config.NetworkVRFConfig](), reflect.TypeFor[config.NetworkVethConfig](), reflect.TypeFor[config.NetworkWireguardConfig](),
		reflect.TypeFor[config.NetworkDummyLinkConfig](), reflect.TypeFor[config.NetworkHCloudVIPConfig](),
		reflect.TypeFor[config.NetworkTCPProbeConfig](), reflect.TypeFor[config.NetworkHTTPProbeConfig](),
	}
}

func (r reading) value(v reflect.Value, declared reflect.Type, path string) {
	if !v.IsValid() || (nilable(v.Kind()) && v.IsNil()) || nilPointer(v) {
		return
	}

	if text, ok := scalar(v); ok {
		if !v.IsZero() && text != "" {
			r.values[path] = text
		}

		return
	}

	switch v.Kind() {
	case reflect.Interface:
		if declared.NumMethod() == 0 {
			r.value(v.Elem(), v.Elem().Type(), path)

			return
		}

		r.methods(v, declared, path)

		for _, t := range Specific() {
			if v.Elem().Type().Implements(t) {
				r.methods(v.Elem(), t, path)
			}
		}
	case reflect.Pointer:
		r.value(v.Elem(), v.Elem().Type(), path)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			r.value(v.Index(i), v.Type().Elem(), index(path, i))
			r.values[index(path, i)+"."] = "present"
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			at := path + "[" + fmt.Sprint(k) + "]"
			if v.Type() != reflect.TypeFor[view]() {
				r.values[at+"."] = "present"
			}

			r.value(v.MapIndex(k), v.Type().Elem(), at)
		}
	case reflect.Struct:
		get := v.MethodByName("Get")                                              //nolint:forbidigo // the name is a constant
		if get.IsValid() && get.Type().NumIn() == 0 && get.Type().NumOut() == 2 { // an optional value
			if out := get.Call(nil); out[1].Bool() {
				r.values[path] = "present"
				r.value(out[0], out[0].Type(), path+".value")
			}

			return
		}

		if Opaque(v.Type()) {
			r.methods(v, v.Type(), path)

			return
		}

		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				r.value(v.Field(i), v.Type().Field(i).Type, join(path, v.Type().Field(i).Name))
			}
		}
	}
}

// Opaque reports whether a struct is read through its methods.
func Opaque(t reflect.Type) bool {
	return t.PkgPath() != "" && t.NumMethod() > 0 && t.NumField() > 0 && !t.Field(0).IsExported()
}

func nilable(k reflect.Kind) bool {
	return slices.Contains([]reflect.Kind{reflect.Interface, reflect.Pointer, reflect.Slice, reflect.Map, reflect.Func}, k)
}

// scalar gives the text of a value that has no parts.
func scalar(v reflect.Value) (string, bool) {
	switch typed := v.Interface().(type) {
	case []byte:
		return string(typed), true
	case *url.URL:
		return typed.String(), true
	case cel.Expression:
		return typed.String(), true
	case *cel.Expression:
		return typed.String(), true
	case error:
		return typed.Error(), true
	}

	switch v.Kind() {
	case reflect.Interface, reflect.Pointer, reflect.Slice, reflect.Map, reflect.Func:
		return "", false
	case reflect.Struct:
		if m, ok := v.Interface().(encoding.TextMarshaler); ok {
			text, err := m.MarshalText()

			return string(text), err == nil
		}

		return "", false
	default:
		return fmt.Sprint(v.Interface()), true
	}
}

// onWorkers lists the accessors that Talos calls on control planes only.
func onWorkers() []string {
	return []string{
		"K8sAPIServerConfig", "K8sAdmissionControlPluginConfigs", "K8sAuditPolicyConfig", "K8sAuthenticationConfig", "K8sAuthorizerConfigs",
		"K8sControllerManagerConfig", "K8sSchedulerConfig", "K8sProxyConfig", "K8sFlannelCNIConfig", "K8sCoreDNSConfig", "K8sServiceAccountConfig",
		"K8sAggregatorCAConfig", "K8sEtcdEncryptionConfig", "K8sInlineManifestConfigs", "K8sExternalManifestConfigs",
	}
}

// excepted gives the reason why an accessor may differ, empty if it may not.
func excepted(path string, before config.Config, controlPlane bool) string {
	top := steps(strings.TrimSuffix(path, "."))[0]
	if !controlPlane && slices.Contains(onWorkers(), top) {
		return "Talos asks for it on control planes only"
	}

	for _, e := range exceptions() {
		if below(path, e.path) && (e.when == nil || e.when(before)) {
			return e.reason
		}
	}

	return ""
}

type exception struct {
	path, reason string
	when         func(config.Config) bool
}

// exceptions lists the accessors that may differ. Those that are proved otherwise are compared as Talos uses them, in views.
func exceptions() []exception {
	const proved = "compared as Talos uses it: "

	return []exception{
		{"Machine.Install", proved + "the disk, the image and the wipe of an installation", nil},
		{"UnattendedInstallConfig", proved + "the disk, the image and the wipe of an installation", nil},
		{"Machine.Network", proved + "the links, addresses, routes and operators of both", nil},
		{"NetworkCommonLinkConfigs", proved + "the links, addresses, routes and operators of both", nil},
		{"NetworkDHCPConfigs", proved + "the links, addresses, routes and operators of both", nil},
		{"NetworkDHCPv4Configs", proved + "the links, addresses, routes and operators of both", nil},
		{"NetworkDHCPv6Configs", proved + "the links, addresses, routes and operators of both", nil},
		{"NetworkVirtualIPConfigs", proved + "the links, addresses, routes and operators of both", nil},
		{"RunDefaultDHCPOperators", proved + "the physical links that run DHCP are listed one by one", nil},
		{"Machine.SystemDiskEncryption", proved + "the encryption of STATE and EPHEMERAL", nil},
		{"Volumes", proved + "the encryption of STATE and EPHEMERAL", nil},
		{"Machine.Env", proved + "the variables of both", nil},
		{"Environment", proved + "the variables of both", nil},
		{"Machine.Sysctls", "SysctlConfig has the values of both, and is equal", nil},
		{"Machine.Sysfs", "SysfsConfig has the values of both, and is equal", nil},
		{"Machine.Udev", "UdevRulesConfig has the rules of both, and is equal", nil},
		{"Cluster.AESCBCEncryptionSecret", proved + "the encryption configuration of kube-apiserver", nil},
		{"Cluster.SecretboxEncryptionSecret", proved + "the encryption configuration of kube-apiserver", nil},
		{"K8sEtcdEncryptionConfig", proved + "the encryption configuration of kube-apiserver", nil},
		{"Cluster.Discovery", proved + "the registries that are on", nil},
		{"K8sAuthorizerConfigs", proved + "the list of authorizers of kube-apiserver", nil},
		{"K8sAPIServerConfig.InjectDefaultAuthorizers", proved + "the list of authorizers of kube-apiserver", nil},
		{"K8sAPIServerConfig.ExtraArgs", proved + "the arguments and the authentication of kube-apiserver", nil},
		{"K8sAPIServerConfig.UseAuthenticationConfig", proved + "the arguments and the authentication of kube-apiserver", nil},
		{"K8sAuthenticationConfig", proved + "the arguments and the authentication of kube-apiserver", nil},
		{"K8sAPIServerConfig.ExtraVolumes", "with the document kube-apiserver also sees the machine's trusted CAs, to verify issuers; what mounted more was kept", nil},
		{"K8sProxyConfig", proved + "the settings of kube-proxy, as arguments or as a file", nil},
		{"K8sExternalManifestConfigs", proved + "the URLs and headers; the names are new", nil},
		{"NetworkHostDNSConfig", "the DNS cache of the host is off in both", func(c config.Config) bool { return !c.NetworkHostDNSConfig().HostDNSEnabled() }},
		{"K8sCredentialProviderConfig", "there is no credential provider in both", func(c config.Config) bool {
			return c.K8sCredentialProviderConfig() == nil || len(c.K8sCredentialProviderConfig().Configuration()) == 0
		}},
		{"NetworkTimeSyncConfig", "the section is empty", func(c config.Config) bool {
			t := c.NetworkTimeSyncConfig()

			return t == nil || !t.Disabled() && len(t.Servers()) == 0 && t.BootTimeout() == 0
		}},
		{"ImageCacheConfig", "the image cache is off in both", func(c config.Config) bool {
			return c.ImageCacheConfig() == nil || !c.ImageCacheConfig().LocalEnabled()
		}},
		{"NetworkHostnameConfig.AutoHostname", "the hostname is set, and nothing is derived", func(c config.Config) bool {
			return c.NetworkHostnameConfig() != nil && c.NetworkHostnameConfig().Hostname() != ""
		}},
	}
}
