package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
	"go.yaml.in/yaml/v4"
	"mvdan.cc/sh/v3/syntax"

	"github.com/talosmate/talosmate/commands"
	"github.com/talosmate/talosmate/internal/cmdutil"
	"github.com/talosmate/talosmate/internal/iostreams"
)

// page is a Markdown file of the repository.
type page struct {
	path    string
	blocks  []block
	links   []string
	anchors map[string]bool
	rows    [][]string // The code of each cell of the tables' rows.
}

// block is a fenced block, or a command of the test between two blocks: <!-- run: COMMAND -->.
type block struct {
	line     int
	language string
	text     string
	setup    string // The test's command.
	notRun   string // Why the block does not run: <!-- not run: REASON --> before it.
}

func readPage(t *testing.T, path string) page {
	t.Helper()

	source := repository(t, path)
	p := page{path: path, anchors: map[string]bool{}}
	root := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))

	err := ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			p.add(n, source)
		}

		return ast.WalkContinue, nil
	})
	if err != nil {
		t.Fatal(err)
	}

	return p
}

func (p *page) add(n ast.Node, source []byte) {
	switch n := n.(type) {
	case *ast.FencedCodeBlock:
		b := block{language: string(n.Language(source)), text: string(n.Lines().Value(source))}
		if n.Lines().Len() > 0 {
			b.line = lineOf(source, n.Lines().At(0).Start)
		}

		if before, ok := n.PreviousSibling().(*ast.HTMLBlock); ok {
			b.notRun = comment(before, source, "not run")
		}

		p.blocks = append(p.blocks, b)
	case *ast.HTMLBlock:
		if run := comment(n, source, "run"); run != "" {
			p.blocks = append(p.blocks, block{line: lineOf(source, n.Lines().At(0).Start), setup: run})
		}
	case *ast.Link:
		p.links = append(p.links, string(n.Destination))
	case *ast.Image:
		p.links = append(p.links, string(n.Destination))
	case *ast.Heading:
		p.anchors[p.anchor(string(n.Text(source)))] = true //nolint:staticcheck // the text of all children is what GitHub takes
	case *ast.CodeSpan:
		p.code(n, source)
	}
}

// code adds a code span to the row that it is in.
func (p *page) code(n ast.Node, source []byte) {
	cell := n.Parent()
	if cell == nil || cell.Kind().String() != "TableCell" {
		return
	}

	code := string(n.Text(source)) //nolint:staticcheck // a span has only text

	if last := len(p.rows) - 1; last >= 0 && cell.PreviousSibling() != nil && cell.PreviousSibling().ChildCount() > 0 && len(p.rows[last]) == 1 {
		p.rows[last] = append(p.rows[last], code)

		return
	}

	p.rows = append(p.rows, []string{code})
}

// comment is the text of an HTML comment that begins with a word, as <!-- run: TEXT -->. Several follow each other.
func comment(n *ast.HTMLBlock, source []byte, word string) string {
	var out []string

	whole := regexp.MustCompile(`(?s)<!-- ` + word + `: (.*?) -->`)
	for _, m := range whole.FindAllSubmatch(n.Lines().Value(source), -1) {
		out = append(out, string(m[1]))
	}

	return strings.Join(out, "\n")
}

// anchor is the name that GitHub gives to a heading.
func (p *page) anchor(heading string) string {
	var out strings.Builder

	for _, r := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			out.WriteRune(r)
		case r == ' ':
			out.WriteByte('-')
		}
	}

	name := out.String()
	for i := 1; p.anchors[name]; i++ {
		name = fmt.Sprintf("%s-%d", out.String(), i)
	}

	return name
}

func lineOf(source []byte, at int) int { return bytes.Count(source[:at], []byte("\n")) + 1 }

// pages lists the Markdown files of the repository.
func pages(t *testing.T) []string {
	t.Helper()

	var out []string

	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}

		if name := d.Name(); d.IsDir() && name != ".." && name != ".github" && (strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "dist", "bin", "recordings"}, name)) {
			return filepath.SkipDir
		}

		if filepath.Ext(path) == ".md" {
			rel, err := filepath.Rel("..", path)
			out = append(out, filepath.ToSlash(rel))

			return err
		}

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	return out
}

// source is where links lead that leave the folder docs, which is a site of its own.
const source = "https://github.com/talosmate/talosmate/blob/main/"

