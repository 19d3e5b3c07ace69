package api

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// query is a request's decoded query string.
type query url.Values

func (q query) get(key string) string { return url.Values(q).Get(key) }
func (q query) has(key string) bool   { return url.Values(q).Has(key) }

// flag reads a boolean as Docker does: everything that does not mean no is yes.
func (q query) flag(key string) bool {
	switch strings.ToLower(strings.TrimSpace(q.get(key))) {
	case "", "0", "no", "false", "none":
		return false
	default:
		return true
	}
}

// flagUnlessOff is flag for what is on by default.
func (q query) flagUnlessOff(key string) bool { return !q.has(key) || q.flag(key) }

// number reads an optional integer; nil means that it was not given.
func (q query) number(key string) (*int, error) {
	s := q.get(key)
	if s == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil, invalidf("invalid value for %s: %q is not a number in range", key, s)
	}
	return &n, nil
}

// size reads a terminal's height or width.
func (q query) size(key, what string) (uint16, error) {
	n, err := strconv.ParseUint(q.get(key), 10, 32)
	if err != nil || n > math.MaxUint16 {
		return 0, invalidf("invalid resize %s %q", what, q.get(key))
	}
	return uint16(n), nil
}

// timestamp reads "seconds[.nanoseconds]" since 1970; missing is the zero time.
func (q query) timestamp(key string) (time.Time, error) {
	s := q.get(key)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := parseTimestamp(s)
	if err != nil {
		return time.Time{}, invalidf("invalid value for %q: %v", key, err)
	}
	return t, nil
}

// parseTimestamp reads "seconds[.nanoseconds]". The fraction is padded to nine
// digits, or cut to them.
func parseTimestamp(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec < -maxSeconds || sec > maxSeconds {
		return time.Time{}, fmt.Errorf("invalid timestamp %q: seconds since 1970 expected", s)
	}
	if strings.Trim(fraction, "0123456789") != "" || len(fraction) > 20 {
		return time.Time{}, fmt.Errorf("invalid timestamp %q: up to nine digits of nanoseconds expected", s)
	}
	const digits = 9
	fraction = (fraction + strings.Repeat("0", digits))[:digits]
	nsec, err := strconv.ParseInt(fraction, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid timestamp %q: %w", s, err)
	}
	return time.Unix(sec, nsec).UTC(), nil
}

// maxSeconds is the year 9999: what lies beyond overflows when compared.
const maxSeconds = 253402300799

// Filters are the filters of a list, prune or events request: name to set of
// values.
type Filters = map[string]map[string]bool

// filters reads the filters parameter.
func (q query) filters() (Filters, error) { return parseFilters(q.get("filters")) }

// parseFilters decodes filters in the present form, {"label":{"a=b":true}}, or
// in that of clients before API 1.22, {"label":["a=b"]}, which many libraries
// still send.
func parseFilters(s string) (Filters, error) {
	if s == "" {
		return Filters{}, nil
	}
	var lists map[string][]string
	if json.Unmarshal([]byte(s), &lists) == nil {
		out := make(Filters, len(lists))
		for key, values := range lists {
			out[key] = make(map[string]bool, len(values))
			for _, v := range values {
				out[key][v] = true
			}
		}
		return out, nil
	}
	var sets Filters
	if json.Unmarshal([]byte(s), &sets) != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter")
	}
	// A value counts by being there, whatever the flag beside it says.
	for _, values := range sets {
		for v := range values {
			values[v] = true
		}
	}
	return sets, nil
}

// platform reads a platform as "os[/arch[/variant]]"; nil if there is none.
func (q query) platform(key string) (*ocispec.Platform, error) {
	s := q.get(key)
	if s == "" {
		return nil, nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("invalid platform"), err)
	}
	return &p, nil
}

// platforms reads platforms that are given as JSON objects.
func (q query) platforms(key string) ([]ocispec.Platform, error) {
	var out []ocispec.Platform
	for _, s := range q[key] {
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(s), &p); err != nil {
			return nil, fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("failed to parse platform"), err)
		}
		if p.OS == "" || p.Architecture == "" {
			return nil, invalidf("both OS and Architecture must be provided")
		}
		out = append(out, p)
	}
	return out, nil
}

// onePlatform is platforms where at most one may be given.
func (q query) onePlatform(key string) (*ocispec.Platform, error) {
	list, err := q.platforms(key)
	switch {
	case err != nil:
		return nil, err
	case len(list) > 1:
		return nil, invalidf("only one platform value is currently supported")
	case len(list) == 0:
		return nil, nil
	}
	return &list[0], nil
}

// repoTag reads the parameters repo and tag as one reference; nil if repo is
// empty. A missing tag is "latest".
func (q query) repoTag() (reference.NamedTagged, error) {
	return parseRepoTag(q.get("repo"), q.get("tag"))
}

func parseRepoTag(repo, tag string) (reference.NamedTagged, error) {
	if repo == "" {
		return nil, nil
	}
	ref, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("invalid repository name"), err)
	}
	if _, ok := ref.(reference.Digested); ok {
		return nil, invalidf("refusing to create a tag with a digest reference")
	}
	if tag != "" {
		tagged, err := reference.WithTag(ref, tag)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("invalid tag"), err)
		}
		return tagged, nil
	}
	tagged, ok := reference.TagNameOnly(ref).(reference.NamedTagged)
	if !ok {
		return nil, invalidf("invalid reference: %q", repo)
	}
	return tagged, nil
}
