package lists_test

import (
	"slices"
	"strconv"
	"testing"

	"github.com/talosmate/talosmate/internal/lists"
)

func TestLists(t *testing.T) {
	t.Parallel()

	numbers := []int{3, 1, 2}
	small := func(n int) bool { return n < 3 }
	none := func(int) bool { return false }

	if got := lists.Map(numbers, strconv.Itoa); !slices.Equal(got, []string{"3", "1", "2"}) {
		t.Errorf("Map = %q", got)
	}

	if lists.Map(nil, strconv.Itoa) == nil {
		t.Error("Map of an empty list is nil, which a document shows as null")
	}

	if got := lists.Filter(numbers, small); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("Filter = %v", got)
	}

	if got := lists.Filter(numbers, none); got != nil {
		t.Errorf("Filter = %v, want nil", got)
	}

	if got, ok := lists.Find(numbers, small); !ok || got != 1 {
		t.Errorf("Find = %d, %v, want the first match", got, ok)
	}

	if got, ok := lists.Find(numbers, none); ok {
		t.Errorf("Find = %d, want no match", got)
	}

	if got := lists.Join(numbers, ", ", strconv.Itoa); got != "3, 1, 2" {
		t.Errorf("Join = %q", got)
	}

	for most, want := range []string{1: "b and 2 more", 2: "b, a and 1 more", 3: "b, a, c"} {
		if got := lists.First([]string{"b", "a", "c"}, most); most > 0 && got != want {
			t.Errorf("First of %d = %q, want %q", most, got, want)
		}
	}

	words := []string{"bb", "a", "aa", "b"}
	lists.Sort(words, func(a, b string) int { return len(a) - len(b) })

	if !slices.Equal(words, []string{"a", "b", "bb", "aa"}) {
		t.Errorf("Sort = %q, want equal elements in the order in which they were", words)
	}
}