// TestLinks follows every link of every page to a file of the repository, and to a heading in it.
func TestLinks(t *testing.T) {
	t.Parallel()

	read := map[string]page{}
	checked := 0

	for _, name := range pages(t) {
		read[name] = readPage(t, name)
	}

	for _, p := range read {
		for _, link := range p.links {
			u, err := url.Parse(link)
			if err != nil {
				t.Errorf("%s: %v", p.path, err)

				continue
			}

			to := path.Join(path.Dir(p.path), u.Path)

			if rest, ok := strings.CutPrefix(link, source); ok {
				to, _, _ = strings.Cut(rest, "#")
			} else if u.Scheme != "" {
				continue
			} else if strings.HasPrefix(p.path, "docs/") && !strings.HasPrefix(to, "docs/") && to != "docs" {
				t.Errorf("%s: %s leaves the folder of the site: write %s…", p.path, link, source)
			}

			if u.Path == "" {
				to = p.path
			}

			checked++

			if _, err := os.Stat(filepath.Join("..", to)); err != nil {
				t.Errorf("%s: %s leads nowhere", p.path, link)
			} else if target, ok := read[to]; u.Fragment != "" && (!ok || !target.anchors[u.Fragment]) {
				t.Errorf("%s: %s: %s has no such heading", p.path, link, to)
			}
		}
	}

	if checked < 200 {
		t.Errorf("only %d links", checked)
	}
}

// TestNavigation: the navigation of the site has every page of docs once, but for those of the commands, which their own pages list.
func TestNavigation(t *testing.T) {
	t.Parallel()

	var site struct {
		Nav []any `yaml:"nav"`
	}

	if err := yaml.Unmarshal(repository(t, "mkdocs.yml"), &site); err != nil {
		t.Fatal(err)
	}

	var listed []string

	var walk func(any)

	walk = func(v any) {
		switch v := v.(type) {
		case string:
			listed = append(listed, "docs/"+v)
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(site.Nav)

	if len(listed) == 0 || listed[0] != "docs/README.md" {
		t.Errorf("the first page is not docs/README.md: %v", listed)
	}

	var want []string

	for _, name := range pages(t) {
		if strings.HasPrefix(name, "docs/") && !strings.HasPrefix(name, "docs/cli/talosmate_") {
			want = append(want, name)
		}
	}

	slices.Sort(listed)
	slices.Sort(want)

	if !slices.Equal(listed, want) {
		t.Errorf("the navigation lists\n%s\nand docs has\n%s", strings.Join(listed, "\n"), strings.Join(want, "\n"))
	}
}

// TestFirstPage: docs/README.md leads to every guide.
func TestFirstPage(t *testing.T) {
	t.Parallel()

	first := readPage(t, "docs/README.md")

	for _, name := range pages(t) {
		if strings.HasPrefix(name, "docs/guides/") && !slices.Contains(first.links, strings.TrimPrefix(name, "docs/")) {
			t.Errorf("docs/README.md does not name %s", name)
		}
	}
}

// TestBlocks reads every block of every page: those that do not run say why, command lines of talosmate have only commands and
// flags that exist, and YAML is YAML.
func TestBlocks(t *testing.T) {
	t.Parallel()

	developers := []string{"AGENTS.md", "CONTRIBUTING.md", "lab/README.md", "lab/kube/README.md"}
	notRun := 0

	for _, name := range pages(t) {
		if strings.HasPrefix(name, "docs/cli/") {
			continue // generated from the commands, whose own tests read their examples
		}

		runs := ranByTestGuides(t)[name]

		for _, b := range readPage(t, name).blocks {
			at := fmt.Sprintf("%s:%d", name, b.line)

			switch b.language {
			case "sh":
				parseShell(t, at, b.text)

				if b.notRun != "" {
					notRun++
				} else if !runs && !slices.Contains(developers, name) {
					t.Errorf("%s: no test runs this block: add the page to TestGuides, or say why in <!-- not run: … -->", at)
				}
			case "console":
				for line := range strings.Lines(b.text) {
					if command, ok := strings.CutPrefix(line, "$ "); ok {
						parseShell(t, at, command)
					}
				}
			case "yaml":
				parseYAML(t, at, []byte(b.text))
			case "json", "text", "":
			default:
				if b.setup == "" {
					t.Errorf("%s: a block in %q, which no test reads", at, b.language)
				}
			}
		}
	}

	if notRun > 5 {
		t.Errorf("%d blocks do not run", notRun)
	}
}

// ranByTestGuides finds the pages in the source of TestGuides and of TestStorageGuide.
func ranByTestGuides(t *testing.T) map[string]bool {
	t.Helper()

	out := map[string]bool{}
	for _, file := range []string{"test/docs_test.go", "test/storage_test.go"} {
		for _, m := range regexp.MustCompile(`"(docs/[a-z/-]+\.md)"`).FindAllSubmatch(repository(t, file), -1) {
			out[string(m[1])] = true
		}
	}

	return out
}

// TestComingFromTalosctl reads both columns of the table: the right one has only commands and flags that exist.
func TestComingFromTalosctl(t *testing.T) {
	t.Parallel()

	rows := 0

	for _, row := range readPage(t, "docs/guides/talosctl.md").rows {
		ours := row[len(row)-1]
		if len(row) == 2 && strings.HasPrefix(row[0], "talosctl ") {
			rows++
		}

		if strings.HasPrefix(ours, "talosmate ") {
			parseShell(t, "docs/guides/talosctl.md", ours)
		} else if len(row) == 2 && strings.HasPrefix(row[0], "talosctl ") {
			t.Errorf("%v is no line of talosmate", row)
		}
	}

	if rows < 40 {
		t.Errorf("%d rows", rows)
	}
}

// parseYAML reads every document of a file.
func parseYAML(t *testing.T, at string, raw []byte) {
	t.Helper()

	documents := yaml.NewDecoder(bytes.NewReader(raw))

	for {
		var v any

		switch err := documents.Decode(&v); {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			t.Errorf("%s: %v", at, err)

			return
		}
	}
}

// parseShell reads a script, and every command line of talosmate in it.
func parseShell(t *testing.T, at, script string) {
	t.Helper()

	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(script), at)
	if err != nil {
		t.Errorf("%s: %v", at, err)

		return
	}

	syntax.Walk(file, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 && call.Args[0].Lit() == "talosmate" {
			if err := parseCommand(call.Args[1:]); err != nil {
				t.Errorf("%s: %v", at, err)
			}
		}

		return true
	})
}

