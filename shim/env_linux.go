package shim

import (
	"strings"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// environment returns the process's environment: Docker's defaults, overridden
// and followed by the configured one.
func environment(cfg *mobycontainer.Config) []string {
	env := []string{"PATH=" + DefaultPath, "HOSTNAME=" + cfg.Hostname}
	if cfg.Tty {
		env = append(env, "TERM=xterm")
	}
	return mergeEnv(env, cfg.Env)
}

// mergeEnv overrides the variables of base in their places and appends the
// others. An override without "=" removes the variable.
func mergeEnv(base, overrides []string) []string {
	at := make(map[string]int, len(base)+len(overrides))
	merged := make([]string, 0, len(base)+len(overrides))
	for i, entry := range append(append([]string{}, base...), overrides...) {
		name, _, isSet := strings.Cut(entry, "=")
		place, known := at[name]
		switch {
		case !isSet && i >= len(base):
			if known {
				merged[place] = ""
				delete(at, name)
			}
		case known:
			merged[place] = entry
		default:
			at[name] = len(merged)
			merged = append(merged, entry)
		}
	}
	kept := merged[:0]
	for _, entry := range merged {
		if entry != "" {
			kept = append(kept, entry)
		}
	}
	return kept
}
