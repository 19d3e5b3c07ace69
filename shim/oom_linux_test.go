package shim

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func TestOOMKills(t *testing.T) {
	for name, tc := range map[string]struct {
		file, content string
		want          int
	}{
		"version 1": {"memory/slipway/x/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3},
		"version 2": {"slipway/x/memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			file := filepath.Join(root, tc.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := oomKills(root, "/slipway/x"); err != nil || got != tc.want {
				t.Errorf("%d, %v; want %d", got, err, tc.want)
			}
			if _, err := oomKills(root, "/slipway/y"); !errdefs.IsNotFound(err) {
				t.Errorf("no group: %v", err)
			}
		})
	}
}
