package migrate_test

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/configpatcher"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/talosmate/talosmate/internal/ops/machineconfig"
	"github.com/talosmate/talosmate/internal/ops/migrate"
	"github.com/talosmate/talosmate/internal/ops/validate"
)

// sample is a configuration of the corpus: its text with secrets in place, and what its first lines say of it.
type sample struct {
	name       string
	text       []byte
	links      []string
	impossible []string
}

func corpus(t *testing.T) []sample {
	t.Helper()

	bundle, err := secrets.NewBundle(secrets.NewClock(), config.TalosVersion1_13)
	require.NoError(t, err)

	b64 := func(text []byte) string { return base64.StdEncoding.EncodeToString(text) }
	c := bundle.Certs
	fill := strings.NewReplacer(
		"${token}", bundle.TrustdInfo.Token, "${bootstrap}", bundle.Secrets.BootstrapToken, "${id}", bundle.Cluster.ID, "${secret}", bundle.Cluster.Secret,
		"${secretbox}", bundle.Secrets.SecretboxEncryptionSecret, "${aescbc}", b64([]byte("0123456789abcdef0123456789abcdef")),
		"${wg}", b64([]byte("fedcba9876543210fedcba9876543210")),
		"${os.crt}", b64(c.OS.Crt), "${os.key}", b64(c.OS.Key), "${k8s.crt}", b64(c.K8s.Crt), "${k8s.key}", b64(c.K8s.Key),
		"${agg.crt}", b64(c.K8sAggregator.Crt), "${agg.key}", b64(c.K8sAggregator.Key), "${etcd.crt}", b64(c.Etcd.Crt), "${etcd.key}", b64(c.Etcd.Key),
		"${sa.key}", b64(c.K8sServiceAccount.Key),
	)

	files, err := filepath.Glob("testdata/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 40)

	var out []sample

	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)

		s := sample{name: strings.TrimSuffix(filepath.Base(file), ".yaml"), text: []byte(fill.Replace(string(raw)))}

		for line := range strings.Lines(string(raw)) {
			line = strings.TrimSpace(line)
			if list, ok := strings.CutPrefix(line, "# links: "); ok {
				s.links = strings.Split(list, ",")
			}

			if list, ok := strings.CutPrefix(line, "# impossible: "); ok {
				s.impossible = strings.Split(list, ",")
			}
		}

		out = append(out, s)
	}

	return out
}

func TestCorpus(t *testing.T) {
	for _, s := range corpus(t) {
		for _, to := range migrate.Releases() {
			t.Run(s.name+"/"+to, func(t *testing.T) {
				source := validate.Config(s.text, "metal", true)
				require.Empty(t, source.Errors, "the sample itself")

				res, err := migrate.Migrate(s.text, migrate.Options{To: to, Links: s.links})
				require.NoError(t, err)

				verdict := validate.Config(res.Text, "metal", true)
				assert.Empty(t, verdict.Errors)
				assert.Empty(t, slices.DeleteFunc(slices.Clone(res.Warnings), func(w string) bool { return strings.HasPrefix(w, "comment lines") || strings.Contains(w, "proxy mode") }))

				if to == "v1.14" {
					var impossible []string
					for _, f := range res.Fields {
						if f.Status == migrate.Impossible {
							impossible = append(impossible, f.Path)
							assert.NotEmpty(t, f.Reason)
							assert.NotEmpty(t, f.Remedy)
						}
					}

					assert.ElementsMatch(t, s.impossible, impossible)
				}

				for _, f := range res.Fields {
					if f.Status != migrate.Moved {
						assert.NotEmpty(t, f.Reason, f.Path)
					}
				}

				again, err := migrate.Migrate(res.Text, migrate.Options{To: to, Links: s.links})
				require.NoError(t, err)
				assert.False(t, again.Changed, "%v", again.Fields)
				assert.Equal(t, string(res.Text), string(again.Text))
			})
		}
	}
}

// The smaller steps lead to the same documents as one.
func TestSteps(t *testing.T) {
	for _, s := range corpus(t) {
		t.Run(s.name, func(t *testing.T) {
			text := s.text

			for _, to := range migrate.Releases() {
				res, err := migrate.Migrate(text, migrate.Options{To: to, Links: s.links})
				require.NoError(t, err)

				text = res.Text
			}

			once, err := migrate.Migrate(s.text, migrate.Options{To: "v1.14", Links: s.links})
			require.NoError(t, err)

			a, err := machineconfig.Parse(text)
			require.NoError(t, err)

			b, err := machineconfig.Parse(once.Text)
			require.NoError(t, err)
			assert.Empty(t, machineconfig.Diff(a, b, false))
		})
	}
}

// Without any one of the documents and defaults that the converter writes, the proof fails.
func TestMutations(t *testing.T) {
	removed := 0

	for _, s := range corpus(t) {
		t.Run(s.name, func(t *testing.T) {
			before, err := configloader.NewFromBytes(s.text)
			require.NoError(t, err)

			res, err := migrate.Migrate(s.text, migrate.Options{To: "v1.14", Links: s.links})
			require.NoError(t, err)

			for _, id := range res.Documents {
				removed++
				assert.True(t, fails(t, before, migrate.Without(t, res.Text, id, ""), s.links), "without the document %s", id)
			}

			for _, f := range res.Fields {
				if f.Status == migrate.Added && f.To != "" {
					removed++
					assert.True(t, fails(t, before, migrate.Without(t, res.Text, f.Document, f.To), s.links), "without %s of %s", f.To, f.Document)
				}
			}
		})
	}

	assert.Greater(t, removed, 1000)
}

func fails(t *testing.T, before config.Provider, text []byte, links []string) bool {
	t.Helper()

	after, err := configloader.NewFromBytes(text)
	if err != nil {
		return true
	}

	_, differ := migrate.Prove(before, after, links)

	return len(differ) > 0
}

// A patch is one of which Talos's own patcher makes the migrated configuration, or none.
func TestPatch(t *testing.T) {
	var without []string

	for _, s := range corpus(t) {
		res, err := migrate.Migrate(s.text, migrate.Options{To: "v1.14", Links: s.links})
		require.NoError(t, err)

		patch, err := migrate.Patch(s.text, res.Text)
		if err != nil {
			without = append(without, s.name)

			continue
		}

		before, err := configloader.NewFromBytes(s.text)
		require.NoError(t, err)

		loaded, err := configpatcher.LoadPatch(patch)
		require.NoError(t, err)

		made, err := configpatcher.Apply(configpatcher.WithConfig(before), []configpatcher.Patch{loaded})
		require.NoError(t, err)

		text, err := made.Bytes()
		require.NoError(t, err)

		after, err := configloader.NewFromBytes(text)
		require.NoError(t, err)

		_, differ := migrate.Prove(before, after, s.links)
		assert.Empty(t, differ, s.name)

		again, err := migrate.Migrate(text, migrate.Options{To: "v1.14", Links: s.links})
		require.NoError(t, err)
		assert.False(t, again.Changed, s.name)
	}

	assert.Equal(t, []string{"49-some-documents"}, without)
}
