package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"strconv"
	"strings"

	"slipway/database"

	"github.com/containerd/errdefs"
)

const (
	autoConf = "postgresql.auto.conf"
	marker   = "# Slipway: first start of clone "
	// maxDetail is how much of a setting's value inspect shows.
	maxDetail = 200
)

// NeedsGate is true if the request sets a password: until then the one of the clone's origin is good.
// Everything else is off before the server runs.
func (a *Adapter) NeedsGate(_ database.Files, r database.Request) bool {
	_, ok := passwordSource(r.Env)
	return ok
}

// BeforeFirstStart appends the settings that a clone must have to postgresql.auto.conf, turns a standby into a
// server of its own, and removes what a server that was running at the time of the commit has left.
//
// The lines begin with a comment that holds the clone's id and the report, so a first start that was cut short and
// is repeated reports what the first one found.
func (a *Adapter) BeforeFirstStart(_ context.Context, f database.Files, r database.Request) (database.Report, error) {
	p, err := a.survey(f, r)
	if err != nil || p == nil {
		return database.Report{}, err
	}
	if err := p.removeLocks(); err != nil {
		return database.Report{}, err
	}
	if done, ok := p.earlier(r.ID); ok {
		return done, p.leaveStandby(r)
	}
	if err := p.plan(r.KeepsOutward()); err != nil {
		return database.Report{}, err
	}
	if err := p.write(r.ID); err != nil {
		return database.Report{}, err
	}
	return p.report, p.leaveStandby(r)
}

// first is one clone's first start: what was found and what is to be written.
type first struct {
	files   database.Files
	dir     string // data directory
	version int    // major version of the data
	auto    []byte // postgresql.auto.conf as it is
	args    settings
	now     settings // in force, the argument list included
	standby bool
	lines   strings.Builder
	report  database.Report
}

// survey reads the configuration in force. It returns nil if there is no data directory yet.
func (a *Adapter) survey(f database.Files, r database.Request) (*first, error) {
	p := &first{files: f, dir: a.dataDir, args: parseArgs(r.Args), now: settings{}}
	if dir := p.args["-D"]; path.IsAbs(dir) {
		p.dir = path.Clean(dir)
	}
	if dir := p.args["data_directory"]; path.IsAbs(dir) {
		p.dir = path.Clean(dir)
	}
	config := path.Join(p.dir, "postgresql.conf")
	if c := p.args["config_file"]; c != "" {
		config = resolve(p.dir, c)
	}
	l := loader{files: f, out: p.now}
	if err := l.load(config); err != nil {
		return nil, err
	}
	if dir := p.now["data_directory"]; path.IsAbs(dir) && p.args["data_directory"] == "" {
		p.dir = path.Clean(dir) // a configuration outside of the data directory, as Debian has it
	}
	version, err := f.Read(path.Join(p.dir, "PG_VERSION"), 64)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read PG_VERSION: %w", err)
	}
	major, _, _ := strings.Cut(strings.TrimSpace(string(version)), ".")
	if p.version, err = strconv.Atoi(major); err != nil || p.version < 10 {
		return nil, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(
			"the database in %s has format %s; PostgreSQL 10 and later are supported", p.dir, clip(version)))
	}
	if p.auto, err = f.Read(path.Join(p.dir, autoConf), configLimit); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", autoConf, err)
	}
	for _, s := range parseConfig(p.auto) {
		p.now[s.name] = s.value
	}
	maps.Copy(p.now, p.args)
	p.standby, err = p.exists("standby.signal")
	return p, err
}

func (p *first) exists(name string) (bool, error) {
	_, err := p.files.Size(path.Join(p.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// earlier finds the report of a first start of the same clone that was cut short.
func (p *first) earlier(id string) (database.Report, bool) {
	_, after, ok := strings.Cut(string(p.auto), marker+id+" ")
	if !ok || id == "" {
		return database.Report{}, false
	}
	var r database.Report
	line, _, _ := strings.Cut(after, "\n")
	if json.Unmarshal([]byte(line), &r) != nil {
		return database.Report{}, false
	}
	return r, true
}

// removeLocks removes the lock files of a server that no longer runs. A server with another process id than the
// origin's takes them for another server's, for instance under docker run --init.
func (p *first) removeLocks() error {
	file := path.Join(p.dir, pidFile)
	data, err := p.files.Read(file, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", pidFile, err)
	}
	if pf := parsePidFile(data); pf.port != "" && path.IsAbs(pf.socketDir) {
		socket := path.Join(pf.socketDir, ".s.PGSQL."+pf.port)
		for _, name := range []string{socket + ".lock", socket} {
			if err := p.files.Remove(name); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	if err := p.files.Remove(file); err != nil {
		return fmt.Errorf("remove %s: %w", pidFile, err)
	}
	return nil
}

// leaveStandby makes a standby into a server of its own: it replays the log that it has, finds no more, and is
// promoted to a new timeline.
func (p *first) leaveStandby(r database.Request) error {
	if !p.standby || r.KeepsOutward() {
		return nil
	}
	return p.files.Rename(path.Join(p.dir, "standby.signal"), "recovery.signal")
}

// write appends the new settings in one step, with the report in front.
func (p *first) write(id string) error {
	if p.lines.Len() == 0 {
		return nil
	}
	report, err := json.Marshal(p.report)
	if err != nil {
		return err
	}
	data := string(p.auto)
	if data != "" && !strings.HasSuffix(data, "\n") {
		data += "\n"
	}
	data += marker + id + " " + string(report) + "\n" + p.lines.String()
	if err := p.files.Replace(path.Join(p.dir, autoConf), []byte(data)); err != nil {
		return fmt.Errorf("write %s: %w", autoConf, err)
	}
	return nil
}
