package fromhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	busyboxPackage = "busybox-static"
	busyboxTime    = 10 * time.Second
)

// busybox makes the smallest useful image: one static program under the names of some 300.
func (h *Host) busybox(ctx context.Context) (*Image, error) {
	p := h.db.packages[busyboxPackage]
	if p == nil {
		return nil, errdefs.ErrNotFound.WithMessage("a static busybox is not installed on this machine; " +
			"install it with: apt-get install busybox-static")
	}
	t := h.newTree()
	clear(t.merged) // one file and links to it need no /usr
	program := "/bin/busybox"
	for _, name := range []string{program, "/usr" + program} { // where the package has it depends on the release
		if err := t.addPackage(ctx, p, func(listed string) bool { return listed == name }); err != nil {
			return nil, err
		}
		if f, ok := t.entries[name]; ok {
			delete(t.entries, name)
			f.Path = program
			t.entries[program] = f
		}
	}
	if t.entries[program].Path == "" {
		return nil, fmt.Errorf("the busybox of package %s is not as the package manager lists it", p.name)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, busyboxTime, errors.New("busybox did not answer"))
	defer cancel()
	// The program was just checked against the package's checksum.
	list, err := exec.CommandContext(ctx, filepath.Join(h.root, t.entries[program].source), "--list-full").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's applets: %w", err)
	}
	for applet := range bytes.Lines(list) {
		name := path.Clean("/" + strings.TrimSpace(string(applet)))
		if name != program && name != "/" {
			t.symlink(name, program)
		}
	}
	t.skeleton("/bin/sh", "", "")
	t.dir("/usr/sbin", 0o755, 0, 0)
	return t.image([]*debPackage{p}, ocispec.ImageConfig{
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Cmd: []string{"sh"},
	}), nil
}
