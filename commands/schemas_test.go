package commands_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestGoldenDocumentsFitTheirSchemas validates every golden document of every command.
func TestGoldenDocumentsFitTheirSchemas(t *testing.T) {
	t.Parallel()

	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()

	files, err := filepath.Glob("*/testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}

	validated := map[string]int{}

	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		for _, doc := range documents(body) {
			name, _ := doc.(map[string]any)["schema"].(string)

			schema, err := compiler.Compile(filepath.Join("..", "docs", "schemas", path.Base(name)+".json"))
			if err != nil {
				t.Errorf("%s: %v", file, err)

				continue
			}

			if err = schema.Validate(doc); err != nil {
				t.Errorf("%s does not fit %s: %v", file, name, err)
			}

			validated[name]++
		}
	}

	if len(validated) < 10 {
		t.Errorf("only %d schemas have a golden document: %v", len(validated), validated)
	}
}

// documents finds the enveloped documents in a golden file; tables, queries and streams have none.
func documents(body []byte) []any {
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		return nil
	}

	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return nil // ndjson
	}

	m, ok := doc.(map[string]any)
	if !ok || m["schema"] == nil || m["generated_at"] == nil {
		return nil
	}

	return []any{doc}
}

// TestListsAreNeverNull looks at every golden document for an items or errors that is null.
func TestListsAreNeverNull(t *testing.T) {
	t.Parallel()

	files, err := filepath.Glob("*/testdata/*.golden")
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		var doc struct {
			Schema string
			Items  json.RawMessage
			Errors json.RawMessage
		}

		if json.Unmarshal(body, &doc) != nil || doc.Schema == "" {
			continue
		}

		if string(doc.Items) == "null" || string(doc.Errors) == "null" {
			t.Errorf("%s has a null list", file)
		}
	}
}
