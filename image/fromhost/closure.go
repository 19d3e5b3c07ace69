package fromhost

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// leftOut are packages that are not followed: they configure a whole machine, or are used only while packages
// are installed. A server in a container runs without them.
var leftOut = map[string]string{
	"adduser":                  "creates users at installation",
	"debconf":                  "asks questions at installation",
	"dpkg":                     "the package manager",
	"init-system-helpers":      "init scripts",
	"install-info":             "documentation",
	"libpam-runtime":           "configuration of logins",
	"locales":                  "sources of locales; C.UTF-8 comes with the C library",
	"locales-all":              "locales; C.UTF-8 comes with the C library",
	"logrotate":                "a container logs to its output",
	"lsb-base":                 "init scripts",
	"mawk":                     "not used by the server",
	"perl":                     "used by Debian's cluster manager only",
	"perl-base":                "used by Debian's cluster manager only",
	"postgresql-client-common": "Debian's wrappers around the clients of several versions",
	"postgresql-common":        "Debian's cluster manager",
	"readline-common":          "key bindings",
	"sensible-utils":           "picks editors",
	"ssl-cert":                 "a key of this machine",
	"systemd":                  "the init system",
	"sysvinit-utils":           "init scripts",
	"tar":                      "used by the package manager",
	"ucf":                      "keeps changed configuration",
	"util-linux-extra":         "tools for terminals and clocks",
}

// leftOutPaths are parts of packages that are left out, with the copyright files excepted.
var leftOutPaths = []string{
	"/etc/cron.", "/etc/default/", "/etc/init.d/", "/etc/logrotate.d/", "/etc/pam.d/", "/etc/security/",
	"/etc/skel/", "/etc/update-motd.d/", "/etc/motd", "/etc/issue", "/etc/host.conf",
	"/usr/lib/systemd/", "/usr/lib/sysusers.d/", "/usr/lib/tmpfiles.d/", "/usr/lib/udev/",
	"/usr/share/applications/", "/usr/share/bash-completion/", "/usr/share/bug/", "/usr/share/debianutils/",
	"/usr/share/doc/", "/usr/share/doc-base/", "/usr/share/gdb/", "/usr/share/info/", "/usr/share/initramfs-tools/",
	"/usr/share/lintian/", "/usr/share/locale/", "/usr/share/man/", "/usr/share/menu/", "/usr/share/pixmaps/",
	"/usr/share/reportbug/", "/usr/share/postgresql-common/",
}

// wanted applies the path rules to a path of a package.
func wanted(path string) bool {
	if strings.HasPrefix(path, "/usr/share/doc/") && strings.HasSuffix(path, "/copyright") {
		return true
	}
	return !slices.ContainsFunc(leftOutPaths, func(p string) bool {
		return strings.HasPrefix(path, p) || path == strings.TrimSuffix(p, "/")
	})
}

// closure follows the dependencies of packages. A dependency with alternatives is met by the first that is
// installed. The result is sorted by name.
func (db *packageDB) closure(names ...string) ([]*debPackage, error) {
	seen := map[string]*debPackage{}
	for queue := names; len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if _, ok := seen[name]; ok {
			continue
		}
		p := db.packages[name]
		if p == nil {
			return nil, fmt.Errorf("package %s is not installed", name)
		}
		seen[name] = p
		for _, dep := range p.depends {
			next, skip := db.resolve(dep)
			if next == "" && !skip {
				return nil, fmt.Errorf("package %s needs %s, which is not installed", name, dep)
			}
			if !skip {
				queue = append(queue, next)
			}
		}
	}
	return slices.SortedFunc(maps.Values(seen), func(a, b *debPackage) int { return strings.Compare(a.name, b.name) }), nil
}

// resolve finds the installed package that meets a dependency; skip says that it is one that is left out.
func (db *packageDB) resolve(dep string) (name string, skip bool) {
	for alternative := range strings.SplitSeq(dep, "|") {
		bare := bareName(alternative)
		if _, out := leftOut[bare]; out {
			skip = true
			continue
		}
		candidates := append([]string{bare}, db.providers[bare]...)
		for _, c := range candidates {
			if db.packages[c] == nil {
				continue
			}
			if _, out := leftOut[c]; out {
				skip = true
				continue
			}
			return c, false
		}
	}
	return "", skip
}
