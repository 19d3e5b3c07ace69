package image

import (
	"fmt"
	"strings"

	"slipway/internal/filter"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Filters are a request's filters: for each name the set of its values.
type Filters = filter.Set

func invalidFilter(name string, values []string) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s=%s'", name, values))
}

// filterBool reads a filter that is true or false.
func filterBool(filters Filters, name string) (value, given bool, err error) {
	values := filter.Values(filters, name)
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
