package logs

import (
	"bytes"
	"regexp"
	"strconv"
	"time"
)

// Stamps reads the time stamps of the log formats on Talos nodes. It holds compiled expressions, so make it once.
type Stamps struct {
	json, logfmt, klog *regexp.Regexp
	now                time.Time
}

// NewStamps prepares for logs read at now. klog's time stamps need it, since they have no year.
func NewStamps(now time.Time) *Stamps {
	return &Stamps{
		json:   regexp.MustCompile(`"(?:ts|time|timestamp|talos-time)":\s*(?:"([^"]+)"|(\d+(?:\.\d+)?(?:e\+?\d+)?))`),
		logfmt: regexp.MustCompile(`(?:^|\s)(?:time|ts)="?([^"\s]+)`),
		klog:   regexp.MustCompile(`^[IWEF](\d{4} \d\d:\d\d:\d\d\.\d+) `),
		now:    now,
	}
}

// Of reads a line's time stamp: RFC 3339 at the start (CRI logs), Go's log package (apid, trustd, machined),
// klog (Kubernetes), JSON (etcd, containerd, the controller runtime) or logfmt.
// A stamp that no document can hold is none.
func (s *Stamps) Of(line []byte) (time.Time, bool) {
	at, found := s.read(line)
	if year := at.UTC().Year(); !found || year < 0 || year > 9999 {
		return time.Time{}, false
	}

	return at, true
}

func (s *Stamps) read(line []byte) (time.Time, bool) {
	word, _, _ := bytes.Cut(line, []byte(" "))
	if at, err := time.Parse(time.RFC3339Nano, string(word)); err == nil {
		return at, true
	}

	if len(line) > len(word)+1 {
		clock, _, _ := bytes.Cut(line[len(word)+1:], []byte(" "))
		if at, err := time.Parse("2006/01/02 15:04:05", string(word)+" "+string(clock)); err == nil {
			return at, true
		}
	}

	if m := s.klog.FindSubmatch(line); m != nil {
		if at, err := time.Parse("0102 15:04:05.999999999", string(m[1])); err == nil {
			at = at.AddDate(s.now.UTC().Year(), 0, 0)
			if at.After(s.now.Add(24 * time.Hour)) {
				at = at.AddDate(-1, 0, 0)
			}

			return at, true
		}
	}

	if len(line) > 0 && line[0] == '{' {
		if m := s.json.FindSubmatch(line); m != nil {
			return parseStamp(m[1], m[2])
		}
	}

	if m := s.logfmt.FindSubmatch(line); m != nil {
		return parseStamp(m[1], nil)
	}

	return time.Time{}, false
}

func parseStamp(text, number []byte) (time.Time, bool) {
	if len(number) > 0 {
		f, err := strconv.ParseFloat(string(number), 64)
		if err != nil || f > 1e15 {
			return time.Time{}, false
		}

		if f > 1e11 {
			f /= 1000 // Kubernetes writes milliseconds
		}

		return time.UnixMicro(int64(f * 1e6)).UTC(), true
	}

	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006/01/02 15:04:05.999999999"} {
		if at, err := time.Parse(layout, string(text)); err == nil {
			return at, true
		}
	}

	return time.Time{}, false
}
