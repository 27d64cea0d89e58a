package output_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/output"
)

func many(n int) []row {
	out := make([]row, n)
	for i := range out {
		out[i] = row{fmt.Sprintf("10.0.0.%d", i), strings.Repeat("x", 50), int64(i)}
	}

	return out
}

type cutDocument struct {
	Items     []row            `json:"items"     yaml:"items"`
	Errors    []errs.Entry     `json:"errors"    yaml:"errors"`
	Result    map[string]any   `json:"result"    yaml:"result"`
	Truncated output.Truncated `json:"truncated" yaml:"truncated"`
}

// limited prints 100 rows within a limit, and returns the output and the warnings.
func limited(t *testing.T, p output.Printer) (string, string) {
	t.Helper()

	var warned strings.Builder

	p.Warn = func(format string, args ...any) { fmt.Fprintf(&warned, format+"\n", args...) }
	p.Narrow = "talosmate row list --nodes=cp-1"

	got, err := render(t, p, many(100), nil)
	if err != nil {
		t.Fatal(err)
	}

	return got, warned.String()
}

func TestLimitOfDocuments(t *testing.T) {
	t.Parallel()

	for _, format := range []output.Format{output.JSON, output.YAML} {
		for _, limit := range []output.Limit{{Items: 7}, {Bytes: 4096}, {Items: 3, Bytes: 4096}, {Items: 90, Bytes: 2048}} {
			got, warned := limited(t, output.Printer{Format: format, Limit: limit})

			var doc cutDocument

			if format == output.YAML {
				var loose map[string]any
				if err := yaml.Unmarshal([]byte(got), &loose); err != nil {
					t.Fatalf("%v: %v", limit, err)
				}

				raw, _ := json.Marshal(loose)
				got = strings.TrimRight(got, "\n")

				if err := json.Unmarshal(raw, &doc); err != nil {
					t.Fatal(err)
				}
			} else if err := json.Unmarshal([]byte(got), &doc); err != nil {
				t.Fatalf("%v: %v\n%s", limit, err, got)
			}

			switch n := len(doc.Items); {
			case limit.Bytes == 0 && n != limit.Items, n == 0, limit.Items > 0 && n > limit.Items:
				t.Errorf("%s %v: %d items", format, limit, n)
			case limit.Bytes > 0 && len(got) > limit.Bytes, limit.Bytes == 4096 && limit.Items == 0 && len(got) < 3800:
				t.Errorf("%s %v: %d bytes", format, limit, len(got))
			case doc.Truncated.Items != 100 || doc.Truncated.MaxItems != limit.Items || doc.Truncated.MaxBytes != limit.Bytes || doc.Truncated.Bytes < 8000:
				t.Errorf("%s %v: %+v", format, limit, doc.Truncated)
			case !strings.Contains(doc.Truncated.Hint, "talosmate row list --nodes=cp-1 --query '.items[] | [.id, .size_bytes] | @tsv'"):
				t.Errorf("hint %q", doc.Truncated.Hint)
			case warned != "" || strings.Index(got, "truncated") > strings.Index(got, "items:") && format == output.YAML:
				t.Errorf("%q\n%s", warned, got)
			}
		}
	}

	if got, warned := limited(t, output.Printer{Format: output.JSON, Limit: output.Limit{Items: 100, Bytes: 1 << 20}}); strings.Contains(got, "truncated") || warned != "" {
		t.Errorf("a document within its limits is cut: %s", warned)
	}
}

func TestLimitOfLines(t *testing.T) {
	t.Parallel()

	got, _ := limited(t, output.Printer{Format: output.NDJSON, Limit: output.Limit{Items: 5}})
	if lines := strings.Split(strings.TrimSpace(got), "\n"); len(lines) != 6 || !strings.Contains(lines[5], `"type":"summary","items":5,"errors":0,"truncated":{"items":100,"max_items":5,"hint":"`) {
		t.Errorf("%s", got)
	}

	got, _ = limited(t, output.Printer{Format: output.NDJSON, Limit: output.Limit{Bytes: 4096}})
	if len(got) > 4096 || len(got) < 3000 || !strings.Contains(got, `"truncated":{"items":100,"max_bytes":4096,`) {
		t.Errorf("%d bytes\n%s", len(got), got)
	}

	for _, format := range []output.Format{output.Table, output.Name} {
		got, warned := limited(t, output.Printer{Format: format, Limit: output.Limit{Items: 5}, NoHeaders: true})
		if strings.Count(got, "\n") != 5 || !strings.HasPrefix(warned, "the list is cut: 5 of 100 rows are shown; ") || !strings.Contains(warned, "--query '.items[]") {
			t.Errorf("%s: %q\n%s", format, warned, got)
		}

		got, warned = limited(t, output.Printer{Format: format, Limit: output.Limit{Bytes: 2048}})
		if len(got) > 2048 || len(got) < 1900 || !strings.HasSuffix(got, "\n") || !strings.HasPrefix(warned, "the output is cut: ") {
			t.Errorf("%s: %q\n%s", format, warned, got)
		}
	}
}

