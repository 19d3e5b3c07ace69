//go:build linux

package fromhost

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// build makes an image of this machine, or skips the test where the software is not installed.
func build(t *testing.T, name, tag string) *Image {
	t.Helper()
	host, err := Open(Config{})
	if err != nil {
		t.Skip("needs a dpkg database:", err)
	}
	im, err := host.Build(t.Context(), name, tag)
	if errdefs.IsNotFound(err) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// TestArchive reads an archive as both of its formats, and writes it twice.
func TestArchive(t *testing.T) {
	for name, tag := range map[string]string{"busybox": "", "postgresql": "registry.example:5000/a/b:x"} {
		t.Run(name, func(t *testing.T) {
			im := build(t, name, tag)
			hash, blobs := sha(t, im), map[string]digest.Digest{}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, w := io.Pipe()
			written := make(chan error, 1)
			var last, total int64
			go func() {
				err := im.WriteTo(t.Context(), w, func(d, n int64) { last, total = d, n })
				written <- errors.Join(err, w.CloseWithError(err))
			}()
			again := digest.SHA256.Digester()
			small := map[string][]byte{}
			archive := tar.NewReader(io.TeeReader(r, again.Hash()))
			for {
				h, err := archive.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				sum := digest.SHA256.Digester()
				var keep bytes.Buffer
				if _, err := io.Copy(io.MultiWriter(sum.Hash(), &limited{&keep, 1 << 20}), archive); err != nil {
					t.Fatal(err)
				}
				blobs[h.Name], small[h.Name] = sum.Digest(), keep.Bytes()
			}
			if _, err := io.Copy(io.Discard, io.TeeReader(r, again.Hash())); err != nil {
				t.Fatal(err)
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("%d MiB were allocated", used>>20)
			}
			if again.Digest() != hash {
				t.Error("two archives of one image differ")
			}
			if last != total || total != 2*im.Size() {
				t.Errorf("progress ended at %d of %d", last, total)
			}
			for name, sum := range blobs {
				if dir, file := path.Split(name); dir == "blobs/sha256/" && file != sum.Encoded() {
					t.Errorf("%s has digest %s", name, sum)
				}
			}
			var index ocispec.Index
			var manifest ocispec.Manifest
			var config ocispec.Image
			unmarshal(t, small["index.json"], &index)
			unmarshal(t, small[blobPath(index.Manifests[0].Digest)], &manifest)
			unmarshal(t, small[blobPath(manifest.Config.Digest)], &config)
			if _, ok := blobs[blobPath(manifest.Layers[0].Digest)]; !ok || config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest {
				t.Error("the layer is not what the manifest and the configuration say")
			}
			full := index.Manifests[0].Annotations["io.containerd.image.name"]
			var docker []struct{ RepoTags []string }
			unmarshal(t, small["manifest.json"], &docker)
			if tag != "" && (full != tag || docker[0].RepoTags[0] != tag) || tag == "" && full != "docker.io/library/busybox:latest" {
				t.Errorf("names %q and %q", full, docker[0].RepoTags)
			}
		})
	}
}

// limited keeps the beginning of what is written.
type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.n)
	l.n -= n
	_, err := l.w.Write(p[:n])
	return len(p), err
}

func sha(t *testing.T, im *Image) digest.Digest {
	t.Helper()
	d := digest.SHA256.Digester()
	if err := im.WriteTo(t.Context(), d.Hash(), nil); err != nil {
		t.Fatal(err)
	}
	return d.Digest()
}

