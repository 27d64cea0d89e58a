// Package lists has the few functions over lists that the standard library lacks.
package lists

import (
	"fmt"
	"slices"
	"strings"
)

// Map calls fn for every element and returns the results in order; never nil, so that a document has [] and not null.
func Map[T, R any](list []T, fn func(T) R) []R {
	out := make([]R, len(list))
	for i, element := range list {
		out[i] = fn(element)
	}

	return out
}

// Filter returns the elements to keep, in order; nil if there are none.
func Filter[T any](list []T, keep func(T) bool) []T {
	var out []T

	for _, element := range list {
		if keep(element) {
			out = append(out, element)
		}
	}

	return out
}

// Find returns the first element that matches.
func Find[T any](list []T, match func(T) bool) (found T, ok bool) {
	for _, element := range list {
		if match(element) {
			return element, true
		}
	}

	return found, false
}

// Join is strings.Join for elements that are named by a function.
func Join[T any](list []T, separator string, name func(T) string) string {
	return strings.Join(Map(list, name), separator)
}

// First joins the first elements with commas, and says how many more there are.
func First(list []string, most int) string {
	text := strings.Join(list[:min(most, len(list))], ", ")
	if len(list) > most {
		text += fmt.Sprintf(" and %d more", len(list)-most)
	}

	return text
}

// Sort sorts a list and keeps the order of elements that compare as equal. It sorts positions, so that the program has the
// code once; slices.SortFunc is linked again for every type of element.
func Sort[T any](list []T, compare func(a, b T) int) {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}

	slices.SortStableFunc(order, func(a, b int) int { return compare(list[a], list[b]) })
	copy(list, Map(order, func(i int) T { return list[i] }))
}
