package rootfs

// ExtractOptions says how Extract treats what is there already.
type ExtractOptions struct {
	// NoOverwriteDirNonDir refuses to replace a folder by something else and the other way round.
	NoOverwriteDirNonDir bool
	// Owner, if not nil, owns what is extracted, instead of the owners in the archive.
	Owner *Owner
}

// Mount is a directory of the host that a container sees at a path. It is for systems where nothing is mounted.
type Mount struct {
	Path, Source string
	ReadOnly     bool
}

// Owner is a numeric user and group.
type Owner struct{ UID, GID int }

// User is a user as a container's passwd and group files know it.
type User struct {
	UID, GID int
	Groups   []int // supplementary
	Home     string
}
