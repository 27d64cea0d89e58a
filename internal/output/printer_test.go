package output_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/output"
)

type row struct {
	Node string `json:"node"`
	ID   string `json:"id"`
	Size int64  `json:"size_bytes"`
}

func rows() []row {
	return []row{{"10.0.0.1", "8e9e05c52164694d", 10}, {"10.0.0.2", "yes", 9}, {"10.0.0.3", "a\x1b[2Jb", 100}}
}

func columns() []output.Column[row] {
	return []output.Column[row]{
		{Header: "NODE", Value: func(r row) string { return r.Node }},
		{Header: "ID", Value: func(r row) string { return r.ID }},
		{Header: "SIZE", Wide: true, Value: func(r row) string { return output.Bytes(r.Size) }},
	}
}

func render(t *testing.T, p output.Printer, list []row, failure error) (string, error) {
	t.Helper()

	var buf bytes.Buffer

	p.Out, p.Schema, p.Context = &buf, "RowList", "prod"
	p.Now = func() time.Time { return time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC) }

	err := output.PrintList(&p, list, failure, columns(), func(r row) string { return r.ID })

	return buf.String(), err
}

func TestTableNeutralisesControlSequences(t *testing.T) {
	t.Parallel()

	got, err := render(t, output.Printer{Format: output.Table}, rows(), nil)
	if err != nil {
		t.Fatal(err)
	}

	if strings.ContainsRune(got, 0x1b) || strings.Contains(got, "SIZE") || !strings.HasPrefix(got, "NODE") {
		t.Errorf("table %q", got)
	}
}

func TestEmptyListIsAnEmptyListInEveryFormat(t *testing.T) {
	t.Parallel()

	for format, want := range map[output.Format]string{
		output.JSON: `"items": []`, output.YAML: "items: []", output.NDJSON: `{"type":"summary","schema":"talosmate/v1/RowList","items":0,"errors":0}`,
	} {
		got, err := render(t, output.Printer{Format: format}, nil, nil)
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %q, %v", format, got, err)
		}
	}
}

func TestYAMLKeepsTextAsText(t *testing.T) {
	t.Parallel()

	list := []row{{Node: "10.0.0.1", ID: "0123456789012345"}, {Node: "x", ID: "no"}, {Node: "y", ID: "1e3"}}

	got, err := render(t, output.Printer{Format: output.YAML}, list, nil)
	if err != nil {
		t.Fatal(err)
	}

	var doc struct{ Items []struct{ ID any } }
	if err = yaml.Unmarshal([]byte(got), &doc); err != nil {
		t.Fatal(err)
	}

	for i, item := range doc.Items {
		if item.ID != list[i].ID {
			t.Errorf("%q came back as %#v", list[i].ID, item.ID)
		}
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()

	for expr, want := range map[string]string{
		".items[0].id":                     "8e9e05c52164694d\n",
		".items[].size_bytes":              "10\n9\n100\n",
		".items | length":                  "3\n",
		".items[] | select(.id == \"no\")": "",
	} {
		got, err := render(t, output.Printer{Format: output.JSON, Query: expr}, rows(), nil)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", expr, got, err)
		}
	}
}

func TestQueryKeepsBigNumbers(t *testing.T) {
	t.Parallel()

	got, err := render(t, output.Printer{Format: output.JSON, Query: ".items[0].size_bytes"}, []row{{Size: 9007199254740993}}, nil)
	if err != nil || got != "9007199254740993\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestQueryReadsNeitherFilesNorEnvironment(t *testing.T) {
	t.Setenv("TALOSMATE_TEST_SECRET", "tell-nobody")

	file := filepath.Join(t.TempDir(), "secret.json")
	if err := os.WriteFile(file, []byte(`"tell-nobody"`), 0o600); err != nil {
		t.Fatal(err)
	}

	for _, expr := range []string{
		`load("` + file + `")`, `load_str("` + file + `")`, `env(TALOSMATE_TEST_SECRET)`, `strenv(TALOSMATE_TEST_SECRET)`,
		`"${TALOSMATE_TEST_SECRET}" | envsubst`, `"x" | system("cat ` + file + `")`,
	} {
		got, err := render(t, output.Printer{Format: output.JSON, Query: expr}, rows(), nil)
		if strings.Contains(got, "tell-nobody") {
			t.Errorf("%s gave %q", expr, got)
		}

		if err == nil {
			t.Errorf("%s was not refused", expr)
		} else if errs.ExitCode(err) != errs.Usage {
			t.Errorf("%s: exit code %d", expr, errs.ExitCode(err))
		}
	}
}

func TestSortBy(t *testing.T) {
	t.Parallel()

	got, err := render(t, output.Printer{Format: output.JSON, SortBy: "-size_bytes", Query: ".items[].size_bytes"}, rows(), nil)
	if err != nil || got != "100\n10\n9\n" {
		t.Errorf("%q, %v", got, err)
	}

	if _, err = render(t, output.Printer{Format: output.Table, SortBy: "nosuch"}, rows(), nil); errs.ExitCode(err) != errs.Usage || !strings.Contains(strings.Join(errs.Hints(err), ""), "size_bytes") {
		t.Errorf("an unknown field gave %v, hints %q", err, errs.Hints(err))
	}
}

// TestANullAnswerNamesTheFields: a query for a field that does not exist is not an error of yq's.
func TestANullAnswerNamesTheFields(t *testing.T) {
	t.Parallel()

	for query, want := range map[string]string{".items[].nosuch": "--query gives null; .items[] has the fields ", ".items[].size_bytes": ""} {
		said := ""
		p := output.Printer{Format: output.JSON, Query: query, Warn: func(format string, args ...any) { said += fmt.Sprintf(format, args...) }}

		if _, err := render(t, p, rows(), nil); err != nil || !strings.HasPrefix(said, want) || (said == "") != (want == "") {
			t.Errorf("%s: %q, %v", query, said, err)
		}

		if want != "" && !strings.Contains(said, "size_bytes") {
			t.Errorf("%s does not name size_bytes: %q", query, said)
		}
	}
}

