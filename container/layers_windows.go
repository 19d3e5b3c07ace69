package container

const detach = 0

// isMountPoint is false on Windows, where a root is a directory.
func isMountPoint(string) (bool, error) { return false, nil }
