package fromhost

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // the checksum that dpkg keeps
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	typeMask = 0o170000
	typeFile = 0o100000
	typeDir  = 0o040000
	typeLink = 0o120000
)

// usrMerged are the top-level directories that are symbolic links into /usr on a merged system.
var usrMerged = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// tree collects the entries of an image.
type tree struct {
	host    *Host
	entries map[string]File
	merged  map[string]string // "/bin" to "/usr/bin", for those that are links on this machine
	changed []string
	newest  time.Time
}

func (h *Host) newTree() *tree {
	t := &tree{host: h, entries: map[string]File{}, merged: map[string]string{}}
	for _, name := range usrMerged {
		target, err := os.Readlink(filepath.Join(h.root, name))
		if err != nil || strings.TrimPrefix(target, "/") != "usr/"+name {
			continue
		}
		t.merged["/"+name] = "/usr/" + name
	}
	return t
}

// real is where a listed path lies on a merged system.
func (t *tree) real(p string) string {
	p = path.Clean("/" + p)
	top, rest, _ := strings.Cut(p[1:], "/")
	if to, ok := t.merged["/"+top]; ok {
		return path.Join(to, rest)
	}
	return p
}

// addPackage takes in the files of a package for which want is true.
func (t *tree) addPackage(ctx context.Context, p *debPackage, want func(string) bool) error {
	paths, sums, err := t.host.db.listed(p)
	if err != nil {
		return err
	}
	for _, listed := range paths {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := listed
		if d, ok := t.host.db.diverted[listed]; ok && d.by != p.name {
			name = d.to
		}
		if !want(t.real(name)) {
			continue
		}
		if err := t.addListed(p, name, sums[listed]); err != nil {
			return err
		}
	}
	return nil
}

// addListed takes in one path if what is there is what the package manager knows.
func (t *tree) addListed(p *debPackage, name, sum string) error {
	real := t.real(name)
	if _, merged := t.merged[name]; merged {
		real = path.Dir(real) // the listed directory is a link here; add makes the link
	}
	source := filepath.Join(t.host.root, filepath.FromSlash(real))
	f, err := statFile(source)
	if errors.Is(err, fs.ErrNotExist) {
		t.changed = append(t.changed, real)
		return nil
	}
	if err != nil {
		return err
	}
	f.Path, f.Package, f.source, f.md5 = real, p.name, source, sum
	switch f.Mode & typeMask {
	case typeDir:
		// Modes and times of directories and links are the machine's, so they are not taken over.
		f.Mode, f.Size, f.modified = typeDir|0o755, 0, time.Time{}
	case typeLink:
		if f.Target, err = os.Readlink(source); err != nil {
			return err
		}
		f.Mode, f.Size, f.modified = typeLink|0o777, 0, time.Time{}
	case typeFile:
		same, err := hasMD5(source, sum)
		if err != nil {
			return err
		}
		if !same {
			t.changed = append(t.changed, real)
			return nil
		}
	default:
		t.changed = append(t.changed, real)
		return nil
	}
	f.uid, f.gid = 0, staticGroup(f.gid)
	t.add(f)
	return nil
}

// hasMD5 compares a file's content with a checksum; without one it is false.
func hasMD5(file, sum string) (bool, error) {
	if sum == "" {
		return false, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	h := md5.New() //nolint:gosec // the checksum that dpkg keeps
	if _, err := io.Copy(h, f); err != nil {
		return false, err
	}
	return hex.EncodeToString(h.Sum(nil)) == sum, nil
}

// add takes in an entry. A package's directory never replaces an entry, anything else does.
func (t *tree) add(f File) {
	if _, ok := t.entries[f.Path]; ok && f.Package != "" && f.Mode&typeMask == typeDir {
		return
	}
	if f.modified.After(t.newest) && f.Package != "" {
		t.newest = f.modified
	}
	t.entries[f.Path] = f
}

func (t *tree) dir(p string, perm uint32, uid, gid int) {
	t.add(File{Path: t.real(p), Mode: typeDir | perm, uid: uid, gid: gid})
}

func (t *tree) symlink(p, target string) {
	t.add(File{Path: t.real(p), Mode: typeLink | 0o777, Target: target})
}

func (t *tree) file(p string, perm uint32, content []byte) {
	t.add(File{Path: t.real(p), Mode: typeFile | perm, Size: int64(len(content)), content: content})
}

// edit replaces the content of a file of a package.
func (t *tree) edit(p string, change func([]byte) []byte) error {
	f, ok := t.entries[p]
	if !ok {
		return fmt.Errorf("%s is missing, or not as the package manager lists it", p)
	}
	content, err := os.ReadFile(f.source)
	if err != nil {
		return err
	}
	f.content = change(bytes.Clone(content))
	f.Size, f.md5 = int64(len(f.content)), ""
	t.entries[p] = f
	return nil
}

// finish makes the list: every parent directory exists, generated entries have the packages' newest time, and what is sorted
// stays the same on every machine.
func (t *tree) finish() []File {
	for from, to := range t.merged {
		t.add(File{Path: from, Mode: typeLink | 0o777, Target: to[1:]})
		t.dir(to, 0o755, 0, 0)
	}
	for p := range t.entries {
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			if _, ok := t.entries[dir]; !ok {
				t.add(File{Path: dir, Mode: typeDir | 0o755})
			}
		}
	}
	files := make([]File, 0, len(t.entries))
	for _, f := range t.entries {
		if f.modified.IsZero() {
			f.modified = t.newest
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	slices.Sort(t.changed)
	return files
}
