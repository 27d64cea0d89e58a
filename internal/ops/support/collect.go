package support

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/talosmate/talosmate/internal/errs"
	"github.com/talosmate/talosmate/internal/foreign"
	"github.com/talosmate/talosmate/internal/iostreams"
	"github.com/talosmate/talosmate/internal/lists"
	"github.com/talosmate/talosmate/internal/progress"
	"github.com/talosmate/talosmate/internal/redact"
	"github.com/talosmate/talosmate/internal/talos/conn"
)

// collection is a bundle that is being written.
type collection struct {
	o   Options
	zip *zip.Writer

	mu       sync.Mutex
	manifest Manifest
	size     int64
	used     map[string]bool // Paths in lower case: some file systems know no other.
	done     int64
	total    int64
	failed   map[string]*errs.Error // The first error of each node, "" for the cluster.
	writeErr error

	secrets redact.Known
}

func newCollection(w io.Writer, about Manifest, o Options) *collection {
	about.StartedAt, about.Nodes, about.Entries = o.Now().UTC(), []Node{}, []Entry{}

	return &collection{
		o: o, zip: zip.NewWriter(w), manifest: about, used: map[string]bool{"manifest.json": true}, failed: map[string]*errs.Error{},
		secrets: redact.KnownOf(),
	}
}

// folders gives each node a folder of its own. The names come from nodes, so they are only hints.
func (c *collection) folders(nodes []NodeReads) {
	for _, n := range nodes {
		node := Node{Folder: c.unique("nodes/" + File(n.Target.Name()))}
		node.SetNode(n.Target)
		c.manifest.Nodes = append(c.manifest.Nodes, node)
	}
}

// unique returns a path that no other entry or folder has.
func (c *collection) unique(want string) string {
	dir, file := path.Split(want)
	ext := path.Ext(file)
	stem := strings.TrimSuffix(file, ext)
	out := want

	for i := 2; c.used[strings.ToLower(out)]; i++ {
		out = fmt.Sprintf("%s%s-%d%s", dir, stem, i, ext)
	}

	c.used[strings.ToLower(out)] = true

	return out
}

// job is a read of one node, or of the cluster.
type job struct {
	Read

	node *Node
}

// run asks all nodes and the cluster. The error names each node that failed.
func (c *collection) run(ctx context.Context, nodes []NodeReads, cluster []Read) (Manifest, error) {
	perNode := make([][]job, len(nodes))
	documents := make([][]*yaml.Node, len(nodes))

	var first errs.Group

	first.SetLimit(max(1, c.o.Workers))

	for i, n := range nodes {
		first.Go(func() {
			node := &c.manifest.Nodes[i]
			perNode[i], documents[i] = c.ask(ctx, n, node)
		})
	}

	first.Wait()

	if all := slices.Concat(documents...); len(all) > 0 {
		c.secrets, c.manifest.KnownSecrets = redact.KnownOf(all...), true
	}

	if len(nodes) > 0 && !slices.ContainsFunc(c.manifest.Nodes, func(n Node) bool { return n.Answered }) {
		return c.finish() // without any of them there is nothing to tell about the cluster
	}

	jobs := lists.Map(cluster, func(r Read) job { return job{Read: r} })
	for _, own := range perNode {
		jobs = append(jobs, own...)
	}

	c.total = int64(len(jobs))

	var group errs.Group

	group.SetLimit(max(1, c.o.Workers))

	for _, j := range jobs {
		group.Go(func() {
			if ctx.Err() == nil {
				c.collect(ctx, j)
			}
		})
	}

	group.Wait()

	return c.finish()
}

// ask finds out whether a node answers and what it has.
func (c *collection) ask(ctx context.Context, n NodeReads, node *Node) (jobs []job, secrets []*yaml.Node) {
	started := c.o.Now()

	dead := c.limited(ctx, n.Alive)
	node.Answered = dead == nil || !conn.OneOf(dead, errs.KindUnreachable, errs.KindTimeout)

	if !node.Answered {
		for _, r := range n.Reads {
			c.note(job{r, node}, Entry{DurationSeconds: c.o.Now().Sub(started).Seconds()}, dead)
		}

		return nil, nil
	}

	if n.Config != nil {
		_ = c.limited(ctx, func(ctx context.Context) error { // the entry with the configuration says why there is none
			text, err := n.Config(ctx)
			if err != nil {
				return err
			}

			secrets, err = foreign.Documents(text)

			return err
		})
	}

	for _, r := range n.Reads {
		if r.More == nil {
			jobs = append(jobs, job{r, node})

			continue
		}

		var more []Read

		err := c.limited(ctx, func(ctx context.Context) (err error) {
			more, err = r.More(ctx)

			return err
		})
		if err != nil {
			c.note(job{r, node}, Entry{}, err)
		}

		for _, m := range more {
			m.Path = r.Path + "/" + m.Path
			jobs = append(jobs, job{m, node})
		}
	}

	return jobs, secrets
}

