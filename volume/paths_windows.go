package volume

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	mobymount "github.com/moby/moby/api/types/mount"

	"slipway/internal/winpath"
)

const (
	// hasMounts says that the system can show a directory in another place, with
	// options. Here it is placed there by its path or by a junction.
	hasMounts = false
	// defaultMode is what inspect shows of a volume that has no other.
	defaultMode = ""
)

// splitBind splits one of HostConfig.Binds.
func splitBind(raw string) []string { return winpath.SplitBind(raw) }

// isHostPath tells the source of a bind from the name of a volume.
func isHostPath(source string) bool { return winpath.IsAbs(source) }

// destinationOf returns the path of a mount in the container, such as C:\data.
func destinationOf(target string) (string, error) {
	if strings.HasPrefix(target, `\\.\pipe\`) || strings.HasPrefix(target, "//./pipe/") {
		return "", errdefs.ErrNotImplemented.WithMessage(target + ": pipes of the host need no mount: a container sees them all")
	}
	inside, err := winpath.Inside(target)
	if err != nil {
		return "", invalid("invalid mount path: '%s' mount path must be absolute: %s", target, err)
	}
	if inside == "." {
		return "", invalid(`destination path (%q) cannot be 'c:' or 'c:\'`, target)
	}
	return winpath.Absolute(inside), nil
}

// placeKey is the same for destinations that are the same place.
func placeKey(destination string) string { return winpath.Fold(destination) }

// honoured refuses what of a request this system cannot do.
func honoured(spec mobymount.Mount) error {
	switch {
	case spec.Type == mobymount.TypeTmpfs:
		return errdefs.ErrNotImplemented.WithMessage("Windows has no tmpfs: leave it out, or use a volume")
	case spec.ReadOnly:
		return readOnlyError()
	case spec.Type == mobymount.TypeBind && spec.BindOptions != nil && spec.BindOptions.Propagation != "":
		return invalid("invalid mode: %s: there is no propagation of mounts on Windows", spec.BindOptions.Propagation)
	}
	return nil
}

// readOnlyError says why a mount cannot be read-only, if so. A container's own
// identity may be kept from writing by access control, but two containers can have
// the same directory, one to read and one to write, and the same identity.
func readOnlyError() error {
	return fmt.Errorf("%w", errdefs.ErrNotImplemented.WithMessage(
		"read-only mounts are not possible on plain Windows yet: nothing would keep the container from writing there; leave out :ro"))
}
