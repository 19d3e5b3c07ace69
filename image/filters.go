package image

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

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

// filterUntil reads a moment: a time stamp, or how long ago it was. The zero
// time stands for no filter.
func filterUntil(filters Filters, now time.Time) (time.Time, error) {
	values := filterValues(filters, "until")
	switch len(values) {
	case 0:
		return time.Time{}, nil
	case 1:
	default:
		return time.Time{}, errdefs.ErrInvalidArgument.WithMessage("more than one until filter specified")
	}
	value := values[0]
	if ago, err := time.ParseDuration(value); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, value, now.Location()); err == nil {
			return at, nil
		}
	}
	seconds, fraction, _ := strings.Cut(value, ".")
	if sec, err := strconv.ParseInt(seconds, 10, 64); err == nil {
		nsec, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		if err == nil {
			return time.Unix(sec, nsec), nil
		}
	}
	return time.Time{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("failed to parse time value %q", value))
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
