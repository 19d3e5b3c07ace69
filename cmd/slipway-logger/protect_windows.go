package main

import (
	"log/slog"
	"os"
	"os/signal"
)

// protect keeps the keeper alive: it has no console whose signals could reach it, and a service's end does not end it.
func protect(*slog.Logger) { signal.Ignore(os.Interrupt) }
