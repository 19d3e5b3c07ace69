package clonefstest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Entry is all that a clone must keep of one name. Comparing two trees'
// entries compares the trees.
type Entry struct {
	Mode     uint32
	UID, GID uint32
	Size     int64
	Mtime    unix.Timespec
	Rdev     uint64
	Link     string            // target of a symbolic link
	Sum      string            // content of a regular file
	Xattrs   map[string]string // all of them
	SameAs   string            // first name of the same inode, in order of names
	Sparse   bool              // a large file that takes less than half its size
}

// Scan reads a tree by paths below an open directory, so that depth has no limit.
func Scan(tb testing.TB, dir string) map[string]Entry {
	tb.Helper()
	s := &scanner{tb: tb, out: map[string]Entry{}, inodes: map[[2]uint64]string{}}
	root, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	defer unix.Close(root)
	s.entry(root, ".", ".")
	s.directory(root, "")
	return s.out
}

type scanner struct {
	tb     testing.TB
	out    map[string]Entry
	inodes map[[2]uint64]string
}

func (s *scanner) directory(fd int, prefix string) {
	s.tb.Helper()
	dup, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.tb.Fatal(err)
	}
	f := os.NewFile(uintptr(dup), prefix)
	names, err := f.Readdirnames(-1)
	_ = f.Close()
	if err != nil {
		s.tb.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		path := prefix + name
		if s.entry(fd, name, path)&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		sub, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			s.tb.Fatalf("%s: %v", path, err)
		}
		s.directory(sub, path+"/")
		_ = unix.Close(sub)
	}
}

func (s *scanner) entry(dir int, name, path string) uint32 {
	s.tb.Helper()
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		s.tb.Fatalf("%s: %v", path, err)
	}
	proc := fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
	e := Entry{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim, Rdev: st.Rdev, Xattrs: xattrs(s.tb, proc)}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR {
		e.Size = st.Size
		if kind != unix.S_IFCHR || st.Rdev != 0 {
			id := [2]uint64{st.Dev, st.Ino}
			if first, ok := s.inodes[id]; ok {
				e.SameAs = first
			} else {
				s.inodes[id] = path
			}
		}
	}
	switch kind {
	case unix.S_IFLNK:
		link, err := os.Readlink(proc)
		if err != nil {
			s.tb.Fatalf("%s: %v", path, err)
		}
		e.Link = link
	case unix.S_IFREG:
		content, err := os.ReadFile(proc)
		if err != nil {
			s.tb.Fatalf("%s: %v", path, err)
		}
		sum := sha256.Sum256(content)
		e.Sum = hex.EncodeToString(sum[:8])
		e.Sparse = st.Size > 1<<20 && st.Blocks*512 < st.Size/2
	}
	s.out[path] = e
	return st.Mode
}

func xattrs(tb testing.TB, path string) map[string]string {
	tb.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if errors.Is(err, unix.EOPNOTSUPP) || n == 0 {
		return nil
	}
	if err != nil {
		tb.Fatalf("list attributes of %s: %v", path, err)
	}
	out := map[string]string{}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimRight(string(buf[:n]), "\x00"), "\x00") {
		size, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			tb.Fatalf("attribute %s of %s: %v", name, path, err)
		}
		out[name] = string(value[:size])
	}
	return out
}

// capability is cap_net_bind_service=ep as the kernel stores it.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Plant fills an empty directory with every kind of file that a clone must
// keep. It returns the number of regular files, hard links not counted.
func Plant(tb testing.TB, dir string) int64 {
	tb.Helper()
	p := planter{tb, dir}
	p.files()
	p.sparse()
	p.links()
	p.nodes()
	p.inherited()
	old := []unix.Timespec{{Sec: 1, Nsec: 2}, {Sec: 1_000_000_000, Nsec: 123456789}}
	for _, name := range []string{"plain/small", "links/absolute", "nodes/fifo", "plain"} {
		p.must(unix.UtimesNanoAt(unix.AT_FDCWD, p.at(name), old, unix.AT_SYMLINK_NOFOLLOW))
	}
	p.must(unix.Chmod(dir, 0o751))
	p.must(unix.UtimesNanoAt(unix.AT_FDCWD, dir, old, 0))
	return 14
}

type planter struct {
	tb  testing.TB
	dir string
}

func (p planter) at(name string) string { return filepath.Join(p.dir, name) }

func (p planter) must(err error) {
	p.tb.Helper()
	if err != nil {
		p.tb.Fatal(err)
	}
}

func (p planter) file(name string, content []byte, mode uint32) {
	p.tb.Helper()
	p.must(os.WriteFile(p.at(name), content, 0o600))
	p.must(unix.Chmod(p.at(name), mode))
}

