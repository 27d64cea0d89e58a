package support

import (
	"bytes"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
)

// maxRecipients bounds a file of recipients.
const maxRecipients = 1 << 20

// Recipients reads the public keys of those who can decrypt a bundle: each is an age or SSH public key, or a file with one key a
// line. A private key is refused, and not repeated in the error.
func Recipients(given []string) ([]age.Recipient, error) {
	var out []age.Recipient

	for _, text := range given {
		if isKey(text) {
			r, err := recipient(text)
			if err != nil {
				return nil, err
			}

			out = append(out, r)

			continue
		}

		more, err := recipientsFile(text)
		if err != nil {
			return nil, err
		}

		out = append(out, more...)
	}

	if len(out) == 0 {
		return nil, nil
	}

	// Some kinds of keys do not go together; this is found before anything is read.
	if _, err := age.Encrypt(io.Discard, out...); err != nil {
		return nil, errs.Usagef("cannot encrypt to these recipients: %w", err)
	}

	return out, nil
}

func isKey(text string) bool {
	return strings.HasPrefix(text, "age1") || strings.HasPrefix(text, "ssh-") || isPrivate(text)
}

func isPrivate(text string) bool {
	return strings.HasPrefix(strings.ToUpper(text), "AGE-SECRET-KEY-") || strings.Contains(text, "PRIVATE KEY-----")
}

func recipient(text string) (age.Recipient, error) {
	if isPrivate(text) {
		return nil, errs.Usagef("a recipient is a public key, and this is a private one").WithHint("age-keygen -y FILE prints the public key")
	}

	if strings.HasPrefix(text, "ssh-") {
		r, err := agessh.ParseRecipient(text)
		if err != nil {
			return nil, errs.Usagef("bad recipient %.40q: %w", text, err)
		}

		return r, nil
	}

	list, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil || len(list) != 1 {
		return nil, errs.Usagef("bad recipient %.40q", text).WithHint("recipients are age1…, ssh-ed25519 …, ssh-rsa …, or a file with one a line")
	}

	return list[0], nil
}

func recipientsFile(path string) ([]age.Recipient, error) {
	body, err := fsutil.ReadFile(path, maxRecipients)
	if err != nil {
		return nil, errs.Usagef("cannot read the recipients: %w", err).
			WithHint("recipients are age1…, ssh-ed25519 …, ssh-rsa …, or a file with one a line")
	}

	if isPrivate(string(bytes.TrimSpace(body))) {
		return nil, errs.Usagef("%s holds a private key, and a recipient is a public one", path).WithHint("age-keygen -y %s prints the public key", path)
	}

	var out []age.Recipient

	for line := range strings.Lines(string(body)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}

		r, err := recipient(line)
		if err != nil {
			return nil, err
		}

		out = append(out, r)
	}

	if len(out) == 0 {
		return nil, errs.Usagef("%s names no recipient", path)
	}

	return out, nil
}
