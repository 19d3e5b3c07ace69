package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseIndex(t *testing.T) {
	x, err := parseIndex(strings.NewReader(`Package: a
Version: 1
Maintainer: Eve <e@example.org>
Installed-Size: 12
Depends: b (>= 2) | c, d:any,
 folded
Description: first
 longer text: with a colon

Package: b
Version: 2
Maintainer: Eve <e@example.org>
Pre-Depends: a
Section: libs

Package: b
Version: 2
Maintainer: Somebody else
`))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]any{
		{1, 1, "Depends", "b (>= 2) | c", 2},
		{2, 1, "Depends", "d:any", nil},
		{3, 2, "Pre-Depends", "a", 1},
	}
	if diff := cmp.Diff(want, x.dependencies); diff != "" {
		t.Error("dependencies (-want +got):", diff)
	}
	packages := [][]any{{1, "a", "1", "", 12, 1, "first"}, {2, "b", "2", "libs", 0, 1, ""}}
	if diff := cmp.Diff(packages, x.packages); diff != "" {
		t.Error("packages (-want +got):", diff)
	}
	if diff := cmp.Diff([][]any{{1, "Eve <e@example.org>"}}, x.maintainers); diff != "" {
		t.Error("maintainers (-want +got):", diff)
	}
}
