package network

import (
	"regexp"
	"strconv"
	"strings"

	mobynetwork "github.com/moby/moby/api/types/network"
)

// Filters are a request's filters: for each name the set of its values.
type Filters = map[string]map[string]bool

// condition is what a filter does with one value, and whether all of
// several values must match, or one.
type condition struct {
	match func(n mobynetwork.Inspect, value string) bool
	every bool
	check func(value string) bool // nil accepts all
}

// listFilters are those of `docker network ls`.
var listFilters = map[string]condition{
	"id":     {match: func(n mobynetwork.Inspect, v string) bool { return matchPattern(n.ID, v) }},
	"name":   {match: func(n mobynetwork.Inspect, v string) bool { return matchPattern(n.Name, v) }},
	"driver": {match: func(n mobynetwork.Inspect, v string) bool { return n.Driver == v }},
	"scope":  {match: func(n mobynetwork.Inspect, v string) bool { return n.Scope == v }},
	"label":  {match: matchLabel, every: true},
	"type": {
		match: func(n mobynetwork.Inspect, v string) bool { return predefined(n.Name) == (v == "builtin") },
		check: func(v string) bool { return v == "builtin" || v == "custom" },
	},
	"dangling": {
		match: func(n mobynetwork.Inspect, v string) bool {
			want, _ := strconv.ParseBool(v) // checked
			return want == (!predefined(n.Name) && len(n.Containers) == 0)
		},
		check: func(v string) bool { _, err := strconv.ParseBool(v); return err == nil },
	},
}

// pruneFilters are those of `docker network prune`; that of until looks at none.
var pruneFilters = map[string]condition{
	"label":  {match: matchLabel, every: true},
	"label!": {match: func(n mobynetwork.Inspect, v string) bool { return !matchLabel(n, v) }, every: true},
	"until":  {match: func(mobynetwork.Inspect, string) bool { return true }},
}

func checkFilters(filters Filters, known map[string]condition) error {
	for name, values := range filters {
		f, ok := known[name]
		if !ok {
			return invalid("invalid filter '%s'", name)
		}
		for value := range values {
			if f.check != nil && !f.check(value) {
				return invalid("invalid filter '%s=%s'", name, value)
			}
		}
	}
	return nil
}

// matches reports whether a network passes all filters, which have been checked.
func matches(n mobynetwork.Inspect, filters Filters, known map[string]condition) bool {
	for name, values := range filters {
		some, every := false, true
		for value := range values {
			ok := known[name].match(n, value)
			some, every = some || ok, every && ok
		}
		if known[name].every && !every || !known[name].every && !some && len(values) > 0 {
			return false
		}
	}
	return true
}

// matchPattern is Docker's way with names and IDs: a regular expression for a part
// of them, or else just themselves.
func matchPattern(s, pattern string) bool {
	if s == pattern {
		return true
	}
	expression, err := regexp.Compile(pattern)
	return err == nil && expression.MatchString(s)
}

func matchLabel(n mobynetwork.Inspect, value string) bool {
	key, want, exact := strings.Cut(value, "=")
	got, ok := n.Labels[key]
	return ok && (!exact || got == want)
}
