package container

import (
	"errors"
	"os"
	"path/filepath"

	"slipway/container/rootfs"
	"slipway/shim"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ownFiles are the container's files that the engine writes and mounts.
var ownFiles = []string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}

// writeFiles writes /etc/hostname, /etc/hosts and /etc/resolv.conf of the
// container and returns their mounts. What the user mounts there wins.
func (m *Manager) writeFiles(r *Record) ([]specs.Mount, error) {
	hosts, err := m.hosts(r, nil)
	if err != nil {
		return nil, err
	}
	resolv, err := m.resolvConf(r)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(m.resolvHash(r.ID), hashOf(resolv), 0o600); err != nil {
		return nil, err
	}
	var mounts []specs.Mount
	for name, content := range map[string][]byte{"hostname": []byte(r.Config.Hostname + "\n"), "hosts": hosts, "resolv.conf": resolv} {
		path := filepath.Join(m.dir(r.ID), name)
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // every user of the container reads them
			return nil, err
		}
		target := "/etc/" + name
		if mountedAt(r, target) {
			continue
		}
		mounts = append(mounts, specs.Mount{Destination: target, Type: "bind", Source: path, Options: []string{"rbind", "rprivate"}})
	}
	return mounts, nil
}

func mountedAt(r *Record, target string) bool {
	for _, mount := range r.Mounts {
		if mount.Destination == target {
			return true
		}
	}
	return false
}

// resolveUser finds the numbers of the container's user and groups in its own
// files, whose root is mounted at root.
func (m *Manager) resolveUser(r *Record, root string) (user shim.User, err error) {
	return lookup(root, r.Config.User, r.HostConfig.GroupAdd)
}

// lookupUser is resolveUser for a container whose root is mounted.
func (m *Manager) lookupUser(id, spec string, groups []string) (shim.User, error) {
	return lookup(m.layers.path(id), spec, groups)
}

func lookup(root, spec string, groups []string) (_ shim.User, err error) {
	dir, err := rootfs.Open(root)
	if err != nil {
		return shim.User{}, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	found, err := dir.LookupUser(spec, groups)
	if err != nil {
		return shim.User{}, err
	}
	user := shim.User{UID: uint32(found.UID), GID: uint32(found.GID)} //nolint:gosec // ids are checked by the look-up
	for _, gid := range found.Groups {
		user.AdditionalGIDs = append(user.AdditionalGIDs, uint32(gid)) //nolint:gosec // likewise
	}
	return user, nil
}
