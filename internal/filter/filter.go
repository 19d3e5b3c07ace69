// Package filter reads the filters that requests for lists and for prunes have in
// common, in Docker's words.
package filter

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Set are a request's filters: for each name the set of its values.
type Set = map[string]map[string]bool

// Check refuses filters that the operation does not know.
func Check(filters Set, known ...string) error {
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		if !slices.Contains(known, name) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s'", name))
		}
	}
	return nil
}

// Values are the values of one filter, sorted.
func Values(filters Set, name string) []string {
	var out []string
	for value, set := range filters[name] {
		if set {
			out = append(out, value)
		}
	}
	slices.Sort(out)
	return out
}

// Prunable tells whether labels pass the filters of a prune: all of "label", and
// not all of "label!".
func Prunable(labels map[string]string, filters Set) bool {
	unwanted := Values(filters, "label!")
	return HasLabels(labels, Values(filters, "label")) && (len(unwanted) == 0 || !HasLabels(labels, unwanted))
}

// HasLabels matches labels against values "key" and "key=value", all of which must
// hold.
func HasLabels(labels map[string]string, wanted []string) bool {
	for _, want := range wanted {
		key, value, exact := strings.Cut(want, "=")
		have, ok := labels[key]
		if !ok || exact && have != value {
			return false
		}
	}
	return true
}
