package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Version is a version of the Docker Engine API.
type Version struct{ Major, Minor int }

var (
	// MaxVersion is the newest version of the API the server speaks, and the
	// one a request without a version gets.
	MaxVersion = Version{1, 56}
	// MinVersion is the oldest version of the API the server speaks.
	MinVersion = Version{1, 40}
)

// plainTextBelow is the version from which clients expect errors as JSON.
var plainTextBelow = Version{1, 24}

// String returns the version as it stands in paths and headers, without the v.
func (v Version) String() string { return strconv.Itoa(v.Major) + "." + strconv.Itoa(v.Minor) }

// Less reports whether v is older than o.
func (v Version) Less(o Version) bool {
	if v.Major != o.Major {
		return v.Major < o.Major
	}
	return v.Minor < o.Minor
}

// before reports whether v is older than version 1.minor.
func (v Version) before(minor int) bool { return v.Less(Version{1, minor}) }

// parseVersion reads "1.44". Numbers beyond any real version count as too new.
func parseVersion(s string) (Version, error) {
	major, minor, ok := strings.Cut(s, ".")
	if !ok {
		minor = "0"
	}
	var v Version
	for _, part := range []struct {
		digits string
		to     *int
	}{{major, &v.Major}, {minor, &v.Minor}} {
		if part.digits == "" || strings.Trim(part.digits, "0123456789") != "" {
			return Version{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid API version %q", s))
		}
		n, err := strconv.Atoi(part.digits)
		if err != nil {
			n = math.MaxInt
		}
		*part.to = n
	}
	return v, nil
}

// cutVersion splits "/v1.44/info" into "1.44" and "/info". The version is empty
// if the path has none.
func cutVersion(path string) (version, rest string) {
	after, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return "", path
	}
	version, tail, slash := strings.Cut(after, "/")
	if !slash || version == "" || strings.Trim(version, "0123456789.") != "" {
		return "", path
	}
	return version, "/" + tail
}

// negotiate decides which version a request speaks. The text in the client's
// request is used in the errors, as Docker does. It returns what could be read
// of the version also with an error.
func negotiate(requested string) (Version, error) {
	if requested == "" {
		return MaxVersion, nil
	}
	v, err := parseVersion(requested)
	switch {
	case err != nil:
		return v, err
	case v.Less(MinVersion):
		return v, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", requested, MinVersion))
	case MaxVersion.Less(v):
		return v, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"client version %s is too new. Maximum supported API version is %s", requested, MaxVersion))
	}
	return v, nil
}
