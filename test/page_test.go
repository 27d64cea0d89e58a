package test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// browser is the program that looks at pages.
func browser(t *testing.T) string {
	t.Helper()

	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}

	t.Fatal("no browser: make deps installs one")

	return ""
}

// browse runs the browser on a page and returns what it prints.
func browse(t *testing.T, page string, width int, args ...string) string {
	t.Helper()

	args = append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(), fmt.Sprintf("--window-size=%d,1400", width),
	}, args...)

	var stdout, stderr bytes.Buffer

	cmd := exec.Command(browser(t), append(args, "file://"+page)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}

	return stdout.String()
}

// overflow is by how many pixels a page is wider than the window. A script may not run in the page, so that a copy without its
// policy is measured.
func overflow(t *testing.T, page string, width int) int {
	t.Helper()

	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}

	measured := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`).ReplaceAllString(string(text), "")
	if measured == string(text) && strings.Contains(string(text), "<html") {
		t.Errorf("%s has no policy", page)
	}

	const script = `<script>document.body.setAttribute("data-over", document.documentElement.scrollWidth - document.documentElement.clientWidth)</script></body>`

	measured = strings.Replace(measured, "</body>", script, 1)
	copied := filepath.Join(t.TempDir(), "measured.html")

	if err = os.WriteFile(copied, []byte(measured), 0o600); err != nil {
		t.Fatal(err)
	}

	m := regexp.MustCompile(`data-over="(-?\d+)"`).FindStringSubmatch(browse(t, copied, width, "--dump-dom"))
	if m == nil {
		t.Fatalf("%s was not measured", page)
	}

	var over int

	_, _ = fmt.Sscan(m[1], &over)

	return over
}

// screenshot is what a page looks like.
func screenshot(t *testing.T, page string, width int, args ...string) image.Image {
	t.Helper()

	dir := t.TempDir()
	if keep := os.Getenv("TALOSMATE_TEST_SCREENSHOTS"); keep != "" {
		dir = keep
	}

	name := strings.ReplaceAll(t.Name()+"/"+filepath.Base(page), "/", "-")
	file := filepath.Join(dir, fmt.Sprintf("%s-%d%s.png", name, width, strings.Join(args, "")))
	browse(t, page, width, append(args, "--screenshot="+file)...)

	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	img, err := png.Decode(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}

	return img
}

// inked is the share of a picture that has not its most frequent colour, in percent, and that colour.
func inked(img image.Image) (percent float64, ground color.Color) {
	count, most := map[color.Color]int{}, 0
	b := img.Bounds()

	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := img.At(x, y)
			if count[c]++; count[c] > most {
				most, ground = count[c], c
			}
		}
	}

	return 100 - 100*float64(most)/float64(b.Dx()*b.Dy()), ground
}

// TestPages looks at the reports with a browser, at the widths of a screen and of a telephone: they are not empty and not wider than
// the window, in light and in dark.
func TestPages(t *testing.T) {
	t.Parallel()

	f := startLab(t)

	hang := f.command(filepath.Join(f.bin, "talosmate-lab"), "ctl", "hang", "worker-2", "on")
	if out, err := hang.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	for _, command := range []string{"health", "describe"} {
		page := filepath.Join(f.dir, command+".html")

		cmd := f.talosmate(command, "--report", page, "--timeout", "3s", "-o", "json")
		if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != map[string]int{"health": 3, "describe": 4}[command] {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}

		if info, err := os.Stat(page); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("%v, %v", info, err)
		}

		for _, width := range []int{375, 1060, 1280} {
			t.Run(fmt.Sprintf("%s/%d", command, width), func(t *testing.T) {
				if over := overflow(t, page, width); over > 0 {
					t.Errorf("the page is %d pixels wider than the window", over)
				}

				light := screenshot(t, page, width)
				if percent, ground := inked(light); light.Bounds().Dx() != width || percent < 3 || percent > 60 || luma(ground) < 200 {
					t.Errorf("light: %v, %.1f %% of it is not ground, which is %v", light.Bounds(), percent, ground)
				}

				dark := screenshot(t, page, width, "--blink-settings=preferredColorScheme=0")
				if percent, ground := inked(dark); percent < 3 || luma(ground) > 60 {
					t.Errorf("dark: %.1f %% of it is not ground, which is %v", percent, ground)
				}
			})
		}
	}
}

func luma(c color.Color) uint8 {
	gray, _ := color.GrayModel.Convert(c).(color.Gray)

	return gray.Y
}
