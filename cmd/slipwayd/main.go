// Command slipwayd is the Slipway daemon: a container engine that the Docker
// client drives, and whose containers can carry databases.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"slipway/api"
	"slipway/daemon"
	"slipway/daemon/config"
	"slipway/internal/version"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// The exit codes are those of Unix programs: 2 for a wrong command line.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	cfg, err := config.Parse(os.Args[1:], os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "slipwayd:", err)
		os.Exit(exitUsage)
	}
	switch cfg.Mode {
	case config.ModeHelp:
		fmt.Print(config.Usage())
		return
	case config.ModeVersion:
		fmt.Printf("Slipway version %s, build %s\n", version.Version(), version.Commit())
		return
	case config.ModeValidate:
		fmt.Println("configuration OK")
		return
	case config.ModeServe:
	}
	if err := serve(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "slipwayd:", err)
		os.Exit(exitFailure)
	}
}

// serve runs the daemon until a signal ends it.
func serve(cfg *config.Config) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// What the start is in the middle of may take long, or for ever: a second
	// signal ends the process as it would end any other.
	context.AfterFunc(ctx, stop)
	logger := newLogger(cfg.Log)
	remove, err := writePidFile(cfg.Paths.PidFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	d, err := daemon.New(ctx, cfg, logger)
	if err != nil && ctx.Err() != nil {
		logger.InfoContext(ctx, "stopped before it was ready", slog.Any("error", err))
		return nil
	}
	if err != nil {
		return err
	}
	listeners, err := listen(ctx, cfg.Listen)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	for _, l := range listeners {
		logger.Info("listening", slog.String("address", l.Addr().String()))
	}
	if _, err := systemd.SdNotify(false, systemd.SdNotifyReady); err != nil {
		logger.Warn("telling systemd that the daemon is ready failed", slog.Any("error", err))
	}
	logger.Info("slipwayd is ready", slog.String("version", version.Version()), slog.String("data_root", cfg.Paths.DataRoot))
	return d.Serve(ctx, listeners)
}

func newLogger(cfg config.Log) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level(cfg.Level)}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

func level(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error", "fatal":
		return slog.LevelError
	}
	return slog.LevelInfo
}

func listen(ctx context.Context, cfg config.Listen) (listeners []net.Listener, err error) {
	opts := api.ListenOptions{Group: cfg.Group, GroupOptional: !cfg.GroupExplicit, PlainTCP: cfg.AllowPlainTCP}
	if cfg.TLS != nil {
		opts.TLS = &api.TLSOptions{CAFile: cfg.TLS.CA, CertFile: cfg.TLS.Cert, KeyFile: cfg.TLS.Key}
	}
	defer func() {
		if err == nil {
			return
		}
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
	}()
	for _, host := range cfg.Hosts {
		opened, err := api.Listen(ctx, host.String(), opts)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, opened...)
	}
	return listeners, nil
}
