package registry

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// keychain finds credentials where docker and podman keep them, credential helpers included. Every file is tried in
// turn: a docker configuration without the registry does not hide podman's login.
type keychain struct {
	env func(string) (string, bool)
}

// Resolve implements authn.Keychain. Without credentials for the target the access is anonymous.
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	for _, path := range k.files() {
		found, err := lookup(path, target)
		if err != nil {
			return nil, err
		}

		if found != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: found.Username, Password: found.Password, Auth: found.Auth,
				IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken,
			}), nil
		}
	}

	return authn.Anonymous, nil
}

// files are the places in order: $REGISTRY_AUTH_FILE, $DOCKER_CONFIG or ~/.docker, podman's runtime
// directory, podman's persistent directory (containers-auth.json(5)).
func (k keychain) files() []string {
	get := func(key string) string {
		if v, ok := k.env(key); ok {
			return v
		}

		return ""
	}

	var out []string

	add := func(dir string, rest ...string) {
		if dir != "" {
			out = append(out, filepath.Join(append([]string{dir}, rest...)...))
		}
	}

	add(get("REGISTRY_AUTH_FILE"))

	home := get("HOME")

	if dir := get("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(home, ".docker", "config.json")
	}

	add(get("XDG_RUNTIME_DIR"), "containers", "auth.json")

	if dir := get("XDG_CONFIG_HOME"); dir != "" {
		add(dir, "containers", "auth.json")
	} else {
		add(home, ".config", "containers", "auth.json")
	}

	return out
}

// maxCredentials is the largest file of registry logins.
const maxCredentials = 1 << 20

func lookup(path string, target authn.Resource) (types.AuthConfig, error) {
	var none types.AuthConfig

	text, err := fsutil.ReadFile(path, maxCredentials)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}

	if err != nil {
		return none, errs.Usagef("cannot read the registry credentials: %w", err)
	}

	cf, err := config.LoadFromReader(bytes.NewReader(text))
	if err != nil {
		return none, errs.Usagef("cannot read the registry credentials in %s: %w", path, err)
	}

	// Logins are kept per registry, and by podman per repository too.
	for _, key := range []string{target.String(), target.RegistryStr()} {
		if key == name.DefaultRegistry {
			key = authn.DefaultAuthKey
		}

		found, err := cf.GetAuthConfig(key)
		if err != nil {
			return none, fmt.Errorf("cannot get the credentials for %s: %w", key, err)
		}

		found.ServerAddress = "" // set in every answer, even an empty one

		if found != none {
			return found, nil
		}
	}

	return none, nil
}