// parseCommand finds the command of a line and reads its flags; nothing runs.
func parseCommand(words []*syntax.Word) error {
	var args []string

	for _, w := range words {
		arg := w.Lit()
		if arg == "" {
			arg = strings.NewReplacer("'", "", `"`, "").Replace(printed(w))
		}

		args = append(args, arg)
	}

	root := tree()
	line := strings.Join(args, " ")

	cmd, rest, err := root.Find(args)
	if err != nil {
		return fmt.Errorf("talosmate %s: %w", line, err)
	}

	err = cmd.ParseFlags(rest)

	switch _, isCommand := cmdutil.SpecOf(cmd); {
	case errors.Is(err, pflag.ErrHelp), err != nil && placeholder(err):
		return nil
	case err != nil:
	case !isCommand && len(args) > 0 && slices.Contains([]string{"help", "completion", "options"}, args[0]):
		return nil // cobra's own
	case !isCommand:
		return fmt.Errorf("talosmate %s: not a command", line)
	default:
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}

	if err != nil {
		return fmt.Errorf("talosmate %s: %w", line, err)
	}

	return nil
}

// placeholder reports whether a flag has a value that a reader puts in, $TIMEOUT, in place of a number.
func placeholder(err error) bool { return strings.Contains(err.Error(), "invalid argument \"$") }

func printed(w *syntax.Word) string {
	var out strings.Builder
	if err := syntax.NewPrinter().Print(&out, w); err != nil {
		return ""
	}

	return out.String()
}

func tree() *cobra.Command {
	return commands.NewRoot(cmdutil.NewFactory(&iostreams.Streams{
		In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Env: func(string) (string, bool) { return "", false },
	}, cmdutil.Build{}))
}

// TestParseCommand: the reader of command lines sees a wrong command and a wrong flag.
func TestParseCommand(t *testing.T) {
	t.Parallel()

	for line, wrong := range map[string]bool{
		"talosmate health --scope etcd -o json": false,
		"talosmate servise list":                true,
		"talosmate service lst":                 true,
		"talosmate service list --nosuch":       true,
		"talosmate node":                        true,
		"talosmate schema a b --nosuch":         true,
		"talosmate etcd members cp-1":           true,
		"talosmate help exit-codes":             false,
		"talosmate members --query '.items[]'":  false,
		"talosmate health --timeout soon":       true,
	} {
		file, err := syntax.NewParser().Parse(strings.NewReader(line), "")
		if err != nil {
			t.Fatal(err)
		}

		call, ok := file.Stmts[0].Cmd.(*syntax.CallExpr)
		if !ok {
			t.Fatal(line)
		}

		if err := parseCommand(call.Args[1:]); (err != nil) != wrong {
			t.Errorf("%s: %v", line, err)
		}
	}
}
