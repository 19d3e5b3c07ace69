package volume

import (
	"path"
	"strings"

	mobymount "github.com/moby/moby/api/types/mount"
)

const (
	// hasMounts says that the system can show a directory in another place, with
	// options.
	hasMounts = true
	// defaultMode is what inspect shows of a volume that has no other.
	defaultMode = "z"
)

// splitBind splits one of HostConfig.Binds.
func splitBind(raw string) []string { return strings.SplitN(raw, ":", 4) }

// isHostPath tells the source of a bind from the name of a volume.
func isHostPath(source string) bool { return path.IsAbs(source) }

// destinationOf returns the path of a mount in the container.
func destinationOf(target string) (string, error) {
	destination := path.Clean(target)
	switch {
	case !path.IsAbs(target):
		return "", invalid("invalid mount path: '%s' mount path must be absolute", target)
	case destination == "/":
		return "", invalid("invalid specification: destination can't be '/'")
	}
	return destination, nil
}

// placeKey is the same for destinations that are the same place.
func placeKey(destination string) string { return destination }

// honoured refuses what of a request this system cannot do.
func honoured(mobymount.Mount) error { return nil }

// readOnlyError says why a mount cannot be read-only, if so.
func readOnlyError() error { return nil }