func TestLimitOfAnswers(t *testing.T) {
	t.Parallel()

	limit := output.Limit{Bytes: 2048}

	for _, query := range []string{".", ".items", ".items[]", ".items[].id"} {
		got, warned := limited(t, output.Printer{Format: output.JSON, Query: query, Limit: limit})

		if len(got) > 2048 || !strings.Contains(warned, "of --query is cut") && !strings.Contains(warned, "the output is cut") {
			t.Errorf("%s: %d bytes, %q", query, len(got), warned)
		}

		if query == ".items[].id" {
			continue
		}

		values := 0

		for dec := json.NewDecoder(strings.NewReader(got)); ; values++ {
			var value any
			if err := dec.Decode(&value); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v\n%s", query, err, got)
			}
		}

		if values == 0 && query != "." {
			t.Errorf("%s: nothing is left", query)
		}
	}
}

// TestLimitOfYAMLAnswers cuts answers in YAML: what is left is whole values, and of a list whole elements.
func TestLimitOfYAMLAnswers(t *testing.T) {
	t.Parallel()

	for query, want := range map[string]string{ // how what is left begins
		".items": "- node:", ".items[]": "node:", "[.items[].id]": "- ", ".items | map([.id])": "- - ",
		"[.items[] | {\"a\": \"- x\\n- y\\n\" + .id}]": "- a: ", ".items | .. style=\"flow\"": "[]\n",
	} {
		got, warned := limited(t, output.Printer{Format: output.YAML, Query: query, Limit: output.Limit{Bytes: 2048}})
		if len(got) > 2048 || !strings.HasPrefix(got, want) || !strings.Contains(warned, "of --query is cut") {
			t.Errorf("%s: %d bytes, %q\n%s", query, len(got), warned, got)
		}

		if query == ".items[]" { // one after another, without a separator
			if lines := strings.Count(got, "\n"); lines == 0 || lines%strings.Count(got, "node:") != 0 {
				t.Errorf("%s: not whole values\n%s", query, got)
			}

			continue
		}

		var whole, left []any

		all, _ := limited(t, output.Printer{Format: output.YAML, Query: query})
		if err := errors.Join(yaml.Unmarshal([]byte(all), &whole), yaml.Unmarshal([]byte(got), &left)); err != nil || len(left) == 0 && want != "[]\n" {
			t.Errorf("%s: %d of %d, %v", query, len(left), len(whole), err)
		}

		if !reflect.DeepEqual(left, whole[:len(left)]) {
			t.Errorf("%s: the elements are not the first ones\n%s", query, got)
		}
	}
}

func TestLimitOfAResult(t *testing.T) {
	t.Parallel()

	var out, warned strings.Builder

	p := output.Printer{
		Out: &out, Format: output.JSON, Single: true, Schema: "Thing", Now: time.Now, Limit: output.Limit{Bytes: 2048}, Narrow: "talosmate thing",
		Warn: func(format string, args ...any) { fmt.Fprintf(&warned, format, args...) },
	}

	thing := map[string]any{"big": strings.Repeat("y", 5000), "small": 1}
	if err := output.PrintResult(&p, thing, nil, nil, ""); err != nil {
		t.Fatal(err)
	}

	var doc cutDocument
	if err := json.Unmarshal([]byte(out.String()), &doc); err != nil || doc.Result != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}

	if doc.Truncated.Fields["big"] != 5002 || doc.Truncated.Hint != "talosmate thing --query .result.small" {
		t.Errorf("%+v", doc.Truncated)
	}

	out.Reset()

	p.Format = output.Table
	if err := output.PrintResult(&p, thing, nil, func(w io.Writer, _ map[string]any) error {
		_, err := io.WriteString(w, strings.Repeat("a line of text\n", 1000))

		return err
	}, ""); err != nil || len(out.String()) != 2040 || !strings.Contains(warned.String(), "2040 of 15000 bytes") {
		t.Errorf("%v %d %s", err, len(out.String()), &warned)
	}
}

func TestLimitKeepsErrors(t *testing.T) {
	t.Parallel()

	failed := &errs.Nodes{}
	for i := range 200 {
		failed.Errors = append(failed.Errors, errs.New(errs.Unreachable, "no answer").OnNode(fmt.Sprintf("10.0.1.%d", i)))
	}

	got, err := render(t, output.Printer{Format: output.JSON, Limit: output.Limit{Bytes: 4096}}, many(100), failed)

	var doc cutDocument
	if jsonErr := json.Unmarshal([]byte(got), &doc); jsonErr != nil || err != nil {
		t.Fatalf("%v %v", jsonErr, err)
	}

	if len(got) > 4096 || len(doc.Items) == 0 || len(doc.Errors) == 0 || doc.Truncated.Errors != 200 || doc.Truncated.Items != 100 {
		t.Errorf("%d bytes, %d items, %d errors, %+v", len(got), len(doc.Items), len(doc.Errors), doc.Truncated)
	}
}
