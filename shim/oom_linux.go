package shim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// OOMKills returns how many processes of a control group the kernel has killed
// for want of memory. It is errdefs.ErrNotFound if there is no such group, or
// none that counts them.
func (d *Drivers) OOMKills(cgroup string) (int, error) {
	return oomKills(cgroupRoot, cgroup)
}

// oomKills reads the counter "oom_kill" of version 1's memory.oom_control (Linux
// 4.13 and later) or version 2's memory.events.
func oomKills(root, cgroup string) (int, error) {
	cgroup = filepath.Join("/", cgroup)
	for _, file := range []string{
		filepath.Join(root, "memory", cgroup, "memory.oom_control"),
		filepath.Join(root, cgroup, "memory.events"),
	} {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			if count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
				return strconv.Atoi(count)
			}
		}
	}
	return 0, fmt.Errorf("control group %s with a count of out-of-memory kills: %w", cgroup, errdefs.ErrNotFound)
}
