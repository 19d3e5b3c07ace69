package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// protect keeps the keeper alive: without it, every container that prints blocks.
func protect(logger *slog.Logger) {
	// The last that the kernel kills for memory.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0); err != nil {
		logger.Warn("cannot protect the log keeper from the kernel's out-of-memory killer", slog.Any("error", err))
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
}