func unmarshal(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// TestPostgresIsComplete looks for the libraries of every program, and for what must not be there.
func TestPostgresIsComplete(t *testing.T) {
	im := build(t, "postgresql", "")
	files := map[string]bool{}
	for _, f := range im.Files {
		files[f.Path] = true
	}
	programs := 0
	for _, f := range im.Files {
		if f.source == "" || f.Mode&typeMask != typeFile {
			continue
		}
		e, err := elf.Open(f.source)
		if err != nil {
			continue // a script or data
		}
		needed, err := e.ImportedLibraries()
		e.Close()
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
		programs++
		for _, lib := range needed {
			found := files[path.Join(path.Dir(f.Path), lib)] || files["/usr/lib/"+lib] || files["/usr/lib64/"+lib]
			for _, arch := range []string{"x86_64-linux-gnu", "aarch64-linux-gnu"} {
				found = found || files["/usr/lib/"+arch+"/"+lib]
			}
			if !found {
				t.Errorf("%s needs %s, which is not in the image", f.Path, lib)
			}
		}
	}
	if programs < 100 {
		t.Errorf("only %d programs and libraries", programs)
	}
	for _, p := range []string{"/etc/machine-id", "/etc/shadow", "/etc/ssl/private", "/etc/hostname", "/etc/postgresql", "/var/lib/dpkg/status", "/usr/bin/perl"} {
		if files[p] {
			t.Errorf("%s is in the image", p)
		}
	}
	for _, p := range []string{"/usr/bin/psql", "/usr/bin/pg_amcheck", "/usr/bin/pgbench", "/usr/bin/setpriv", "/usr/lib/locale/C.utf8/LC_CTYPE", "/usr/share/zoneinfo/Europe/Paris", "/usr/share/doc/libc6/copyright"} {
		if !files[p] {
			t.Errorf("%s is not in the image", p)
		}
	}
}

// chroot is an unpacked image in which commands are run.
type chroot struct {
	dir string
	env []string
}

func unpack(t *testing.T, im *Image) *chroot {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to run the image in a chroot")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "-C", dir, "--numeric-owner", "-xp")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(im.writeLayer(t.Context(), in, &counter{}), in.Close(), cmd.Wait())
	if err != nil {
		t.Fatal(err)
	}
	return &chroot{dir: dir, env: im.config.Env}
}

// run runs a command line in namespaces of its own, in which nothing survives it.
func (c *chroot) run(t *testing.T, script string, env ...string) (string, error) {
	t.Helper()
	const setup = `cd "$1" && mount -t tmpfs t dev && mknod -m 666 dev/null c 1 3 && mknod -m 666 dev/urandom c 1 9 && mkdir -m 1777 dev/shm && mount -t proc p proc && shift && exec "$@"`
	args := append([]string{"-m", "-p", "-f", "--kill-child", "sh", "-ec", setup, "sh", c.dir, "chroot", c.dir, "env", "-i"}, c.env...)
	args = append(append(args, env...), "sh", "-c", script)
	cmd := exec.CommandContext(t.Context(), "unshare", args...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The server is process 1 and runs until the script has asked it enough.
const serverScript = `[ $# -gt 0 ] || set -- postgres -c max_connections=33
( for i in $(seq 300); do psql -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c 'select 1' >/dev/null 2>&1 && break; sleep 0.1; done
  sh -ec "$PROBE"; echo "probe: $?"; kill -INT 1 ) &
exec docker-entrypoint.sh "$@"
`

func TestPostgresRuns(t *testing.T) {
	c := unpack(t, build(t, "postgresql", ""))
	for name, text := range map[string]string{
		"1.sql": "CREATE TABLE one (a int); INSERT INTO one VALUES (42);",
		"2.sh":  "#!/bin/bash\nset -e\npsql -v ON_ERROR_STOP=1 --username \"$POSTGRES_USER\" --dbname \"$POSTGRES_DB\" <<-EOSQL\n\tCREATE TABLE two (a int);\nEOSQL\n[[ $(id -un) == postgres ]]\n",
		"3.sh":  "echo sourced by $0 >/tmp/sourced\n",
		"4.txt": "not a script",
	} {
		mode := os.FileMode(0o644)
		if name == "2.sh" {
			mode = 0o755
		}
		file := filepath.Join(c.dir, "docker-entrypoint-initdb.d", name)
		if err := errors.Join(os.WriteFile(file, []byte(text), mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	gz := exec.CommandContext(t.Context(), "sh", "-c", "echo 'CREATE TABLE three (a int);' | gzip >"+c.dir+"/docker-entrypoint-initdb.d/5.sql.gz")
	if err := gz.Run(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.dir+"/tmp/password", []byte("it's\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"POSTGRES_PASSWORD_FILE=/tmp/password", "POSTGRES_USER=o-dd x", `POSTGRES_DB=my "db' \$x`, "POSTGRES_INITDB_ARGS=--data-checksums --text-search-config='simple'"}
	out, err := c.run(t, serverScript, append(env, `PROBE=
		q() { psql -U "o-dd x" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -XAtc "$1"; }
		test "$(q 'select a from one, pg_settings where name = $$max_connections$$ and setting = $$33$$')" = 42
		q 'select * from two, three'; test -s /tmp/sourced
		test "$(q 'show data_checksums')" = on
		test "$(q 'show recovery_init_sync_method')" = syncfs
		q "select now() at time zone 'Europe/Paris'"
		q 'create extension pg_trgm; create extension amcheck; create extension pgcrypto; create extension "uuid-ossp"; create extension xml2'
		q 'set jit_above_cost = 0; select pg_jit_available()'
		pgbench -U "o-dd x" -i -q "$POSTGRES_DB" 2>/dev/null; pgbench -U "o-dd x" -T 1 "$POSTGRES_DB" | grep tps
		pg_amcheck -U "o-dd x" "$POSTGRES_DB"
		pg_dump -U "o-dd x" "$POSTGRES_DB" | grep -q "CREATE TABLE public.pgbench_accounts"
		test "$(stat -c %U:%a $PGDATA)" = postgres:700
		test "$(stat -c %u /proc/1)" = 999
		grep -q "host all all all scram-sha-256" $PGDATA/pg_hba.conf`)...)
	if !strings.Contains(out, "probe: 0") || !strings.Contains(out, "ignoring /docker-entrypoint-initdb.d/4.txt") {
		t.Fatalf("%v\n%s", err, out)
	}
	// The second start initialises nothing, and hides the password from the server.
	out, err = c.run(t, "set -- -c max_connections=34\n"+serverScript, append(env[1:], "POSTGRES_PASSWORD=visible", `PROBE=
		test "$(psql -U "o-dd x" -d "$POSTGRES_DB" -XAtc 'select a from one, pg_settings where name = $$max_connections$$ and setting = $$34$$')" = 42
		! grep -q "visi[b]le" /proc/1/environ`)...)
	if !strings.Contains(out, "probe: 0") || strings.Contains(out, "initialising") {
		t.Fatalf("second start: %v\n%s", err, out)
	}
}

func TestPostgresEntrypointRefuses(t *testing.T) {
	c := unpack(t, build(t, "postgresql", ""))
	for name, test := range map[string]struct {
		script string
		env    []string
		want   string
	}{
		"no password":   {"docker-entrypoint.sh postgres", nil, "docker run -e POSTGRES_PASSWORD="},
		"both":          {"docker-entrypoint.sh postgres", []string{"POSTGRES_PASSWORD=a", "POSTGRES_PASSWORD_FILE=/b"}, "both POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE"},
		"no such file":  {"docker-entrypoint.sh postgres", []string{"POSTGRES_PASSWORD_FILE=/b"}, "cannot read POSTGRES_PASSWORD_FILE"},
		"bad arguments": {"docker-entrypoint.sh postgres", []string{"POSTGRES_PASSWORD=a", "POSTGRES_INITDB_ARGS=--nonsense"}, "initdb failed"},
	} {
		if out, err := c.run(t, test.script, test.env...); err == nil || !strings.Contains(out, test.want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	for script, want := range map[string]string{
		"docker-entrypoint.sh postgres --version": "postgres (PostgreSQL)", "docker-entrypoint.sh -V": "postgres (PostgreSQL)",
		"docker-entrypoint.sh id -un": "root",
	} {
		if out, err := c.run(t, script); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

func TestBusyboxRuns(t *testing.T) {
	c := unpack(t, build(t, "busybox", ""))
	out, err := c.run(t, "id -un; ls / | head -1; awk 'BEGIN { print 6 * 7 }'; readlink -f /usr/bin/awk")
	if err != nil || out != "root\nbin\n42\n/bin/busybox\n" {
		t.Errorf("%v: %q", err, out)
	}
}
