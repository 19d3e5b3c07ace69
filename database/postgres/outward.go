package postgres

import (
	"net/url"
	"path"
	"slices"
	"strings"

	"slipway/database"
)

// outwardSettings are the settings by which a server reaches out on its own, with the value that stops it.
// A parameter that the server's version does not know would keep it from starting, hence the versions.
var outwardSettings = []struct {
	name  string
	off   string
	since int
	must  bool // with any value but an empty one; otherwise with any value that is not off
}{
	{name: "archive_mode", off: "off"},
	{name: "archive_command", must: true},
	{name: "archive_library", must: true, since: 15},
	{name: "archive_cleanup_command", must: true, since: 12},
	{name: "recovery_end_command", must: true, since: 12},
	{name: "primary_conninfo", must: true, since: 12},
	{name: "primary_slot_name", must: true, since: 12},
	{name: "synchronous_standby_names", must: true}, // a commit would wait for production's standby for ever
}

// outwardLibraries are extensions whose workers connect to other places as soon as they are loaded, and which
// have no setting that keeps them from it. Their functions work without being preloaded.
var outwardLibraries = []string{"pglogical", "bdr", "pg_net"}

// recoveryTargets say where a recovery stops; a standby that becomes a server of its own goes to the end.
var recoveryTargets = []string{
	"recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid", "recovery_target_lsn",
}

// plan decides what is switched off.
func (p *first) plan(keep bool) error {
	for _, s := range outwardSettings {
		value := p.now[s.name]
		if p.version < s.since || s.must && value == "" || !s.must && !p.now.on(s.name) {
			continue
		}
		p.found(s.name, "", harmless(s.name, value), !keep)
		if !keep {
			p.set(s.name, s.off)
		}
	}
	if err := p.planStandby(keep); err != nil {
		return err
	}
	p.planLibraries(keep)
	if !keep {
		if err := p.planSubscriptions(); err != nil {
			return err
		}
	}
	if p.version >= 14 && p.now["recovery_init_sync_method"] == "" {
		// Otherwise the first recovery opens every file for writing, which copies each of them up.
		p.lines.WriteString(configLine("recovery_init_sync_method", "syncfs"))
	}
	return nil
}

func (p *first) planStandby(keep bool) error {
	old, err := p.exists("recovery.conf")
	if err != nil {
		return err
	}
	switch {
	case old && p.version < 12: // later versions refuse to start with this file
		p.found("standby", "", "recovery.conf", !keep)
		if !keep {
			return p.files.Rename(path.Join(p.dir, "recovery.conf"), "recovery.done")
		}
	case p.standby && p.version >= 12:
		p.found("standby", "", "replays another server's log", !keep)
		if keep {
			return nil
		}
		p.set("restore_command", "false") // finds no more log, so recovery ends and the server is promoted
		for _, name := range recoveryTargets {
			if p.now[name] != "" {
				p.set(name, "")
			}
		}
	case p.now["restore_command"] != "" && p.now["restore_command"] != "false":
		// Without a signal file it is never run; with recovery.signal the data may need it to become consistent.
		p.found("restore_command", "", harmless("restore_command", p.now["restore_command"]), false)
	}
	return nil
}

func (p *first) planLibraries(keep bool) {
	loaded := splitList(p.now["shared_preload_libraries"])
	stay := slices.DeleteFunc(slices.Clone(loaded), func(l string) bool {
		return slices.Contains(outwardLibraries, libraryName(l))
	})
	for _, l := range loaded {
		if !slices.Contains(stay, l) {
			p.found("extension worker", libraryName(l), "not preloaded any more", !keep)
		}
	}
	if len(stay) < len(loaded) && !keep {
		p.set("shared_preload_libraries", strings.Join(stay, ","))
	}
	if slices.ContainsFunc(stay, func(l string) bool { return libraryName(l) == "pg_cron" }) && !keep &&
		(p.now.on("cron.max_running_jobs") || p.now["cron.max_running_jobs"] == "") {
		// The jobs themselves are listed and made inactive once the server answers. Old versions know
		// only the second of these.
		p.set("cron.launch_active_jobs", "off")
		p.set("cron.max_running_jobs", "0")
		p.report.Notes = append(p.report.Notes, "pg_cron runs no jobs in this clone; "+
			"ALTER SYSTEM RESET cron.launch_active_jobs and cron.max_running_jobs to use it")
	}
}

func (p *first) planSubscriptions() error {
	if p.now["max_logical_replication_workers"] == "0" {
		return nil
	}
	may, err := mayHaveSubscriptions(p.files, p.dir)
	if may && err == nil {
		// Their workers would connect within a second of the start. The subscriptions are disabled by
		// name once the server answers.
		p.set("max_logical_replication_workers", "0")
		p.report.Notes = append(p.report.Notes, "logical replication workers are off in this clone; "+
			"ALTER SYSTEM RESET max_logical_replication_workers to use them")
	}
	return err
}

func (p *first) found(kind, name, detail string, off bool) {
	p.report.Outward = append(p.report.Outward, database.Outward{Kind: kind, Name: name, Detail: detail, Off: off})
}

// set gives the server a setting, for good; also in its argument list if it is set there, because that wins.
func (p *first) set(name, value string) {
	p.lines.WriteString(configLine(name, value))
	if _, ok := p.args[name]; ok {
		p.report.Args = append(p.report.Args, "-c", name+"="+value)
	}
}

// splitList splits a list of libraries as the server does: by commas, with optional double quotes.
func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.Trim(strings.TrimSpace(part), `"`); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// libraryName is a library without its directory and suffix.
func libraryName(l string) string { return strings.TrimSuffix(path.Base(l), ".so") }

// harmless is a setting's value as inspect may show it. Of a connection string that is where it leads, of a command
// the program: anything else in them may be a secret.
func harmless(name, value string) string {
	switch {
	case name == "primary_conninfo":
		return clean(connTarget(value), maxDetail)
	case strings.HasSuffix(name, "_command"):
		program, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
		if strings.Contains(program, "=") { // a variable in front of the program
			return "…"
		}
		if rest != "" {
			program += " …"
		}
		return clean(program, maxDetail)
	default:
		return clean(value, maxDetail)
	}
}

// connTarget tells where a libpq connection string leads, and nothing else of it.
func connTarget(s string) string {
	if u, err := url.Parse(s); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		return "host=" + u.Host
	}
	var target []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		key, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		if value, s, ok = connValue(strings.TrimSpace(rest)); !ok {
			break
		}
		switch key = strings.ToLower(strings.TrimSpace(key)); key {
		case "host", "hostaddr", "port":
			target = append(target, key+"="+value)
		}
	}
	return strings.Join(target, " ")
}

// connValue reads one value of a connection string: up to a space, or quoted, with backslash as the escape.
func connValue(s string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(s, "'")
	if quoted {
		s = s[1:]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'', !quoted && (c == ' ' || c == '\t' || c == '\n'):
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}
