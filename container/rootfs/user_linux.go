package rootfs

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"
)

// maxUserFile bounds the passwd and group files that are read.
const maxUserFile = 16 << 20

// LookupUser resolves a user as in --user (name or number, with an optional group after a colon) and
// supplementary groups as in --group-add, by the passwd and group files beneath the root. A number needs
// no entry. With no groups given in spec, the user's own from the group file are among Groups.
func (r *Root) LookupUser(spec string, groups []string) (User, error) {
	passwd, err := r.userFile("/etc/passwd")
	if err != nil {
		return User{}, err
	}
	group, err := r.userFile("/etc/group")
	if err != nil {
		return User{}, err
	}
	u, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return User{}, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	result := User{UID: u.Uid, GID: u.Gid, Groups: u.Sgids, Home: u.Home}
	if len(groups) > 0 {
		extra, err := user.GetAdditionalGroups(groups, bytes.NewReader(group))
		if err != nil {
			return User{}, errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		result.Groups = append(result.Groups, extra...)
	}
	return result, nil
}

// userFile reads a file that an image need not have.
func (r *Root) userFile(name string) ([]byte, error) {
	b, err := r.ReadFile(name, maxUserFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// splitPath splits a clean absolute path into its folder and its last element.
func splitPath(abs string) (dir, base string) {
	return path.Split(strings.TrimRight(strings.TrimSuffix(abs, "/."), "/"))
}
