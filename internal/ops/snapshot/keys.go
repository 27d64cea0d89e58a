package snapshot

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"golang.org/x/crypto/nacl/secretbox"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/ops/migrate"
)

// Keys is how kube-apiserver encrypts what it stores. Nothing of it but the names of its keys is ever shown.
type Keys struct {
	keys      []key
	resources []resource
}

type key struct {
	provider, name string
	secret         []byte
}

// resource is one that the encryption configuration names.
type resource struct {
	name     string
	identity bool // Whether what is not encrypted is read.
}

// Providers of the API server.
const (
	providerSecretbox = "secretbox"
	providerAESCBC    = "aescbc"
	providerAESGCM    = "aesgcm"
	providerKMS       = "kms"
)

// KeysOf reads the keys from a control plane's machine configuration, in the form of v1alpha1 or of documents. The names
// of the keys of v1alpha1 are Talos's. A configuration that cannot be used is a usage error.
func KeysOf(text []byte) (*Keys, error) {
	unusable := func(format string, args ...any) *errs.Error {
		return errs.Usagef("cannot read the encryption keys from the machine configuration: %w", fmt.Errorf(format, args...))
	}

	cfg, err := configloader.NewFromBytes(text)
	if err != nil {
		return nil, unusable("%w", err)
	}

	if cfg.Machine() != nil && !cfg.Machine().Type().IsControlPlane() {
		return nil, unusable("it is a worker's").WithHint("give that of a control plane")
	}

	raw, err := json.Marshal(migrate.EtcdEncryption(cfg))
	if err != nil {
		return nil, unusable("%w", err)
	}

	var doc struct {
		Resources []struct {
			Resources []string
			Providers []map[string]struct {
				Keys []struct{ Name, Secret string }
			}
		}
	}

	if err = json.Unmarshal(raw, &doc); err != nil {
		return nil, unusable("the encryption configuration of kube-apiserver is not one")
	}

	out := &Keys{}

	for _, entry := range doc.Resources {
		r := resource{}

		for _, p := range entry.Providers {
			for provider, content := range p {
				if provider == "identity" {
					r.identity = true
				}

				for _, k := range content.Keys {
					secret, err := base64.StdEncoding.DecodeString(k.Secret)
					if err != nil || !slices.Contains(keyLengths(provider), len(secret)) {
						return nil, unusable("the key %q of %s is not valid", k.Name, provider) // without the key
					}

					out.keys = append(out.keys, key{provider, k.Name, secret})
				}
			}
		}

		for _, name := range entry.Resources {
			r.name = name
			out.resources = append(out.resources, r)
		}
	}

	return out, nil
}

// ConfigReader is a node that gives its machine configuration; *talos.Node implements it.
type ConfigReader interface {
	MachineConfig(ctx context.Context) ([]byte, error)
	Blame(op string, err error) error
}

// KeysFrom reads the keys from a control plane.
func KeysFrom(ctx context.Context, n ConfigReader) (*Keys, error) {
	text, err := n.MachineConfig(ctx)
	if typed := (*errs.Error)(nil); errors.As(err, &typed) && typed.Kind == errs.KindPermissionDenied {
		err = typed.WithHint("a machine configuration is readable with os:admin; or give a file with --config")
	}

	if err != nil {
		return nil, err
	}

	keys, err := KeysOf(text)
	if err != nil {
		err = n.Blame("read the encryption keys", errors.New(err.Error()))
	}

	return keys, err
}

func keyLengths(provider string) []int {
	if provider == providerSecretbox {
		return []int{32}
	}

	return []int{16, 24, 32}
}

// Names are the keys, as provider and name.
func (k *Keys) Names() []string {
	return lists.Map(k.keys, func(k key) string { return k.provider + ":" + k.name })
}

// plainAllowed reports whether kube-apiserver reads an object of a resource that is not encrypted.
func (k *Keys) plainAllowed(p place) bool {
	group, name, custom := strings.Cut(p.resource, "/")
	if !custom {
		name = group
	}

	for _, r := range k.resources {
		if r.name == name || r.name == "*.*" || (custom && (r.name == name+"."+group || r.name == "*."+group)) {
			return r.identity
		}
	}

	return true
}

// sealed is an encrypted value.
type sealed struct {
	provider, version, key string
	payload                []byte
}

// sealedOf takes an encrypted value apart; ok is false for one that is not encrypted.
func sealedOf(value []byte) (s sealed, ok bool) {
	rest, ok := bytes.CutPrefix(value, []byte(encryptedPrefix))
	if !ok {
		return s, false
	}

	parts := bytes.SplitN(rest, []byte(":"), 4)
	if len(parts) < 4 || len(parts[0])+len(parts[1])+len(parts[2]) > 3*maxName {
		return sealed{provider: "unknown"}, true
	}

	return sealed{string(parts[0]), string(parts[1]), string(parts[2]), parts[3]}, true
}

// Errors of opening a value.
var (
	errNoKey     = errors.New("the configuration has no key of this name")
	errWrongKey  = errors.New("the key of this name does not decrypt it")
	errUnchecked = errors.New("only the key service decrypts it")
)

// open decrypts a value as kube-apiserver does (k8s.io/apiserver, pkg/storage/value/encrypt). path is the key of the
// object in etcd, which AES-GCM authenticates.
func (k *Keys) open(s sealed, path []byte) ([]byte, error) {
	if s.provider == providerKMS {
		return nil, errUnchecked
	}

	err := errNoKey

	for _, one := range k.keys {
		if one.provider != s.provider || one.name != s.key || s.version != "v1" {
			continue
		}

		// CBC authenticates nothing: a wrong key is seen by what comes out of it.
		if plain := one.open(s.payload, path); plain != nil && readable(plain) {
			return plain, nil
		}

		err = errWrongKey
	}

	return nil, err
}

// readable reports whether a value is an object: protobuf, JSON or CBOR.
func readable(value []byte) bool {
	return bytes.HasPrefix(value, []byte(protobufMagic)) || bytes.HasPrefix(value, []byte("{")) || bytes.HasPrefix(value, []byte("\xd9\xd9\xf7"))
}

// open returns nil for what the key does not decrypt.
func (k key) open(payload, path []byte) []byte {
	if k.provider == providerSecretbox {
		if len(payload) < 24 {
			return nil
		}

		plain, _ := secretbox.Open(nil, payload[24:], (*[24]byte)(payload), (*[32]byte)(k.secret))

		return plain
	}

	block, err := aes.NewCipher(k.secret)
	if err != nil {
		return nil
	}

	switch k.provider {
	case providerAESGCM:
		gcm, err := cipher.NewGCM(block)
		if err != nil || len(payload) < gcm.NonceSize() {
			return nil
		}

		plain, err := gcm.Open(nil, payload[:gcm.NonceSize()], payload[gcm.NonceSize():], path)
		if err != nil {
			return nil
		}

		return plain
	case providerAESCBC:
		if len(payload) < 2*aes.BlockSize || len(payload)%aes.BlockSize != 0 {
			return nil
		}

		plain := make([]byte, len(payload)-aes.BlockSize)
		cipher.NewCBCDecrypter(block, payload[:aes.BlockSize]).CryptBlocks(plain, payload[aes.BlockSize:])

		return unpad(plain)
	default:
		return nil
	}
}

// unpad removes the padding of PKCS 7; nil if there is none.
func unpad(plain []byte) []byte {
	n := int(plain[len(plain)-1])
	if n == 0 || n > aes.BlockSize || bytes.Count(plain[len(plain)-n:], plain[len(plain)-1:]) != n {
		return nil
	}

	return plain[:len(plain)-n]
}
