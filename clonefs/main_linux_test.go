package clonefs_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"slipway/clonefs"
	"slipway/clonefs/clonefstest"
)

// envHelper makes the test binary open a pool and, for "grow", enlarge it: a
// process that a failpoint can kill. Its value is "open:<root>" or "grow:<root>".
const envHelper = "SLIPWAY_CLONEFS_HELPER"

func TestMain(m *testing.M) {
	clonefstest.Main()
	if action, root, ok := strings.Cut(os.Getenv(envHelper), ":"); ok {
		if err := help(context.Background(), action, root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func help(ctx context.Context, action, root string) error {
	cfg := clonefs.Config{DataRoot: root, Logger: slog.New(slog.DiscardHandler)}
	if action != "auto" {
		cfg.Method, cfg.PoolSize = clonefs.MethodPool, testPoolSize
	}
	p, err := clonefs.Open(ctx, cfg)
	if err != nil {
		return err
	}
	if action == "grow" {
		return p.Grow(ctx, 2*testPoolSize)
	}
	s, err := p.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Println(s.Method, s.Reason)
	return nil
}