// TestAnExpressionThatSelectsNothingNamesTheFields: the answer is empty, as kubectl's, and stderr says what would not be.
func TestAnExpressionThatSelectsNothingNamesTheFields(t *testing.T) {
	t.Parallel()

	for _, one := range []struct {
		format string
		rows   []row
		want   string
	}{
		{"jsonpath={.items[*].nosuch}", rows(), "the expression selects nothing; .items[] has the fields "},
		{"go-template={{range .items}}{{with .nosuch}}{{.}}{{end}}{{end}}", rows(), "the expression selects nothing; .items[] has the fields "},
		{"jsonpath={.items[*].size_bytes}", rows(), ""},
		{"jsonpath={.items[*].size_bytes}", nil, ""},
	} {
		view, err := output.ParseView(one.format, os.ReadFile)
		if err != nil {
			t.Fatal(err)
		}

		said := ""
		p := output.Printer{Format: output.JSON, View: view, Warn: func(format string, args ...any) { said += fmt.Sprintf(format, args...) }}

		if _, err := render(t, p, one.rows, nil); err != nil || !strings.HasPrefix(said, one.want) || (said == "") != (one.want == "") {
			t.Errorf("%s of %d rows: %q, %v", one.format, len(one.rows), said, err)
		}
	}
}

func TestFailuresAreInTheDocument(t *testing.T) {
	t.Parallel()

	got, err := render(t, output.Printer{Format: output.JSON, Query: ".errors[0].message"}, nil, errors.New("cannot list on n1: away"))
	if err != nil || got != "cannot list on n1: away\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestALineHasOneType(t *testing.T) {
	t.Parallel()

	type inner struct {
		Type string `json:"type"`
	}

	for _, c := range []struct {
		row  any
		want string
	}{
		{struct {
			Node string `json:"node"`
			Type string `json:"type"`
		}{"n1", "worker"}, `{"type":"item","schema":"talosmate/v1/X","node":"n1","item_type":"worker"}`},
		{struct {
			Metadata inner  `json:"metadata"`
			Words    []int  `json:"words"`
			Note     string `json:"note"`
		}{inner{"deep"}, []int{1}, "type"}, `{"type":"item","schema":"talosmate/v1/X","metadata":{"type":"deep"},"words":[1],"note":"type"}`},
	} {
		var buf bytes.Buffer
		if err := output.NewStream(&buf, "X").Item(c.row); err != nil {
			t.Fatal(err)
		}

		if got := strings.TrimSpace(buf.String()); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// zoo is text with what a terminal may obey, and a byte that is not UTF-8.
const zoo = "a\x1b[2J\u009b31mb\x7fc\u202ed\u2066e\u200ff\u2028g\rh\xffi"

func obeyed(text string) []rune {
	var out []rune

	for _, r := range text {
		if r != '\n' && (r < ' ' || r >= 0x7f && r <= 0x9f || r == 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069) {
			out = append(out, r)
		}
	}

	return out
}

// TestEveryFormatIsNeutral holds every format but a query's scalar, which a script gets as it is.
func TestEveryFormatIsNeutral(t *testing.T) {
	t.Parallel()

	value := strings.ToValidUTF8(zoo, "\uFFFD")

	for _, format := range output.Formats() {
		for _, query := range []string{"", ".", ".items", `{"k" + .items[0].id: [.items[0].id + "x"]}`} {
			if query != "" && !output.Format(format).Structured() {
				continue
			}

			got, err := render(t, output.Printer{Format: output.Format(format), Query: query}, []row{{Node: "n", ID: zoo}}, errors.New("cannot: "+zoo))
			if err != nil {
				t.Errorf("%s %s: %v", format, query, err)
			}

			if bad := obeyed(got); len(bad) > 0 {
				t.Errorf("%s %s: %U in %q", format, query, bad, got)
			}

			if query != "" || format == "table" || format == "wide" || format == "name" || format == "ndjson" {
				continue
			}

			var doc struct{ Items []struct{ ID string } }
			if err = yaml.Unmarshal([]byte(got), &doc); err != nil || doc.Items[0].ID != value {
				t.Errorf("%s: %q came back as %q, %v", format, value, doc.Items, err)
			}
		}
	}

	got, err := render(t, output.Printer{Format: output.JSON, Query: ".items[0].id"}, []row{{ID: zoo}}, nil)
	if err != nil || got != value+"\n" {
		t.Errorf("a scalar is %q, want %q, %v", got, value, err)
	}
}

func TestAResultForPeopleIsNeutral(t *testing.T) {
	t.Parallel()

	var buf bytes.Buffer

	p := output.Printer{Out: &buf, Format: output.Table, Now: time.Now}
	err := output.PrintResult(&p, zoo, nil, func(w io.Writer, s string) error {
		_, err := io.WriteString(w, s)

		return err
	}, "")

	if bad := obeyed(buf.String()); err != nil || len(bad) > 0 {
		t.Errorf("%U in %q, %v", bad, buf.String(), err)
	}
}

func TestACellIsCut(t *testing.T) {
	t.Parallel()

	if got := output.Cell(strings.Repeat("x", 1<<20)); len(got) > 2000 || !strings.HasSuffix(got, "…") {
		t.Errorf("a cell of %d bytes", len(got))
	}
}
