// Package version says which build of Slipway a program is. The linker fills
// the values in (see the Makefile); a program built without them calls itself
// a development build.
package version

import "runtime/debug"

// Filled in with -ldflags "-X ...".
var (
	version   = "0.0.0-dev"
	commit    = ""
	buildTime = ""
)

// Version is the release, or a description of the commit it was built from.
func Version() string { return version }

// Commit is the abbreviated hash of the commit the program was built from, or
// "unknown".
func Commit() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// BuildTime is the time of that commit in RFC 3339, so that two builds of one
// commit are the same to the byte, or "".
func BuildTime() string { return buildTime }

// Runc is the release of runc that is built and installed with this one; the
// pin is in tools/runc/go.mod, and a test compares them.
const Runc = "1.5.2"
