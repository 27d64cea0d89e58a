package fsutil

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Element returns a name from elsewhere, such as a node's hostname, when it is safe as one element of a path: it names
// an entry of the directory that it is joined to, and nothing else, on every system.
func Element(name string) (string, error) {
	odd := strings.ContainsFunc(name, func(r rune) bool { return strings.ContainsRune(`/\`, r) || !unicode.IsGraphic(r) })
	if odd || !utf8.ValidString(name) || len(name) > 255 || name == "." || !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q cannot be a file name", name)
	}

	return name, nil
}
