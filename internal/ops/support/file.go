package support

import (
	"regexp"
	"strings"
)

// File makes of a foreign name, such as a hostname or a container's ID, a file name that is safe on every system: letters,
// digits, dots, dashes and underscores.
func File(name string) string {
	const longest = 120

	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}

		return '_'
	}, name[:min(len(name), longest)])

	safe = strings.Trim(safe, ".")
	reserved := regexp.MustCompile(`(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)`)

	if safe == "" || reserved.MatchString(safe) {
		return "_" + safe
	}

	return safe
}
