package fsutil

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Element returns a foreign name, such as a node's hostname, if it is safe as one element of a path on every system:
// joined to a directory it names an entry of that directory.
func Element(name string) (string, error) {
	odd := strings.ContainsFunc(name, func(r rune) bool { return strings.ContainsRune(`/\`, r) || !unicode.IsGraphic(r) })
	if odd || !utf8.ValidString(name) || len(name) > 255 || name == "." || !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q is not a safe file name", name)
	}

	return name, nil
}
