package image

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Filters are a request's filters: for each name the set of its values.
type Filters = map[string]map[string]bool

// checkFilters refuses filters that the operation does not know.
func checkFilters(filters Filters, known ...string) error {
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		if !slices.Contains(known, name) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s'", name))
		}
	}
	return nil
}

func invalidFilter(name string, values []string) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s=%s'", name, values))
}

func filterValues(filters Filters, name string) []string {
	var out []string
	for value, set := range filters[name] {
		if set {
			out = append(out, value)
		}
	}
	slices.Sort(out)
	return out
}

// filterBool reads a filter that is true or false.
func filterBool(filters Filters, name string) (value, given bool, err error) {
	values := filterValues(filters, name)
	if len(values) == 0 {
		return false, false, nil
	}
	switch {
	case len(values) > 1:
		return false, false, invalidFilter(name, values)
	case values[0] == "1" || strings.EqualFold(values[0], "true"):
		return true, true, nil
	case values[0] == "0" || strings.EqualFold(values[0], "false"):
		return false, true, nil
	}
	return false, false, invalidFilter(name, values)
}

// labelFilter matches a map of labels against values "key" and "key=value", all
// of which must hold.
func labelFilter(labels map[string]string, wanted []string) bool {
	for _, want := range wanted {
		key, value, exact := strings.Cut(want, "=")
		have, ok := labels[key]
		if !ok || exact && have != value {
			return false
		}
	}
	return true
}

// referenceFilter matches a familiar reference, or its name without tag,
// against a pattern of path.Match.
func referenceFilter(pattern, familiar string) (bool, error) {
	named, err := reference.ParseNormalizedNamed(familiar)
	if err != nil {
		return false, nil
	}
	matched, err := reference.FamiliarMatch(pattern, named)
	if err != nil {
		return false, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter 'reference=[%s]'", pattern))
	}
	return matched, nil
}