// clusterTimes is how many times as long as a read of one node one of the whole cluster may take: it gives each node the
// time of one read, and asks those that it hears of on the way after the others.
const clusterTimes = 3

// limited calls fn with the time of one read. A panic is an error.
func (c *collection) limited(ctx context.Context, fn func(context.Context) error) error {
	return within(ctx, c.o.Timeout, fn)
}

func within(ctx context.Context, limit time.Duration, fn func(context.Context) error) error {
	reading, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	err := errs.Safely(func() error { return fn(reading) })
	if err == context.DeadlineExceeded && ctx.Err() == nil { //nolint:errorlint // an error with more words says more
		return errs.New(errs.Timeout, "no answer within %s", limit).WithKind(errs.KindTimeout)
	}

	return err
}

// collect reads one entry and writes it.
func (c *collection) collect(ctx context.Context, j job) {
	var content Content

	started := c.o.Now()

	limit := c.o.Timeout
	if j.node == nil {
		limit *= clusterTimes
	}

	err := within(ctx, limit, func(ctx context.Context) (err error) {
		content, err = j.Do(ctx)

		return err
	})

	e := Entry{Status: OK, Truncated: content.Truncated, DurationSeconds: c.o.Now().Sub(started).Seconds()}

	var body []byte

	// Text is measured before its secrets are looked for, which takes time in proportion to it.
	if err = cmp.Or(err, fits(content.Text)); err == nil && !content.Empty {
		if body, err = c.body(content); err == nil {
			err = fits(body)
		}
	}

	switch {
	case err != nil:
	case content.Empty:
		e.Status = Empty
	default:
		e.ExitCode = int(errs.ExitCode(content.Err))
	}

	c.add(j, e, body, err)
}

// fits refuses what is too long for a file.
func fits(text []byte) error {
	if len(text) <= maxEntry {
		return nil
	}

	return Skip{fmt.Sprintf("it has %d bytes; a file has at most %d", len(text), maxEntry)}
}

// body is the content without secrets and without anything that a terminal could interpret.
func (c *collection) body(content Content) ([]byte, error) {
	if content.Document == nil {
		text := c.secrets.Text(string(content.Text))
		if content.Kernel {
			text = redact.KernelArgs(text)
		}

		return []byte(iostreams.Neutral(redact.Text(text))), nil
	}

	var buf bytes.Buffer

	write := func(v any) error {
		buf.Reset()

		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")

		return enc.Encode(v)
	}

	if err := write(content.Document); err != nil {
		return nil, fmt.Errorf("cannot encode it: %w", err)
	}

	var plain any

	dec := json.NewDecoder(bytes.NewReader(buf.Bytes()))
	dec.UseNumber()

	if err := dec.Decode(&plain); err != nil {
		return nil, fmt.Errorf("cannot read it back: %w", err)
	}

	// The document as it is, with the order of its fields, unless something is secret.
	if clean, changed := c.clean(redact.Plain(plain), plain); changed {
		if err := write(clean); err != nil {
			return nil, fmt.Errorf("cannot encode it: %w", err)
		}
	}

	return iostreams.EscapeJSON(buf.Bytes()), nil
}

// clean hides known secrets in v, in which secrets that show by their form are hidden already, and reports whether it
// differs from the document.
func (c *collection) clean(v, before any) (out any, changed bool) {
	switch typed := v.(type) {
	case string:
		text := c.secrets.Text(typed)
		was, _ := before.(string)

		return text, text != was
	case map[string]any:
		was, _ := before.(map[string]any)
		all := make(map[string]any, len(typed))

		for key, value := range typed {
			name := c.secrets.Text(key)
			old, same := was[name]

			cleaned, differs := c.clean(value, old)
			all[name], changed = cleaned, changed || differs || !same
		}

		return all, changed
	case []any:
		was, _ := before.([]any)
		all := make([]any, len(typed))

		for i, value := range typed {
			var old any
			if i < len(was) {
				old = was[i]
			}

			cleaned, differs := c.clean(value, old)
			all[i], changed = cleaned, changed || differs
		}

		return all, changed
	default:
		return v, false
	}
}

