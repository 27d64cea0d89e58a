// Package support collects what others need to understand a cluster into one zip file: documents, logs and configurations of
// every node, without secrets, with a manifest of what was read and what could not be read.
package support

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"time"

	"filippo.io/age"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/fsutil"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/talos"
)

// Bounds of a bundle. What does not fit is listed in the manifest as skipped.
const (
	maxBundle  = 256 << 20 // Bytes of all entries, before compression.
	maxEntry   = 16 << 20  // Bytes of one entry.
	maxEntries = 20000
)

// What became of an entry.
const (
	OK      = "ok"      // It is in the bundle.
	Empty   = "empty"   // There is nothing of the kind, and so no file.
	Failed  = "failed"  // It could not be read.
	Skipped = "skipped" // It was not read: the certificate may not, the node's release has it not, or the bundle is full.
)

// Content is what a read gives: a document or a text.
type Content struct {
	Document  any    // Encoded as JSON.
	Text      []byte // Without Document.
	Kernel    bool   // The text has kernel arguments.
	Truncated bool   // The beginning is missing.
	Empty     bool   // There is nothing to write.
	Err       error  // What the document reports: a member that gave no answer, a cluster that is not healthy.
}

// Skip is the error of a read that was not made on purpose.
type Skip struct{ Reason string }

// Error implements error.
func (s Skip) Error() string { return s.Reason }

// Read is one entry to be.
type Read struct {
	Path    string // Elements made by File, with slashes.
	Command string // The command that shows the same, without the program's name.
	Do      func(context.Context) (Content, error)
	// More makes other reads instead of an entry, such as one for each log that a node has.
	More func(context.Context) ([]Read, error)
}

// NodeReads are the reads of one node.
type NodeReads struct {
	Target talos.Target
	// Alive asks the node for as little as possible. If it fails, no other question is asked.
	Alive func(context.Context) error
	Reads []Read
	// Config reads the machine configuration: its secrets are hidden wherever they stand in the bundle.
	Config func(context.Context) ([]byte, error)
}

// Options say how to collect.
type Options struct {
	Timeout    time.Duration // For one read.
	Workers    int           // How many reads run at once.
	Recipients []age.Recipient
	Now        func() time.Time
	Sink       progress.Sink
	// Manifest makes the document of the manifest.
	Manifest func(Manifest, error) any
}

// Entry is one file of a bundle, or what was meant to be one.
type Entry struct {
	Path            string      `json:"path"`                 // The file in the bundle.
	Command         string      `json:"command"`              // The command that shows the same, without the program's name.
	Node            string      `json:"node,omitempty"`       // The node that was asked; empty for the cluster.
	Hostname        string      `json:"hostname,omitempty"`   // Its hostname, where known.
	Status          string      `json:"status"`               // ok, empty, failed or skipped.
	SizeBytes       int64       `json:"size_bytes,omitempty"` // The size of the file, before compression.
	SHA256          string      `json:"sha256,omitempty"`     // The hash of the file.
	Truncated       bool        `json:"truncated,omitempty"`  // The beginning of a long text is missing.
	DurationSeconds float64     `json:"duration_seconds"`     // How long the read took.
	ExitCode        int         `json:"exit_code"`            // The exit code that the command would have had.
	Error           *errs.Entry `json:"error,omitempty"`      // Why it could not be read, or was skipped.
}

