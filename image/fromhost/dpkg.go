package fromhost

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// dpkgDir is where dpkg keeps its database.
const dpkgDir = "var/lib/dpkg"

// packageDB is dpkg's database of installed packages.
type packageDB struct {
	root      string
	packages  map[string]*debPackage
	providers map[string][]string // virtual package to the packages that provide it, in the database's order
	diverted  map[string]diversion
}

// debPackage is one installed package.
type debPackage struct {
	name, version, arch string
	multiArch           bool
	depends             []string // Pre-Depends and Depends: one entry a comma, alternatives still in it
	conffiles           map[string]string
	status              string // the paragraph as it stands in the database
}

// diversion says that a path of every package but one is installed under another name.
type diversion struct{ to, by string }

func openPackageDB(root string) (*packageDB, error) {
	db := &packageDB{root: root, packages: map[string]*debPackage{}, providers: map[string][]string{}}
	data, err := os.ReadFile(filepath.Join(root, dpkgDir, "status"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.ErrNotImplemented.WithMessage("this machine has no dpkg database; " +
			"images can be made from the packages of Debian and its derivatives only")
	}
	if err != nil {
		return nil, err
	}
	for paragraph := range strings.SplitSeq(string(data), "\n\n") {
		db.add(paragraph)
	}
	db.diverted, err = readDiversions(filepath.Join(root, dpkgDir, "diversions"))
	return db, err
}

// add takes in one paragraph of the status file if its package is installed.
func (db *packageDB) add(paragraph string) {
	f := fields(paragraph)
	if !strings.HasSuffix(f["Status"], " ok installed") || f["Package"] == "" {
		return
	}
	p := &debPackage{
		name: f["Package"], version: f["Version"], arch: f["Architecture"], multiArch: f["Multi-Arch"] == "same",
		conffiles: map[string]string{}, status: strings.TrimSpace(paragraph) + "\n",
	}
	if old := db.packages[p.name]; old != nil && old.arch == db.nativeArch() {
		return // of several architectures the machine's own counts
	}
	for _, list := range []string{f["Pre-Depends"], f["Depends"]} {
		for entry := range strings.SplitSeq(list, ",") {
			if entry = strings.TrimSpace(entry); entry != "" {
				p.depends = append(p.depends, entry)
			}
		}
	}
	for line := range strings.Lines(f["Conffiles"]) {
		if w := strings.Fields(line); len(w) == 2 { // a third word says that the package has it no more
			p.conffiles[w[0]] = w[1]
		}
	}
	for entry := range strings.SplitSeq(f["Provides"], ",") {
		if name := bareName(entry); name != "" {
			db.providers[name] = append(db.providers[name], p.name)
		}
	}
	db.packages[p.name] = p
}

// nativeArch is the architecture of dpkg itself.
func (db *packageDB) nativeArch() string {
	if p := db.packages["dpkg"]; p != nil {
		return p.arch
	}
	return ""
}

// fields splits a paragraph of a control file. Continuation lines belong to the field above.
func fields(paragraph string) map[string]string {
	out := map[string]string{}
	var key string
	for line := range strings.Lines(paragraph) {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			out[key] += line
			continue
		}
		k, v, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		key = k
		out[key] = strings.TrimSpace(v)
		if out[key] == "" {
			out[key] = "\n"
		}
	}
	return out
}

// bareName is a dependency's package: without version and architecture.
func bareName(dep string) string {
	name, _, _ := strings.Cut(strings.TrimSpace(dep), " ")
	name, _, _ = strings.Cut(name, "(")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// info reads one of a package's files in dpkg's info directory.
func (db *packageDB) info(p *debPackage, suffix string) ([]byte, error) {
	dir := filepath.Join(db.root, dpkgDir, "info")
	if p.multiArch {
		data, err := os.ReadFile(filepath.Join(dir, p.name+":"+p.arch+"."+suffix))
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	return os.ReadFile(filepath.Join(dir, p.name+"."+suffix))
}

// listed is a package's paths, and the checksums of those that are regular files (in hexadecimal).
func (db *packageDB) listed(p *debPackage) (paths []string, sums map[string]string, err error) {
	list, err := db.info(p, "list")
	if err != nil {
		return nil, nil, fmt.Errorf("package %s: %w", p.name, err)
	}
	for path := range strings.Lines(string(list)) {
		if path = strings.TrimSuffix(path, "\n"); path != "" && path != "/." {
			paths = append(paths, path)
		}
	}
	sums = map[string]string{}
	md5sums, err := db.info(p, "md5sums")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a package of links and directories has none
		return nil, nil, fmt.Errorf("package %s: %w", p.name, err)
	}
	for line := range strings.Lines(string(md5sums)) {
		if sum, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  "); ok {
			sums["/"+path] = sum
		}
	}
	maps.Copy(sums, p.conffiles)
	return paths, sums, nil
}

// readDiversions reads dpkg's list: three lines each, the path, its new name, and the package that keeps the path.
func readDiversions(file string) (map[string]diversion, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]diversion{}
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		path := s.Text()
		if !s.Scan() {
			break
		}
		to := s.Text()
		if !s.Scan() {
			break
		}
		out[path] = diversion{to: to, by: s.Text()}
	}
	return out, s.Err()
}

// record is the package's paragraph without what was configured on this machine.
func (p *debPackage) record() string {
	var b strings.Builder
	skip := false
	for line := range strings.Lines(p.status) {
		if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t") {
			skip = strings.HasPrefix(line, "Conffiles:") || strings.HasPrefix(line, "Config-Version:") || strings.HasPrefix(line, "Status:")
			if strings.HasPrefix(line, "Status:") {
				b.WriteString("Status: install ok installed\n")
			}
		}
		if !skip {
			b.WriteString(line)
		}
	}
	return b.String()
}