// add writes an entry with its content, or notes that it has none.
func (c *collection) add(j job, e Entry, body []byte, err error) {
	if err != nil || e.Status == Empty {
		c.note(j, e, err)

		return
	}

	c.mu.Lock()

	full := c.size+int64(len(body)) > maxBundle || len(c.manifest.Entries) >= maxEntries
	if full || c.writeErr != nil {
		c.mu.Unlock()
		c.note(j, Entry{}, Skip{"the bundle is full"})

		return
	}

	defer c.mu.Unlock()

	c.fill(&e, j)
	sum := sha256.Sum256(body)
	e.SizeBytes, e.SHA256 = int64(len(body)), hex.EncodeToString(sum[:])
	c.size += e.SizeBytes

	if c.writeErr = c.put(e.Path, body); c.writeErr == nil {
		c.manifest.Entries = append(c.manifest.Entries, e)
		c.tell(j)
	}
}

func (c *collection) put(name string, body []byte) error {
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: c.manifest.StartedAt}
	header.SetMode(0o600)

	w, err := c.zip.CreateHeader(header)
	if err != nil {
		return err
	}

	_, err = w.Write(body)

	return err
}

// fill completes an entry with where it belongs.
func (c *collection) fill(e *Entry, j job) {
	e.Path, e.Command = j.Path, j.Command
	e.DurationSeconds = float64(int64(e.DurationSeconds*1000)) / 1000

	if j.node != nil {
		e.Path, e.Node, e.Hostname = j.node.Folder+"/"+j.Path, j.node.Node, j.node.Hostname
	}

	e.Path = c.unique(e.Path)
}

// note lists an entry that has no file.
func (c *collection) note(j job, e Entry, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if len(c.manifest.Entries) >= maxEntries {
		return
	}

	c.fill(&e, j)

	c.explain(&e, err)

	c.manifest.Entries = append(c.manifest.Entries, e)
	c.tell(j)
}

// explain adds to an entry why it has no file. What this certificate may not read and this release does not have is skipped.
func (c *collection) explain(e *Entry, err error) {
	if err == nil {
		return
	}

	typed := errs.Typed(err, e.Node, e.Hostname)
	why := errs.Entries(typed)[0]
	why.Message, why.Hint = c.secrets.Text(redact.Message(why.Message)), c.secrets.Text(redact.Text(why.Hint))
	e.Status, e.Error, e.ExitCode = Failed, &why, int(errs.ExitCode(typed))

	switch {
	case errors.As(err, new(Skip)):
		e.Status, e.ExitCode, why.Code = Skipped, 0, Skipped
	case conn.OneOf(err, errs.KindPermissionDenied, errs.KindUnimplemented):
		e.Status = Skipped
	case c.failed[e.Node] == nil:
		c.failed[e.Node] = typed
	}
}

// tell reports progress.
func (c *collection) tell(j job) {
	c.done++

	event := progress.Event{Time: c.o.Now(), Stage: "support", Message: "reading", Current: min(c.done, c.total), Total: c.total}
	if j.node != nil {
		event.Node = j.node.NodeName()
	}

	c.o.Sink.Emit(event)
}

// finish counts and sorts the entries. The error names each node that failed.
func (c *collection) finish() (Manifest, error) {
	m := c.manifest
	m.DurationSeconds = c.o.Now().Sub(m.StartedAt).Round(time.Millisecond).Seconds()

	lists.Sort(m.Entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })

	for _, e := range m.Entries {
		switch e.Status {
		case OK:
			m.Read++
		case Failed:
			m.Failed++
		case Skipped:
			m.Skipped++
		}
	}

	if c.writeErr != nil {
		return m, c.writeErr // it names the file
	}

	if len(c.failed) == 0 {
		return m, nil
	}

	failed := &errs.Nodes{Succeeded: m.Read}
	for _, e := range c.failed {
		failed.Errors = append(failed.Errors, e)
	}

	lists.Sort(failed.Errors, func(a, b *errs.Error) int { return cmp.Compare(a.Node, b.Node) })

	return m, failed
}

// close writes the manifest, the last entry.
func (c *collection) close(m Manifest, failed error) error {
	if c.writeErr != nil {
		return c.writeErr
	}

	body, err := c.body(Content{Document: c.o.Manifest(m, failed)})
	if err != nil {
		return err
	}

	if err = c.put("manifest.json", body); err != nil {
		return err
	}

	return c.zip.Close()
}
