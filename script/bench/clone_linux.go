package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const dataPath = "/var/lib/postgresql/data" // in the container

// clones measures how long a clone takes to answer its first query, and what it adds to the pool, in turn with the
// same bytes started without any container.
func (d *database) clones(ctx context.Context) error {
	bare, err := d.prepareBare(ctx)
	if err != nil {
		return err
	}
	since := time.Now()
	var reply, plain, added series
	for i := range d.runs {
		before, err := d.poolUsed()
		if err != nil {
			return err
		}
		begin := time.Now()
		s, took, err := d.run(ctx, d.slipway, "clone-"+strconv.Itoa(i), d.image)
		if err == nil {
			err = s.await(ctx, factsSQL)
		}
		if err != nil {
			return err
		}
		d.query.addTime(time.Since(begin))
		reply.addTime(took)
		after, err := d.poolUsed()
		if err != nil {
			return err
		}
		added = append(added, float64(after-before))
		if _, _, err := d.slipway.docker(ctx, "rm", "-fv", s.container); err != nil {
			return err
		}
		took, err = bare.once(ctx)
		if err != nil {
			return err
		}
		plain.addTime(took)
	}
	if err := d.trace(ctx, d.name("docker run of a clone"), since, "POST /containers/create", "POST /containers/{name}/start"); err != nil {
		return err
	}
	// In pairs, since what else the machine does meets both of a pair alike.
	var pairs series
	for i := range plain {
		pairs = append(pairs, d.query[i]-plain[i])
	}
	above := pairs.median()
	d.report.add(d.name("clone: reply of docker run"), reply.String(), "")
	d.report.judge(d.name("clone: first query answered"), d.query.String(), "", fmt.Sprintf("≤ %d ms above bare, which takes %s; is %.0f in the median of pairs", aboveBare, plain, above), above <= aboveBare)
	d.report.judge(d.name("clone: bytes added to the pool up to then"), megabytes(added.median())+" (p99 "+megabytes(added.percentile(0.99))+")", "", "< 20 MB", added.median() < maxAdded)
	return bare.close()
}

func (d *database) pool() string { return filepath.Join(d.root, "slipway", "pool") }

// poolUsed are the bytes in use in the pool, as df shows them, when everything is written.
func (d *database) poolUsed() (int64, error) {
	unix.Sync()
	var st unix.Statfs_t
	if err := unix.Statfs(d.pool(), &st); err != nil {
		return 0, err
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize, nil //nolint:gosec // sizes of file systems fit
}

// bare is the database of the image, to be started by the host's own server on reflinks.
type bare struct {
	*database
	source string // the image's data directory
	dir    string // where copies lie: in the pool, and bound to where everybody may go
	owner  *syscall.Stat_t
}

// prepareBare finds the image's data directory by means of a clone that is started once.
func (d *database) prepareBare(ctx context.Context) (*bare, error) {
	s, _, err := d.run(ctx, d.slipway, "probe", d.image)
	if err != nil {
		return nil, err
	}
	if err := s.await(ctx, factsSQL); err != nil {
		return nil, err
	}
	source, err := d.imageData(ctx, s.container)
	if err != nil {
		return nil, err
	}
	if _, _, err := d.slipway.docker(ctx, "rm", "-fv", s.container); err != nil {
		return nil, err
	}
	b := &bare{database: d, source: source, dir: filepath.Join(d.root, "bare")}
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	b.owner = info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // so on Linux
	inPool := filepath.Join(d.pool(), "bench-bare")
	for _, dir := range []string{inPool, b.dir} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the server runs as another user
			return nil, err
		}
	}
	return b, unix.Mount(inPool, b.dir, "", unix.MS_BIND, "")
}

// imageData is the directory that holds the image's database: the lower directory of the clone's volume that has it.
func (d *database) imageData(ctx context.Context, container string) (string, error) {
	volume, _, err := d.slipway.docker(ctx, "inspect", "-f", `{{range .Mounts}}{{if eq .Destination "`+dataPath+`"}}{{.Name}}{{end}}{{end}}`, container)
	if err != nil {
		return "", err
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer mounts.Close()
	lines := bufio.NewScanner(mounts)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !strings.Contains(lines.Text(), "/volumes/"+volume+"/") {
			continue
		}
		for field := range strings.FieldsFuncSeq(lines.Text(), func(r rune) bool { return r == ',' || r == ' ' }) {
			list, ok := strings.CutPrefix(field, "lowerdir=")
			for dir := range strings.SplitSeq(list, ":") {
				if _, err := os.Stat(filepath.Join(dir, dataPath, "PG_VERSION")); ok && err == nil {
					return filepath.Join(dir, dataPath), nil
				}
			}
		}
	}
	return "", errors.Join(fmt.Errorf("the volume %q is no overlay with a database below it", volume), lines.Err())
}

// once starts a server on a fresh copy and returns how long it took to answer.
func (b *bare) once(ctx context.Context) (_ time.Duration, err error) {
	data := filepath.Join(b.dir, "data")
	if _, _, err := execute(exec.CommandContext(ctx, "cp", "-a", "--reflink=always", b.source, data)); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	if err := os.Remove(filepath.Join(data, "postmaster.pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	unix.Sync()
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.postgres, "postgres"), "-D", data, "-p", strconv.Itoa(port), "-k", data,
		"-c", "listen_addresses=127.0.0.1", "-c", "recovery_init_sync_method=syncfs", "-c", wal)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: b.owner.Uid, Gid: b.owner.Gid}}
	cmd.Dir = "/"
	s := server{container: "the bare server", port: port}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err = s.await(ctx, factsSQL)
	took := time.Since(begin)
	return took, errors.Join(err, cmd.Process.Signal(syscall.SIGINT), ignoreExit(cmd.Wait()))
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func (b *bare) close() error {
	return errors.Join(unix.Unmount(b.dir, 0), os.RemoveAll(filepath.Join(b.pool(), "bench-bare")), os.Remove(b.dir))
}
