package image

import (
	"cmp"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// windowsHost tells which images a Windows host runs whose containers are processes
// of the host itself. Their files include no kernel, so that the version of Windows
// that an image was made on does not matter, other than for Microsoft's own
// containers; it decides between several.
type windowsHost struct{ architecture, version string }

// Match reports whether the host can run it: its own architecture, or one that
// Windows emulates on ARM.
func (h windowsHost) Match(p ocispec.Platform) bool {
	return p.OS == "windows" && (p.Architecture == h.architecture || h.architecture == "arm64" && p.Architecture == "amd64")
}

// Less reports whether a is the better choice: the host's architecture before an
// emulated one, then the newest version that is not newer than the host, then the
// oldest one that is.
func (h windowsHost) Less(a, b ocispec.Platform) bool {
	if x, y := h.Match(a), h.Match(b); x != y {
		return x
	}
	if x, y := a.Architecture == h.architecture, b.Architecture == h.architecture; x != y {
		return x
	}
	newerA, newerB := compareVersions(a.OSVersion, h.version) > 0, compareVersions(b.OSVersion, h.version) > 0
	if newerA != newerB {
		return newerB
	}
	order := compareVersions(a.OSVersion, b.OSVersion)
	if newerA {
		return order < 0
	}
	return order > 0
}

func (h windowsHost) String() string { return "windows/" + h.architecture }

// compareVersions compares texts such as 10.0.17763.1 by their numbers. What is
// missing is less than anything.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if order := cmp.Compare(versionNumber(x), versionNumber(y)); order != 0 {
			return order
		}
	}
	return 0
}

func versionNumber(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
