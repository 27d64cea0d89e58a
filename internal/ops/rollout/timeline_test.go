package rollout

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/talosmate/talosmate/internal/ops/disruption"
	"github.com/talosmate/talosmate/internal/ops/upgrade"
	"github.com/talosmate/talosmate/internal/runbook"
	"github.com/talosmate/talosmate/internal/talos"
)

func TestTicks(t *testing.T) {
	t.Parallel()

	for _, row := range []struct {
		total time.Duration
		step  time.Duration
		ticks int
		last  string
	}{
		{time.Millisecond, time.Millisecond, 1, "1ms"},
		{7 * time.Second, time.Second, 7, "7s"},
		{83 * time.Second, 10 * time.Second, 9, "1m30s"},
		{8*time.Minute + 13*time.Second, time.Minute, 9, "9m"},
		{47 * time.Minute, 5 * time.Minute, 10, "50m"},
		{3*time.Hour + time.Minute, 30 * time.Minute, 7, "3h30m"},
		{26 * time.Hour, 3 * time.Hour, 9, "27h"},
		{900 * time.Hour, 96 * time.Hour, 10, "960h"},
		{5000 * time.Hour, 96 * time.Hour, 53, "5088h"},
	} {
		step, ticks := tickStep(row.total)
		if step != row.step || ticks != row.ticks || tickLabel(step*time.Duration(ticks)) != row.last {
			t.Errorf("%s: %d ticks of %s, up to %s", row.total, ticks, step, tickLabel(step*time.Duration(ticks)))
		}
	}
}

// timeline is a run in which every stage happens.
func timeline() ApplyResult {
	start := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	n := upgrade.Result{NodeRef: talos.NodeRef{Node: "10.0.0.1", Hostname: `a-host-with-a-name-that-is-longer-than-its-column<b>"&`}}
	at := start

	for _, s := range []string{"preflight", "pull", "cordon", "drain", "install", "reboot", "wait", "wait", "kubernetes", "uncordon", "verify", "rollback", "new-stage"} {
		stage := runbook.Stage{Time: at, Stage: s}
		if len(n.Stages) > 0 && n.Stages[len(n.Stages)-1].Stage == "wait" && s == "wait" {
			stage.Message = disruption.Back + " after 20.0 s"
		}

		n.Stages = append(n.Stages, stage)
		at = at.Add(20 * time.Second)
	}

	n.ElapsedSeconds, n.DowntimeSeconds = at.Sub(start).Seconds(), 18

	return ApplyResult{
		Cluster: "prod", To: "v1.14.1", Status: runbook.OK, StartedAt: start, FinishedAt: at.Add(30 * time.Second), Nodes: []upgrade.Result{n},
		Checks: []Check{{Time: at, Kind: "soak", WaitedSeconds: 30}},
	}
}

// TestTimeline reads the picture as XML: it has every stage, in its margins.
func TestTimeline(t *testing.T) {
	t.Parallel()

	var out strings.Builder
	if err := WriteTimeline(&out, timeline()); err != nil {
		t.Fatal(err)
	}

	dec := xml.NewDecoder(strings.NewReader(out.String()))
	titles, texts, inText := "", []string{}, false

	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			t.Fatal(err)
		}

		switch e := token.(type) {
		case xml.StartElement:
			inText = e.Name.Local == "text"

			var x, width float64

			for _, a := range e.Attr {
				switch a.Name.Local {
				case "x":
					x, _ = strconv.ParseFloat(a.Value, 64)
				case "width":
					width, _ = strconv.ParseFloat(a.Value, 64)
				}
			}

			if e.Name.Local == "rect" && x > 0 && (x < timelineEdge || x+width > timelineWidth-timelineEdge+0.1) {
				t.Errorf("a bar from %f to %f is not within the margins", x, x+width)
			}
		case xml.CharData:
			if inText {
				texts = append(texts, string(e))
			} else {
				titles += string(e)
			}
		}
	}

	all := strings.Join(texts, "|")

	for _, p := range phases() {
		if !strings.Contains(all, p.name) {
			t.Errorf("the legend has no %s: %s", p.name, all)
		}
	}

	for _, want := range []string{": uncordon, 20s", ": wait, 40s", ": API down, 18s", ": soak, 30s", ": new-stage, 20s"} {
		if !strings.Contains(titles, want) {
			t.Errorf("no bar %q: %s", want, titles)
		}
	}

	if !strings.Contains(all, "a-host-with-a…") || strings.Contains(out.String(), "<b>") {
		t.Error("the name is not cut, or not escaped")
	}
}

// TestColoursDiffer compares the colours as people with each kind of colour blindness see them: two phases with a plain colour
// differ by at least 10 in CIELAB, which is seen at a glance.
func TestColoursDiffer(t *testing.T) {
	t.Parallel()

	// Machado, Oliveira and Fernandes (2009), severity 1.
	sights := map[string][9]float64{
		"all colours":  {1, 0, 0, 0, 1, 0, 0, 0, 1},
		"protanopia":   {0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998},
		"deuteranopia": {0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881},
		"tritanopia":   {1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900},
	}

	all := phases()

	for sight, m := range sights {
		for i, a := range all {
			for _, b := range all[:i] {
				if !strings.HasPrefix(a.fill, "#") || !strings.HasPrefix(b.fill, "#") {
					continue
				}

				if d := distance(lab(a.fill, m), lab(b.fill, m)); d < 10 {
					t.Errorf("%s: %s and %s differ by %.1f", sight, a.name, b.name, d)
				}
			}
		}
	}
}

// lab is a colour as somebody sees it, in CIELAB.
func lab(hex string, sight [9]float64) [3]float64 {
	value, _ := strconv.ParseUint(hex[1:], 16, 32)

	var rgb, seen [3]float64

	for i, shift := range []uint{16, 8, 0} {
		c := float64(value>>shift&0xff) / 255
		if rgb[i] = c / 12.92; c > 0.04045 {
			rgb[i] = math.Pow((c+0.055)/1.055, 2.4)
		}
	}

	for i := range seen {
		seen[i] = min(1, max(0, sight[3*i]*rgb[0]+sight[3*i+1]*rgb[1]+sight[3*i+2]*rgb[2]))
	}

	f := func(v float64) float64 {
		if v > 0.008856 {
			return math.Cbrt(v)
		}

		return 7.787*v + 16.0/116
	}

	x := f((0.4124*seen[0] + 0.3576*seen[1] + 0.1805*seen[2]) / 0.95047)
	y := f(0.2126*seen[0] + 0.7152*seen[1] + 0.0722*seen[2])
	z := f((0.0193*seen[0] + 0.1192*seen[1] + 0.9505*seen[2]) / 1.08883)

	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

func distance(a, b [3]float64) float64 {
	return math.Sqrt((a[0]-b[0])*(a[0]-b[0]) + (a[1]-b[1])*(a[1]-b[1]) + (a[2]-b[2])*(a[2]-b[2]))
}
