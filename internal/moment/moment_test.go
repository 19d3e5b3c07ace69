package moment

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestParse(t *testing.T) {
	zone := time.FixedZone("somewhere", 2*60*60)
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, zone)
	for value, want := range map[string]time.Time{
		"10m":                            now.Add(-10 * time.Minute),
		"1h30m":                          now.Add(-90 * time.Minute),
		"2026-03-04":                     time.Date(2026, 3, 4, 0, 0, 0, 0, zone),
		"2026-03-04T05:06":               time.Date(2026, 3, 4, 5, 6, 0, 0, zone),
		"2026-03-04T05:06:07Z":           time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		"2026-03-04T05:06:07.5-01:00":    time.Date(2026, 3, 4, 6, 6, 7, 5e8, time.UTC),
		"1700000000":                     time.Unix(1_700_000_000, 0),
		"1700000000.25":                  time.Unix(1_700_000_000, 250_000_000),
		"1700000000.1234567891234567891": time.Unix(1_700_000_000, 123_456_789),
	} {
		if got, err := Parse(value, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %s, %v; want %s", value, got, err, want)
		}
	}
	for _, bad := range []string{"", "soon", "1.x", "2026-13-01", "99999999999999999999"} {
		if got, err := Parse(bad, now); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %s, %v", bad, got, err)
		}
	}
}

func TestUntil(t *testing.T) {
	now := time.Now()
	if got, err := Until(nil, now); err != nil || !got.IsZero() {
		t.Errorf("none: %s, %v", got, err)
	}
	if got, err := Until(map[string]map[string]bool{"until": {"1h": true}}, now); err != nil || !got.Equal(now.Add(-time.Hour)) {
		t.Errorf("one: %s, %v", got, err)
	}
	if _, err := Until(map[string]map[string]bool{"until": {"1h": true, "2h": true}}, now); !errdefs.IsInvalidArgument(err) {
		t.Errorf("two: %v", err)
	}
}
