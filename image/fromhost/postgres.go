package fromhost

import (
	"context"
	_ "embed"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	postgresUID  = 999 // the official image's, so that volumes can go from one to the other
	postgresData = "/var/lib/postgresql/data"
	entrypoint   = "/usr/local/bin/docker-entrypoint.sh"
)

//go:embed postgres-entrypoint.sh
var postgresEntrypoint []byte

// postgresTools are what the entrypoint, its users' scripts and docker exec need beside the server.
var postgresTools = []string{
	"base-files", "bash", "coreutils", "dash", "findutils", "grep", "gzip", "libc-bin", "sed", "tzdata", "util-linux",
}

// postgresExtras go in if they are installed: they unpack compressed initialisation scripts.
var postgresExtras = []string{"xz-utils", "zstd"}

// postgresVersions are the installed major versions, newest first.
func (h *Host) postgresVersions() []string {
	var out []int
	for name := range h.db.packages {
		if v, ok := strings.CutPrefix(name, "postgresql-"); ok {
			if n, err := strconv.Atoi(v); err == nil {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	versions := make([]string, len(out))
	for i, n := range out {
		versions[i] = strconv.Itoa(n)
	}
	return versions
}

// postgresVersion finds the major version that a name means.
func (h *Host) postgresVersion(name string) (string, error) {
	versions := h.postgresVersions()
	major, one := strings.CutPrefix(name, "postgresql-")
	switch {
	case !one && name != "postgresql" && name != "postgres":
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"%q is nothing that an image can be made of; without a name, from-host lists what is there", name))
	case len(versions) == 0:
		return "", errdefs.ErrNotFound.WithMessage("PostgreSQL is not installed on this machine; " +
			"install it with: apt-get install postgresql")
	case !one:
		return versions[0], nil
	case !slices.Contains(versions, major):
		return "", errdefs.ErrNotFound.WithMessage(fmt.Sprintf("PostgreSQL %s is not installed on this machine "+
			"(installed: %s); install it with: apt-get install postgresql-%[1]s", major, strings.Join(versions, ", ")))
	}
	return major, nil
}

// postgres makes an image of one major version with the conventions of the official image.
func (h *Host) postgres(ctx context.Context, major string) (*Image, error) {
	server := "postgresql-" + major
	seeds := append([]string{server}, postgresTools...)
	for _, name := range postgresExtras {
		if h.db.packages[name] != nil {
			seeds = append(seeds, name)
		}
	}
	packages, err := h.db.closure(seeds...)
	if err != nil {
		return nil, err
	}
	t := h.newTree()
	for _, p := range packages {
		if err := t.addPackage(ctx, p, wanted); err != nil {
			return nil, err
		}
	}
	if err := h.postgresFiles(t, major); err != nil {
		return nil, err
	}
	return t.image(packages, postgresConfig(major, upstream(h.db.packages[server].version))), nil
}

// postgresFiles adds what no package holds.
func (h *Host) postgresFiles(t *tree, major string) error {
	bin := "/usr/lib/postgresql/" + major + "/bin"
	for p := range t.entries {
		// Debian has its cluster manager's wrapper there.
		if path.Dir(p) == bin && t.entries["/usr/bin/"+path.Base(p)].Path == "" {
			t.symlink("/usr/bin/"+path.Base(p), "../lib/postgresql/"+major+"/bin/"+path.Base(p))
		}
	}
	for _, need := range []string{bin + "/postgres", bin + "/initdb", bin + "/psql"} {
		if t.entries[need].Path == "" {
			return fmt.Errorf("%s is missing, or not as the package manager lists it", need)
		}
	}
	n, _ := strconv.Atoi(major)
	sample := "/usr/share/postgresql/" + major + "/postgresql.conf.sample"
	err := t.edit(sample, func(content []byte) []byte {
		content = append(content, "\n# Added for containers\nlisten_addresses = '*'\n"...)
		if n >= 14 {
			// One call in place of opening every file: a clone's recovery would otherwise copy each of them up.
			content = append(content, "recovery_init_sync_method = syncfs\n"...)
		}
		return content
	})
	if err != nil {
		return err
	}
	t.skeleton("/bin/bash", "postgres:*:999:999:PostgreSQL administrator:/var/lib/postgresql:/bin/bash\n", "postgres:*:999:\n")
	t.file(entrypoint, 0o755, postgresEntrypoint)
	t.dir("/docker-entrypoint-initdb.d", 0o755, 0, 0)
	t.dir("/run/postgresql", 0o3777, postgresUID, postgresUID)
	t.dir("/var/lib/postgresql", 0o1777, postgresUID, postgresUID)
	t.dir(postgresData, 0o1777, postgresUID, postgresUID)
	return nil
}

// skeleton adds the directories and account files that every image has.
func (t *tree) skeleton(shell, passwd, group string) {
	for _, d := range []string{"/dev", "/etc", "/home", "/proc", "/run", "/run/lock", "/sys", "/var"} {
		t.dir(d, 0o755, 0, 0)
	}
	t.dir("/root", 0o700, 0, 0)
	t.dir("/tmp", 0o1777, 0, 0)
	t.dir("/var/tmp", 0o1777, 0, 0)
	t.symlink("/var/run", "../run")
	t.symlink("/var/lock", "../run/lock")
	t.file("/etc/passwd", 0o644, []byte(fmt.Sprintf(basePasswd, shell)+passwd))
	t.file("/etc/group", 0o644, []byte(baseGroup+group))
}

func postgresConfig(major, version string) ocispec.ImageConfig {
	return ocispec.ImageConfig{
		Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/" + major + "/bin",
			"LANG=C.UTF-8",
			"PG_MAJOR=" + major,
			"PG_VERSION=" + version,
			"PGDATA=" + postgresData,
		},
		Entrypoint:   []string{"docker-entrypoint.sh"},
		Cmd:          []string{"postgres"},
		Volumes:      map[string]struct{}{postgresData: {}},
		ExposedPorts: map[string]struct{}{"5432/tcp": {}},
		StopSignal:   "SIGINT",
		Labels:       map[string]string{"io.slipway.database": "postgres"},
	}
}
