// Package prose_test keeps words that are hard to read out of comments, messages and documents.
package prose_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// rule is a pattern that no text may match, and what to write instead.
type rule struct {
	not string
	but string
}

// rules are matched case-insensitively against text whose lines are joined.
func rules() []rule {
	return []rule{
		{`\b(leave|leaves|left|leaving)( [\w'-]+){0,4} away\b`, "omit, without, skipped"},
		{`\b(is|are|was|were|be|been) away\b`, "is down, unreachable"},
		{`\b(is|are|was|were|be|been|not) (well|ill)\b`, "is healthy, unhealthy"},
		{`\bmend(s|ed|ing)?\b`, "fix"},
		{`\b(say|says|said|tell|tells|told) whether\b`, "reports whether"},
		{`\b(is|are|was|were|be|been) told\b`, "is reported, receives"},
		{`\bwhat came up\b`, "verify the node"},
		{`\bsour(s|ed|ing)?\b`, "became unhealthy"},
		{`\bheld against\b`, "checked against"},
		{`\b(go|goes|went) (first|last)\b`, "is upgraded first, is removed last"},
		{`\bfor ever\b`, "forever, without a time limit"},
		{`\b(hang|hangs|hanging|hung) up\b`, "close the connection"},
		{`\bgrave(r|st|ly)?\b`, "severe"},
		{`\bso (many|much)\b|\b(its|the) like\b`, "N, these, similar"},
		{`\bis configured already\b`, "is already configured"},
		{`\b(go|goes|went|gone) on\b`, "continue"},
		{`\bby (itself|themselves)\b`, "automatically, on its own"},
		{`\bbesides\b`, "also, in addition"},
		{`\bwhatever the end\b`, "valid even on error"},
		{`\banew\b`, "again"},
		{`\b(an|the|this|that|each|every|whose|which|no) act\b|\bacts (of|are|is|need|and)\b|\bof acts\b`, "operation, change"},
		{`\bexchanged? (a|the|an|for|with)\b`, "replace"},
		{`\b(witness|witnesses|in doubt|runaway)\b`, "client, probe, unknown"},
		{`\bwhat is so\b`, "the present state"},
	}
}

// absent finds "is no member"; "there is no member" and "is no longer" are good English.
const absent = `(\w+) (?:is|are|was|were) no (\w+)`

// checker holds the compiled rules.
type checker struct {
	t      *testing.T
	rules  []rule
	not    []*regexp.Regexp
	absent *regexp.Regexp
}

func TestProse(t *testing.T) {
	t.Parallel()

	c := &checker{t: t, rules: rules(), absent: regexp.MustCompile(absent)}
	for _, r := range c.rules {
		c.not = append(c.not, regexp.MustCompile(`(?i)`+r.not))
	}

	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}

	files := 0

	err = fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped(path):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}

		content, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err
		}

		files++

		switch {
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			c.source(path, content)
		case strings.HasSuffix(path, ".md"):
			c.text(path, 1, string(content))
		case strings.HasSuffix(path, ".txtar"), strings.HasSuffix(path, ".sh"), strings.HasSuffix(path, "Makefile"):
			c.comments(path, string(content))
		default:
			files--
		}

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	if files < 200 {
		t.Errorf("only %d files were checked", files)
	}
}

// TestRules shows that each rule finds what it is for and leaves good English alone.
func TestRules(t *testing.T) {
	t.Parallel()

	bad := []string{
		"leave the header away", "left away", "the node is away", "the cluster is not well", "mends it", "says whether it runs", "is told",
		"looking what came up", "soured the cluster", "held against the role", "the leader goes last", "waits for ever", "hung up", "the gravest first",
		"after so many bytes", "and the like", "it is configured already", "to go on", "starts by itself", "besides", "valid, whatever the end",
		"read anew", "registered before the act", "exchange a control plane", "a second witness", "looks at what is so", "the node is no member",
	}
	good := []string{
		"there is no member", "the node is no longer a member", "it works well", "the API server is down", "a hang of the node",
		"one node at a time", "acts on the node", "it exchanges keys", "passes away from the endpoint", "engraved",
	}

	found := func(s string) bool {
		for _, r := range rules() {
			if regexp.MustCompile(`(?i)` + r.not).MatchString(s) {
				return true
			}
		}

		return isAbsent(regexp.MustCompile(absent).FindStringSubmatch(s))
	}

	for _, s := range bad {
		if !found(s) {
			t.Errorf("no rule finds %q", s)
		}
	}

	for _, s := range good {
		if found(s) {
			t.Errorf("a rule finds %q", s)
		}
	}
}

// skipped reports whether a directory is not checked.
func skipped(path string) bool {
	switch path {
	case ".git", ".tools", "bin", "docs/cli", "docs/schemas", "completions", "lab/recordings":
		return true
	default:
		return false
	}
}

// source checks the comments and string literals of a Go file.
func (c *checker) source(path string, content []byte) {
	fset := token.NewFileSet()

	file, err := parser.ParseFile(fset, path, content, parser.ParseComments)
	if err != nil {
		c.t.Fatal(err)
	}

	for _, group := range file.Comments {
		c.text(path, fset.Position(group.Pos()).Line, group.Text())
	}

	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}

		if value, err := strconv.Unquote(lit.Value); err == nil {
			c.text(path, fset.Position(lit.Pos()).Line, value)
		}

		return true
	})
}

// comments checks the lines that begin with #.
func (c *checker) comments(path, content string) {
	for i, line := range strings.Split(content, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "#") || strings.Contains(line, "## ") {
			c.text(path, i+1, line)
		}
	}
}

// text checks a text that begins at a line of a file.
func (c *checker) text(path string, line int, text string) {
	joined := strings.ReplaceAll(text, "\n", " ")
	report := func(at int, found, but string) {
		c.t.Errorf("%s:%d: %q: write %s", path, line+strings.Count(text[:at], "\n"), found, but)
	}

	for i, not := range c.not {
		if at := not.FindStringIndex(joined); at != nil {
			report(at[0], joined[at[0]:at[1]], c.rules[i].but)
		}
	}

	for _, at := range c.absent.FindAllStringSubmatchIndex(joined, -1) {
		if isAbsent([]string{"", joined[at[2]:at[3]], joined[at[4]:at[5]]}) {
			report(at[0], joined[at[0]:at[1]], "is not a")
		}
	}
}

// isAbsent reports whether a match of absent is one to rewrite.
func isAbsent(match []string) bool {
	return match != nil && !strings.EqualFold(match[1], "there") && match[2] != "longer" && match[2] != "more"
}