func (p planter) files() {
	p.must(os.MkdirAll(p.at("plain/inner"), 0o750))
	p.file("plain/empty", nil, 0o644)
	p.file("plain/small", []byte("small"), 0o640)
	p.file("plain/inner/page", Pattern(8192, 1), 0o600)
	p.file("plain/inner/odd", Pattern(3<<20+123, 2), 0o600)
	p.file("name \xff\xfe not utf-8\n", []byte("x"), 0o600)
	p.file(".hidden", []byte("x"), 0o400)
	p.file("suid", []byte("#!"), 0o600)
	p.must(os.Chown(p.at("suid"), 1000, 1001))
	p.must(unix.Chmod(p.at("suid"), 0o6755))
	p.file("capable", []byte("bin"), 0o755)
	p.must(unix.Setxattr(p.at("capable"), "security.capability", []byte(capability), 0))
	p.must(unix.Setxattr(p.at("plain/small"), "trusted.big", Pattern(1500, 5), 0))
}

func (p planter) sparse() {
	sparse := p.at("sparse")
	MakeSparse(p.tb, sparse, 64<<20)
	f, err := os.OpenFile(sparse, os.O_RDWR, 0)
	p.must(err)
	_, err = f.WriteAt(Pattern(8192, 3), 16<<20)
	p.must(errors.Join(err, f.Close()))
	MakeSparse(p.tb, p.at("all hole"), 5<<20+1)
	f, err = os.Create(p.at("preallocated"))
	p.must(err)
	p.must(unix.Fallocate(int(f.Fd()), 0, 0, 4<<20))
	_, err = f.WriteAt([]byte("in the middle"), 2<<20)
	p.must(errors.Join(err, f.Close()))
}

func (p planter) links() {
	p.must(os.MkdirAll(p.at("links/far/away"), 0o700))
	p.file("links/a", Pattern(2<<20, 4), 0o600)
	p.must(os.Link(p.at("links/a"), p.at("links/b")))
	p.must(os.Link(p.at("links/a"), p.at("links/far/away/c")))
	p.must(os.Symlink("../plain/small", p.at("links/symlink")))
	p.must(os.Symlink("/etc/passwd", p.at("links/absolute")))
	p.must(os.Symlink(strings.Repeat("long/", 200), p.at("links/long")))
	p.must(os.Lchown(p.at("links/symlink"), 12, 34))
	p.must(os.Link(p.at("links/symlink"), p.at("links/symlink2")))
	p.must(unix.Lsetxattr(p.at("links/symlink"), "trusted.onlink", []byte("v"), 0))
}

func (p planter) nodes() {
	p.must(os.Mkdir(p.at("nodes"), 0o700))
	p.must(unix.Mkfifo(p.at("nodes/fifo"), 0o622))
	p.must(unix.Mknod(p.at("nodes/socket"), unix.S_IFSOCK|0o777, 0))
	p.must(unix.Mknod(p.at("nodes/block"), unix.S_IFBLK|0o660, 7<<8|200))
	p.must(unix.Mknod(p.at("nodes/null"), unix.S_IFCHR|0o666, 1<<8|3))
	p.must(os.Mkdir(p.at("overlay"), 0o750))
	p.must(unix.Mknod(p.at("overlay/gone"), unix.S_IFCHR, 0))
	p.must(os.Link(p.at("overlay/gone"), p.at("overlay/gone too")))
	for name, value := range map[string]string{"trusted.overlay.opaque": "y", "trusted.overlay.origin": "\x00\xfb\x1d", "security.test": "v"} {
		p.must(unix.Lsetxattr(p.at("overlay"), name, []byte(value), 0))
	}
}

// inherited makes a directory that gives its group and access list to what is
// made in it: a clone must have the source's, not these.
func (p planter) inherited() {
	p.must(os.Mkdir(p.at("setgid"), 0o750))
	p.must(os.Chown(p.at("setgid"), 7, 8))
	p.must(unix.Chmod(p.at("setgid"), 0o3775))
	p.file("setgid/before", []byte("x"), 0o600)
	plantACL(p.tb, p.at("setgid"))
	p.file("setgid/child", []byte("x"), 0o600)
}

// plantACL gives a directory a default access list, which files made in it
// inherit: files of a clone must not.
func plantACL(tb testing.TB, dir string) {
	tb.Helper()
	const anyone = "\xff\xff\xff\xff"
	acl := "\x02\x00\x00\x00" +
		"\x01\x00\x07\x00" + anyone + // user::rwx
		"\x02\x00\x07\x00\x64\x00\x00\x00" + // user:100:rwx
		"\x04\x00\x05\x00" + anyone + // group::r-x
		"\x10\x00\x07\x00" + anyone + // mask::rwx
		"\x20\x00\x00\x00" + anyone // other::---
	err := unix.Setxattr(dir, "system.posix_acl_default", []byte(acl), 0)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		tb.Fatal(err)
	}
}

// Pattern returns bytes that differ from block to block and seed to seed.
func Pattern(n int, seed uint64) []byte {
	out := make([]byte, n)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range out {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		out[i] = byte(x & 0xff)
	}
	return out
}
