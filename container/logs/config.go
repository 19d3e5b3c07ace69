package logs

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	"slipway/container/logs/wire"
)

// The log drivers.
const (
	DriverJSONFile = "json-file"
	DriverNone     = "none"
)

// LogConfig says how a container's output is kept.
type LogConfig = wire.LogConfig

// foreignDrivers are Docker's other drivers.
var foreignDrivers = []string{"awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "local", "logentries", "splunk", "syslog"}

// ParseConfig checks a container's log driver and its options, in Docker's terms. Labels and env
// (KEY=VALUE) are those of the container; the options labels, labels-regex, env, env-regex and tag choose
// what of them and of tag goes into every line's attributes. The caller sets the log's Path.
func ParseConfig(driver string, opts, labels map[string]string, env []string, tag TagInfo) (LogConfig, error) {
	switch {
	case driver == "" || driver == DriverJSONFile:
		return parseJSONFile(opts, labels, env, tag)
	case driver == DriverNone:
		return LogConfig{Driver: DriverNone}, nil
	case slices.Contains(foreignDrivers, driver):
		return LogConfig{}, errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("log driver %q is not supported: use json-file or none", driver))
	default:
		return LogConfig{}, invalid("logger: no log driver named '%s' is registered", driver)
	}
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func parseJSONFile(opts, labels map[string]string, env []string, tag TagInfo) (LogConfig, error) {
	cfg := LogConfig{Driver: DriverJSONFile, MaxFile: 1}
	for _, key := range slices.Sorted(maps.Keys(opts)) {
		if err := cfgOption(&cfg, key, opts); err != nil {
			return LogConfig{}, err
		}
	}
	if cfg.Compress && (cfg.MaxFile < 2 || cfg.MaxSize == 0) {
		return LogConfig{}, invalid("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	attrs, err := attributes(opts, labels, env)
	if err != nil {
		return LogConfig{}, err
	}
	if format := opts["tag"]; format != "" {
		if attrs["tag"], err = tag.render(format); err != nil {
			return LogConfig{}, err
		}
	}
	if len(attrs) > 0 {
		cfg.Attrs = attrs
	}
	return cfg, nil
}

func cfgOption(cfg *LogConfig, key string, opts map[string]string) (err error) {
	value := opts[key]
	switch key {
	case "max-size":
		if cfg.MaxSize, err = units.FromHumanSize(value); err != nil {
			return invalid("invalid max-size %q: %v", value, err)
		}
		if cfg.MaxSize <= 0 {
			return invalid("max-size must be a positive number")
		}
	case "max-file":
		if cfg.MaxFile, err = strconv.Atoi(value); err != nil {
			return invalid("invalid max-file %q: %v", value, err)
		}
		if cfg.MaxFile < 1 {
			return invalid("max-file cannot be less than 1")
		}
	case "compress":
		if cfg.Compress, err = strconv.ParseBool(value); err != nil {
			return invalid("invalid compress %q: %v", value, err)
		}
	case "mode":
		switch value {
		case "", "blocking":
		case "non-blocking":
			return errdefs.ErrNotImplemented.WithMessage("log option mode=non-blocking is not supported")
		default:
			return invalid("logger: logging mode not supported: %s", value)
		}
	case "max-buffer-size":
		if opts["mode"] == "non-blocking" {
			return cfgOption(cfg, "mode", opts)
		}
		return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	case "labels", "labels-regex", "env", "env-regex", "tag":
	default:
		return invalid("unknown log opt '%s' for json-file log driver", key)
	}
	return nil
}

// attributes picks the labels and variables that the options name.
func attributes(opts, labels map[string]string, env []string) (map[string]string, error) {
	attrs := map[string]string{}
	vars := map[string]string{}
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			vars[k] = v
		}
	}
	for _, source := range []struct {
		option string
		values map[string]string
	}{{"labels", labels}, {"env", vars}} {
		for key := range strings.SplitSeq(opts[source.option], ",") {
			if v, ok := source.values[key]; ok {
				attrs[key] = v
			}
		}
		pattern := opts[source.option+"-regex"]
		if pattern == "" {
			continue
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, invalid("invalid %s-regex: %v", source.option, err)
		}
		for k, v := range source.values {
			if re.MatchString(k) {
				attrs[k] = v
			}
		}
	}
	return attrs, nil
}

// TagInfo is what the tag option's template can show.
type TagInfo struct {
	ID, Name           string // of the container; the name with or without its slash
	ImageID, ImageName string
}

// tagView has the names of Docker's tag templates.
type tagView struct {
	ID, FullID, Name, ImageID, ImageFullID, ImageName, DaemonName string
}

func (t TagInfo) render(format string) (string, error) {
	tmpl, err := template.New("log-tag").Funcs(template.FuncMap{
		"upper": strings.ToUpper, "lower": strings.ToLower, "join": strings.Join, "split": strings.Split,
	}).Parse(format)
	if err != nil {
		return "", invalid("invalid log tag: %v", err)
	}
	var b strings.Builder
	err = tmpl.Execute(&b, tagView{
		ID: short(t.ID), FullID: t.ID, Name: strings.TrimPrefix(t.Name, "/"),
		ImageID: short(strings.TrimPrefix(t.ImageID, "sha256:")), ImageFullID: t.ImageID, ImageName: t.ImageName,
		DaemonName: "docker",
	})
	if err != nil {
		return "", invalid("invalid log tag: %v", err)
	}
	return b.String(), nil
}

func short(id string) string { return id[:min(len(id), 12)] }
