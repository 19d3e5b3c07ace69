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
	if len(os.Args) > 1 && os.Args[1] == "service" {
		os.Exit(service(os.Args[2:]))
	}
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
	case config.ModeValidate, config.ModeServe:
	}
	if err := check(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "slipwayd:", err)
		os.Exit(exitUsage)
	}
	if cfg.Mode == config.ModeValidate {
		fmt.Println("configuration OK")
		return
	}
	if err := serveUntilSignal(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "slipwayd:", err)
		os.Exit(exitFailure)
	}
}

// serveUntilSignal runs the daemon until a signal ends it.
func serveUntilSignal(cfg *config.Config) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// What the start is in the middle of may take long, or for ever: a second
	// signal ends the process as it would end any other.
	context.AfterFunc(ctx, stop)
	logger := newLogger(cfg.Log)
	defer handleSignals(ctx, logger)()
	return serve(ctx, cfg, logger, func() {
		if _, err := systemd.SdNotify(false, systemd.SdNotifyReady); err != nil {
			logger.Warn("telling systemd that the daemon is ready failed", slog.Any("error", err))
		}
	})
}

// serve runs the daemon until ctx ends. It calls ready when clients are answered.
func serve(ctx context.Context, cfg *config.Config, logger *slog.Logger, ready func()) (err error) {
	remove, err := writePidFile(cfg.Paths.PidFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	// The sockets come first: what is wrong with them shows before containers are
	// started, and clients that connect meanwhile wait.
	listeners, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	d, err := daemon.New(ctx, cfg, logger)
	if err != nil {
		err = errors.Join(err, closeAll(listeners))
	}
	if err != nil && ctx.Err() != nil {
		logger.InfoContext(ctx, "stopped before it was ready", slog.Any("error", err))
		return nil
	}
	if err != nil {
		return err
	}
	for _, l := range listeners {
		logger.InfoContext(ctx, "listening", slog.String("address", l.Addr().String()))
	}
	ready()
	logger.InfoContext(ctx, "slipwayd is ready", slog.String("version", version.Version()), slog.String("data_root", cfg.Paths.DataRoot))
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

// check finds what is wrong with a configuration that only the engine's parts or
// the machine know.
func check(cfg *config.Config) error {
	if err := daemon.Validate(cfg); err != nil {
		return err
	}
	opts := listenOptions(cfg.Listen)
	for _, host := range cfg.Listen.Hosts {
		if err := api.CheckListen(host.String(), opts); err != nil {
			return err
		}
	}
	return nil
}

func listenOptions(cfg config.Listen) api.ListenOptions {
	opts := api.ListenOptions{Group: cfg.Group, GroupOptional: !cfg.GroupExplicit, PlainTCP: cfg.AllowPlainTCP}
	if cfg.TLS != nil {
		opts.TLS = &api.TLSOptions{CAFile: cfg.TLS.CA, CertFile: cfg.TLS.Cert, KeyFile: cfg.TLS.Key}
	}
	return opts
}

func listen(ctx context.Context, cfg config.Listen) (listeners []net.Listener, err error) {
	for _, host := range cfg.Hosts {
		opened, err := api.Listen(ctx, host.String(), listenOptions(cfg))
		if err != nil {
			return nil, errors.Join(err, closeAll(listeners))
		}
		listeners = append(listeners, opened...)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