// Manifest says what a bundle has and how it was made. It is manifest.json in the bundle.
type Manifest struct {
	Version         string    `json:"version"`          // The version of talosmate.
	Commit          string    `json:"commit,omitempty"` // The commit it was built from.
	User            string    `json:"user"`             // Who asked, on the machine where it ran.
	Arguments       []string  `json:"arguments"`        // What was asked: the command line, without secrets.
	Cluster         string    `json:"cluster"`          // The cluster, as the talosconfig names it.
	Roles           []string  `json:"roles"`            // The roles of the certificate.
	StartedAt       time.Time `json:"started_at"`       // When the first read began.
	DurationSeconds float64   `json:"duration_seconds"` // How long all reads took.
	Nodes           []Node    `json:"nodes"`            // The nodes, with their folders.
	Read            int       `json:"read"`             // How many entries are in the bundle.
	Failed          int       `json:"failed"`           // How many could not be read.
	Skipped         int       `json:"skipped"`          // How many were skipped.
	KnownSecrets    bool      `json:"known_secrets"`    // Whether the machine configurations could be read, so that their secrets are hidden also where only their value shows what they are.
	Entries         []Entry   `json:"entries"`          // All of them, sorted by path.
}

// Node is a node of a bundle.
type Node struct {
	talos.NodeRef

	Folder   string `json:"folder"`   // Its folder in the bundle.
	Answered bool   `json:"answered"` // Whether it answered.
}

// Bundle is a bundle that was written.
type Bundle struct {
	File            string  `json:"file"`             // Where it is.
	SizeBytes       int64   `json:"size_bytes"`       // Its size.
	SHA256          string  `json:"sha256"`           // Its hash.
	Encrypted       bool    `json:"encrypted"`        // Whether it is encrypted with age.
	Read            int     `json:"read"`             // How many entries it has.
	Failed          int     `json:"failed"`           // How many could not be read.
	Skipped         int     `json:"skipped"`          // How many were skipped.
	DurationSeconds float64 `json:"duration_seconds"` // How long it took.
	Nodes           []Node  `json:"nodes"`            // The nodes, with their folders.
	Missing         []Entry `json:"missing"`          // What failed or was skipped; never null.
}

// Save collects a bundle into a file that appears only when it is complete, readable by its owner only. about is the part of the
// manifest that is known before. The error names the nodes that could not be read; the bundle is written with the
// others. If nothing could be read, there is no file.
func Save(ctx context.Context, file string, about Manifest, nodes []NodeReads, cluster []Read, o Options) (Bundle, error) {
	var (
		manifest Manifest
		failed   error
	)

	sum := &summed{hash: sha256.New()}

	err := fsutil.WriteFile(file, 0o600, func(w io.Writer) (err error) {
		sum.to = w

		out := io.WriteCloser(sum)
		if len(o.Recipients) > 0 {
			if out, err = age.Encrypt(sum, o.Recipients...); err != nil {
				return fmt.Errorf("cannot encrypt the bundle: %w", err)
			}
		}

		c := newCollection(out, about, o)
		c.folders(nodes)

		manifest, failed = c.run(ctx, nodes, cluster)

		switch {
		case ctx.Err() != nil:
			return errs.BrokenOff(ctx, "collect the bundle", "no file was written")
		case manifest.Read == 0 && failed != nil:
			return failed
		}

		if err = c.close(manifest, failed); err != nil {
			return err // it names the file
		}

		return out.Close()
	})
	if err != nil {
		return Bundle{}, err
	}

	out := Bundle{
		File: file, SizeBytes: sum.size, SHA256: hex.EncodeToString(sum.hash.Sum(nil)), Encrypted: len(o.Recipients) > 0,
		Read: manifest.Read, Failed: manifest.Failed, Skipped: manifest.Skipped, DurationSeconds: manifest.DurationSeconds,
		Nodes: manifest.Nodes, Missing: []Entry{},
	}

	for _, e := range manifest.Entries {
		if e.Status == Failed || e.Status == Skipped {
			out.Missing = append(out.Missing, e)
		}
	}

	return out, failed
}

// summed counts and hashes what is written.
type summed struct {
	to   io.Writer
	hash hash.Hash
	size int64
}

func (s *summed) Write(p []byte) (int, error) {
	n, err := s.to.Write(p)
	s.size += int64(n)
	_, _ = s.hash.Write(p[:n]) // a hash never fails

	return n, err
}

// Close implements io.WriteCloser; the file is closed by who opened it.
func (*summed) Close() error { return nil }
