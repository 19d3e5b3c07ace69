// Package fromhost makes container images from software that is installed on this machine, so that a machine without
// a registry has a database to start with.
//
// An image holds a package, the closure of the packages that it needs, and a few generated files (an entrypoint, a
// minimal /etc/passwd). Of the packages go in only files that the package manager lists and whose content has the
// listed checksum: nothing that was configured, created or changed on this machine gets into an image. Symbolic
// links and directories have no checksums; they go in as listed.
//
// What a server in a container has no use for is left out by rule ([leftOut], [leftOutPaths]): documentation, translations,
// and packages that only configure a whole machine (debconf, init scripts, the package manager itself).
//
// An image is a pure function of the packages: the same versions give the same digest on every machine. It is written as an
// archive that is an OCI layout and a docker save archive at the same time, in one stream of constant memory.
//
// The package reads the dpkg database of Debian and its derivatives. It takes no locks.
//
// On Windows it reads what installers record in the registry, and looks whether the files are there. An image of an
// installed PostgreSQL has no programs in it: its containers run those that are installed.
package fromhost

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Found is something on this machine that an image can be made of.
type Found struct {
	// Name is what [Build] takes.
	Name string `json:"name"`
	// Version is the software's own.
	Version string `json:"version"`
	// Package is the package that holds it, with its version; on Windows its name in the registry, its edition or the like.
	Package string `json:"package"`
	// Tag is the name that the image gets by default; empty if no image can be made of it.
	Tag string `json:"tag,omitempty"`
	// Path is the directory that it is installed in, on Windows.
	Path string `json:"path,omitempty"`
	// Note says what there is to know, such as why no image can be made of it.
	Note string `json:"note,omitempty"`
}

// Config says where to look and how to report.
type Config struct {
	// Root is the machine's root directory; empty is "/".
	Root string
}

// Host is a machine's installed software.
type Host struct {
	root    string
	db      *packageDB
	windows *windowsHost // in place of the others
}

// Open reads the package manager's database, on Windows the registry. On another system without a package manager that is
// known the error wraps errdefs.ErrNotImplemented.
func Open(c Config) (*Host, error) {
	if c.Root == "" {
		if w := thisWindows(); w != nil {
			return &Host{windows: w}, nil
		}
	}
	if c.Root == "" {
		c.Root = "/"
	}
	db, err := openPackageDB(c.Root)
	if err != nil {
		return nil, err
	}
	return &Host{root: c.Root, db: db}, nil
}

// List finds what images can be made of, newest version first, and on Windows also what containers can use without one.
func (h *Host) List() ([]Found, error) {
	if h.windows != nil {
		return h.windows.found()
	}
	var out []Found
	for _, v := range h.postgresVersions() {
		p := h.db.packages["postgresql-"+v]
		out = append(out, Found{
			Name: "postgresql-" + v, Version: upstream(p.version), Package: p.name + " " + p.version, Tag: "postgres:" + v,
		})
	}
	if p := h.db.packages[busyboxPackage]; p != nil {
		out = append(out, Found{
			Name: "busybox", Version: upstream(p.version), Package: p.name + " " + p.version, Tag: "busybox:latest",
		})
	}
	return out, nil
}

// upstream is the software's version in a package's: without epoch and revision.
func upstream(version string) string {
	if _, v, ok := strings.Cut(version, ":"); ok {
		version = v
	}
	if i := strings.LastIndexByte(version, '-'); i > 0 {
		version = version[:i]
	}
	return version
}

// Image is an image that can be written: its files are chosen and checked, not yet read into anything.
type Image struct {
	// Files are what goes in, sorted by path.
	Files []File
	// Changed are files of the packages that were left out because their content is not what the package
	// manager lists.
	Changed []string
	// Packages are the packages of which files went in, "name version", sorted.
	Packages []string

	name    reference.NamedTagged
	config  ocispec.ImageConfig
	created time.Time
	comment string
	windows bool // an image for Windows, whose layer has its files beneath Files/
}

// File is one entry of an image.
type File struct {
	// Path is absolute in the image.
	Path string `json:"path"`
	// Package is where it comes from; empty for a generated file.
	Package string `json:"package,omitempty"`
	// Mode is the type and the permissions as in tar and stat(2).
	Mode uint32 `json:"mode"`
	// Size in bytes.
	Size int64 `json:"size"`
	// Target of a symbolic link.
	Target string `json:"target,omitempty"`

	uid, gid int
	modified time.Time
	source   string // on this machine
	md5      string // that the source must have, in hexadecimal
	content  []byte // of a generated file, which has no source
}

// Size is the sum of the files' sizes.
func (im *Image) Size() int64 {
	var n int64
	for _, f := range im.Files {
		n += f.Size
	}
	return n
}

// Build chooses and checks the files of an image. The name is one that List gives, or just "postgresql" for the newest
// version. An empty tag is the default one.
func (h *Host) Build(ctx context.Context, name, tag string) (*Image, error) {
	if h.windows != nil {
		im, usual, err := h.windows.build(ctx, name)
		if err != nil {
			return nil, err
		}
		im.name, err = parseTag(cmp.Or(tag, usual))
		return im, err
	}
	build, usual := h.busybox, "busybox:latest"
	if name != "busybox" {
		major, err := h.postgresVersion(name)
		if err != nil {
			return nil, err
		}
		build = func(ctx context.Context) (*Image, error) { return h.postgres(ctx, major) }
		usual = "postgres:" + major
	}
	named, err := parseTag(cmp.Or(tag, usual))
	if err != nil {
		return nil, err
	}
	im, err := build(ctx)
	if err != nil {
		return nil, err
	}
	im.name = named
	return im, nil
}
