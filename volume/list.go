package volume

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	mobyvolume "github.com/moby/moby/api/types/volume"
)

// Filters are the API's filters: accepted values by the filter's name.
type Filters map[string]map[string]bool

// List returns the volumes that pass the filters dangling, driver, label and
// name, by name.
func (m *Manager) List(_ context.Context, filters Filters) ([]mobyvolume.Volume, error) {
	matches, err := filters.compile("dangling", "driver", "label", "name")
	if err != nil {
		return nil, err
	}
	volumes := []mobyvolume.Volume{}
	for _, c := range m.candidates() {
		if matches(c) {
			volumes = append(volumes, m.api(c.record))
		}
	}
	return volumes, nil
}

// candidate is a volume at one moment.
type candidate struct {
	record
	users int
}

// candidates returns all volumes by name.
func (m *Manager) candidates() []candidate {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]candidate, 0, len(m.volumes))
	for _, name := range slices.Sorted(maps.Keys(m.volumes)) {
		v := m.volumes[name]
		all = append(all, candidate{v.record, len(v.users)})
	}
	return all
}

// compile checks the filters and returns what they say of a volume.
func (f Filters) compile(accepted ...string) (func(candidate) bool, error) {
	for name := range f {
		if !slices.Contains(accepted, name) {
			return nil, invalid("invalid filter '%s'", name)
		}
	}
	dangling, isSet, err := f.boolean("dangling")
	if err != nil {
		return nil, err
	}
	return func(c candidate) bool {
		return (!isSet || dangling == (c.users == 0)) &&
			(len(f["driver"]) == 0 || f["driver"][Driver]) &&
			f.matchName(c.Name) && f.matchLabels(c.Labels)
	}, nil
}

func (f Filters) boolean(name string) (value, isSet bool, err error) {
	values := f[name]
	if len(values) == 0 {
		return false, false, nil
	}
	for text := range values {
		value, err = strconv.ParseBool(text)
	}
	if err != nil || len(values) > 1 {
		return false, false, invalid("invalid filter '%s=%v'", name, slices.Sorted(maps.Keys(values)))
	}
	return value, true, nil
}

// matchName reports whether one of the values is the name or, read as a regular
// expression, matches a part of it.
func (f Filters) matchName(name string) bool {
	values := f["name"]
	if len(values) == 0 || values[name] {
		return true
	}
	for pattern := range values {
		if matched, err := regexp.MatchString(pattern, name); err == nil && matched {
			return true
		}
	}
	return false
}

// matchLabels reports whether labels has all of "label" and none of "label!".
func (f Filters) matchLabels(labels map[string]string) bool {
	has := func(filter string) bool {
		key, value, withValue := strings.Cut(filter, "=")
		actual, ok := labels[key]
		return ok && (!withValue || actual == value)
	}
	for filter := range f["label"] {
		if !has(filter) {
			return false
		}
	}
	for filter := range f["label!"] {
		if has(filter) {
			return false
		}
	}
	return true
}

// Usage returns all volumes with their sizes in bytes and the number of
// containers that use them, for `docker system df`. Only what is the volume's
// own counts of an overlay. The size of a volume made of mount options is -1.
func (m *Manager) Usage(ctx context.Context) ([]mobyvolume.Volume, error) {
	all := m.candidates()
	volumes := make([]mobyvolume.Volume, 0, len(all))
	for _, c := range all {
		usage := &mobyvolume.UsageData{RefCount: int64(c.users), Size: -1}
		if !isMount(c.Options) {
			size, err := m.size(ctx, c.record)
			if err != nil {
				return nil, fmt.Errorf("measuring volume %s: %w", c.Name, err)
			}
			usage.Size = size
		}
		v := m.api(c.record)
		v.UsageData = usage
		volumes = append(volumes, v)
	}
	return volumes, nil
}
