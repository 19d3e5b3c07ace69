package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		value, name string
		left        int64
	}{
		{"a.b", "a.b", 1},
		{"a.b@3", "a.b", 3},
		{"a.b@x", "a.b@x", 1},
	} {
		a := parse(tc.value)
		if a.name != tc.name || a.left.Load() != tc.left {
			t.Errorf("parse(%q) = %q, %d; want %q, %d", tc.value, a.name, a.left.Load(), tc.name, tc.left)
		}
	}
	if parse("") != nil {
		t.Error("an empty variable arms a failpoint")
	}
}

func TestHitKills(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") == "1" {
		Hit("other")
		Hit("here")
		Hit("here")
		os.Exit(0)
	}
	for value, dies := range map[string]bool{"here@2": true, "here@3": false, "nowhere": false} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHitKills$")
		cmd.Env = append(os.Environ(), "FAILPOINT_CHILD=1", Env+"="+value)
		err := cmd.Run()
		var exit *exec.ExitError
		if died := errors.As(err, &exit); died != dies {
			t.Errorf("%s: died = %v (%v), want %v", value, died, err, dies)
		}
	}
}
