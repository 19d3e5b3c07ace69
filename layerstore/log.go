package layerstore

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"

	"github.com/containerd/log"
)

// known are messages of containerd that say nothing to the user: the first comes
// with every end of a shim, the second on every file system without fs-verity.
var known = []string{"copy shim log", "failed check for fsverity support"}

// forward sends containerd's own log, which is process-wide, to logger.
func forward(logger *slog.Logger, debug bool) error {
	level := log.WarnLevel
	if debug {
		level = log.DebugLevel
	}
	if err := log.SetFormat(log.JSONFormat); err != nil {
		return err
	}
	log.L.Logger.SetOutput(lines{logger})
	return log.SetLevel(level.String())
}

// lines takes containerd's log, a JSON object with each write.
type lines struct{ logger *slog.Logger }

func (l lines) Write(line []byte) (int, error) {
	var entry map[string]any
	if err := json.Unmarshal(line, &entry); err != nil {
		l.logger.Warn("containerd", slog.String("line", string(line)))
		return len(line), nil
	}
	message, _ := entry["msg"].(string)
	name, _ := entry["level"].(string)
	if slices.Contains(known, message) {
		name = "debug"
	}
	attrs := []slog.Attr{slog.String("message", message)}
	for _, key := range slices.Sorted(maps.Keys(entry)) {
		if key != "msg" && key != "level" && key != "time" {
			attrs = append(attrs, slog.Any(key, entry[key]))
		}
	}
	l.logger.LogAttrs(context.Background(), slogLevel(name), "containerd", attrs...)
	return len(line), nil
}

func slogLevel(name string) slog.Level {
	switch name {
	case "trace", "debug":
		return slog.LevelDebug
	case "info":
		return slog.LevelInfo
	case "warning":
		return slog.LevelWarn
	}
	return slog.LevelError
}
