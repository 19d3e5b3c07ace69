package filter

import "testing"

func TestPrunable(t *testing.T) {
	labels := map[string]string{"a": "1", "b": ""}
	set := func(name string, values ...string) Set {
		s := Set{name: {}}
		for _, v := range values {
			s[name][v] = true
		}
		return s
	}
	for _, test := range []struct {
		filters Set
		want    bool
	}{
		{nil, true},
		{set("label", "a"), true},
		{set("label", "a=1", "b"), true},
		{set("label", "a=1", "c"), false},
		{set("label", "a=2"), false},
		{set("label!", "a"), false},
		{set("label!", "a=2"), true},
		{set("label!", "a", "c"), true}, // as in Docker, it takes all of them
	} {
		if got := Prunable(labels, test.filters); got != test.want {
			t.Errorf("%v: %v", test.filters, got)
		}
	}
	if Check(set("label", "x"), "label") != nil || Check(set("name", "x"), "label") == nil {
		t.Error("a filter that the operation does not know is accepted, or one that it knows refused")
	}
}
