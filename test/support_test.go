package test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

// recipient makes an age key: its private part is in key.txt, its public one is $RECIPIENT.
func recipient(ts *testscript.TestScript, _ bool, _ []string) {
	key, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("key.txt"), []byte(key.String()+"\n"), 0o600))
	ts.Setenv("RECIPIENT", key.Recipient().String())
}

// decrypt FROM TO decrypts a file with the key in key.txt.
func decrypt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: decrypt FROM TO")
	}

	keys, err := age.ParseIdentities(strings.NewReader(ts.ReadFile("key.txt")))
	ts.Check(err)

	plain, err := age.Decrypt(strings.NewReader(ts.ReadFile(args[0])), keys...)
	ts.Check(err)

	body, err := io.ReadAll(plain)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o600))
}

// secretsOf lists the secrets of a node's configuration: the values of fields whose names say so.
func secretsOf(ts *testscript.TestScript, node string) []string {
	var answer struct{ Config string }

	control(ts, map[string]any{"verb": "config", "node": node}, &answer)

	var (
		found []string
		walk  func(name string, v any)
	)

	secret := regexp.MustCompile(`(?i)key$|token|secret`)

	walk = func(name string, v any) {
		switch typed := v.(type) {
		case map[string]any:
			for key, value := range typed {
				walk(key, value)
			}
		case []any:
			for _, value := range typed {
				walk(name, value)
			}
		case string:
			for line := range strings.Lines(typed) {
				if line = strings.TrimSpace(line); secret.MatchString(name) && len(line) > 8 && !strings.HasPrefix(line, "-----") {
					found = append(found, line)
				}
			}
		}
	}

	dec := yaml.NewDecoder(strings.NewReader(answer.Config))

	for {
		var doc any

		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}

		ts.Check(err)
		walk("", doc)
	}

	if len(found) < 4 {
		ts.Fatalf("only %d secrets in the configuration of %s", len(found), node)
	}

	return found
}

// leak NODE SERVICE writes the secrets of a node's configuration into its logs, as careless programs do.
func leak(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: leak NODE SERVICE")
	}

	for _, secret := range secretsOf(ts, args[0]) {
		ts.Check(ts.Exec("talosmate-lab", "ctl", "log", args[0], args[1], "--line", "careless: "+secret+" was used"))
		ts.Check(ts.Exec("talosmate-lab", "ctl", "kernel", args[0], "kern", "info", "careless: "+secret+" was used"))
	}
}

// bundle FILE DIR [NODE] unpacks a bundle. It checks the names and that every file is what the manifest says, every document
// what its schema says, and that no secret of the node's configuration is in it.
func bundle(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: bundle FILE DIR [NODE]")
	}

	archive, err := zip.OpenReader(ts.MkAbs(args[0]))
	ts.Check(err)

	defer archive.Close()

	files := map[string][]byte{}

	for _, f := range archive.File {
		if !filepath.IsLocal(f.Name) || f.Mode().Perm() != 0o600 {
			ts.Fatalf("%q has a bad name or mode %v", f.Name, f.Mode())
		}

		r, err := f.Open()
		ts.Check(err)

		files[f.Name], err = io.ReadAll(r)
		ts.Check(err)

		to := filepath.Join(ts.MkAbs(args[1]), f.Name)
		ts.Check(os.MkdirAll(filepath.Dir(to), 0o700))
		ts.Check(os.WriteFile(to, files[f.Name], 0o600))
	}

	ts.Check(matches(files))
	ts.Check(valid(ts.Getenv("SCHEMAS"), files))

	if len(args) < 3 {
		return
	}

	for _, secret := range secretsOf(ts, args[2]) {
		for name, body := range files {
			if bytes.Contains(body, []byte(secret)) {
				ts.Fatalf("%s has a secret: %.6s…", name, secret)
			}
		}
	}
}

// matches compares a bundle's files with its manifest.
func matches(files map[string][]byte) error {
	var doc struct {
		Result struct {
			Entries []struct {
				Path, Status, SHA256 string
			}
		}
	}

	if err := json.Unmarshal(files["manifest.json"], &doc); err != nil {
		return err
	}

	listed := 1

	for _, e := range doc.Result.Entries {
		if e.Status != "ok" {
			continue
		}

		listed++

		if sum := sha256.Sum256(files[e.Path]); hex.EncodeToString(sum[:]) != e.SHA256 {
			return fmt.Errorf("%s is not what the manifest says", e.Path)
		}
	}

	if listed != len(files) {
		return fmt.Errorf("%d files, and the manifest lists %d", len(files), listed)
	}

	return nil
}

// valid checks documents against their schemas.
func valid(schemas string, files map[string][]byte) error {
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()

	for name, body := range files {
		if !strings.HasSuffix(name, ".json") {
			continue
		}

		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}

		kind, _ := doc.(map[string]any)["schema"].(string)

		schema, err := compiler.Compile(filepath.Join(schemas, strings.TrimPrefix(kind, "talosmate/v1/")+".json"))
		if err == nil {
			err = schema.Validate(doc)
		}

		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}

	return nil
}
