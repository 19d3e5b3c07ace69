package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"slipway/container/logs/keeper"
)

func main() {
	execRoot := flag.String("exec-root", "", "the daemon's exec root")
	flag.Parse()
	if *execRoot == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: slipway-logger --exec-root DIR (the daemon starts it)")
		os.Exit(2)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(*execRoot, logger); err != nil {
		if errors.Is(err, keeper.ErrRunning) {
			os.Exit(3)
		}
		logger.Error("log keeper failed", slog.Any("error", err))
		os.Exit(1)
	}
}

func run(execRoot string, logger *slog.Logger) error {
	protect(logger)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server, err := keeper.New(keeper.Config{ExecRoot: execRoot, Logger: logger})
	if err != nil {
		return err
	}
	return server.Serve(ctx)
}
