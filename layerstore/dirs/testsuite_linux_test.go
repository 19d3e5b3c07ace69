package dirs

import (
	"context"
	"os"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
)

// TestContainerdSuite is containerd's own suite for snapshotters. It mounts, which
// only Linux can with our mounts; the tests beside it look at the directories.
func TestContainerdSuite(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	testsuite.SnapshotterSuite(t, "dirs", func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		s, err := New(ctx, root, nil)
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	})
}
