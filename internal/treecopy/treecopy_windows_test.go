package treecopy

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// A link that the system only claims to have made is an error that says so, and
// leaves nothing.
func TestLinkIsReadBack(t *testing.T) {
	at := filepath.Join(t.TempDir(), "link")
	err := Link(`target`, at)
	if err == nil {
		if got, err := os.Readlink(at); err != nil || got != "target" {
			t.Errorf("the link leads to %q, %v", got, err)
		}
		return
	}
	if !errdefs.IsNotImplemented(err) && !errors.Is(err, windows.ERROR_PRIVILEGE_NOT_HELD) {
		t.Error(err)
	}
	if _, err := os.Lstat(at); err == nil {
		t.Error("something was left")
	}
}

// A file that somebody has open without sharing it cannot be copied, and the error
// says what to do.
func TestCopyOfFileInUse(t *testing.T) {
	dir := t.TempDir()
	path := write(t, []byte("x"), dir, "src", "held")
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Copy(t.Context(), Probe(dir), filepath.Join(dir, "dst"), filepath.Join(dir, "src"))
	if err := windows.CloseHandle(h); err != nil {
		t.Fatal(err)
	}
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
}
