package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
)

// handleSignals answers the signals that are requests and end nothing, until stop.
func handleSignals(ctx context.Context, logger *slog.Logger) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, append([]os.Signal{syscall.SIGHUP}, dumpSignals...)...)
	var wg sync.WaitGroup
	wg.Go(func() {
		for s := range signals {
			if s == syscall.SIGHUP {
				logger.WarnContext(ctx, "reloading the configuration is not supported: restart the daemon instead, containers keep running")
				continue
			}
			logger.InfoContext(ctx, "the stacks of all goroutines", slog.String("stacks", stacks()))
		}
	})
	return func() {
		signal.Stop(signals)
		close(signals)
		wg.Wait()
	}
}

// stacks are those of all goroutines.
func stacks() string {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return string(buf[:n])
		}
	}
}
