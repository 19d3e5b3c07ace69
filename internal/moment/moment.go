// Package moment reads the points in time that Docker's clients send in filters.
package moment

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// layouts are those of Docker's clients; what says no time zone is in the host's.
var layouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"}

// Parse reads how long ago it was ("24h"), a date with or without a time of day, or
// seconds since 1970 with up to nine digits of a fraction.
func Parse(value string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(value); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range layouts {
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

// Until reads the filter "until", of which there may be one. The zero time stands
// for none.
func Until(filters map[string]map[string]bool, now time.Time) (time.Time, error) {
	values := filters["until"]
	if len(values) > 1 {
		return time.Time{}, errdefs.ErrInvalidArgument.WithMessage("more than one until filter specified")
	}
	for value := range values {
		return Parse(value, now)
	}
	return time.Time{}, nil
}
