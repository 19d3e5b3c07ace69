package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"slipway/daemon/config"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"
)

const (
	serviceName     = "slipway"
	serviceNameFlag = "--service-name="
	// serviceWait is how long start and stop wait for the service manager. A stop
	// lets requests end first.
	serviceWait = 2 * time.Minute
)

const serviceUsage = `Usage: slipwayd service COMMAND [--service-name=NAME] [the daemon's flags]

The daemon as a Windows service, which starts with the machine, restarts after a
crash, and logs to the event log. Containers keep running while it is stopped.

  install     register the service, with the flags that the daemon will get
  uninstall   remove it again; stop it first
  start       wait until it serves
  stop        wait until it has stopped
  run         what the service manager runs

--service-name is needed where several engines run on one machine (slipway).
`

// service runs `slipwayd service ...` and returns the exit code.
func service(args []string) (code int) {
	if len(args) == 0 || slices.Contains([]string{"help", "--help", "-h"}, args[0]) {
		fmt.Print(serviceUsage)
		return 0
	}
	name, flags := serviceName, args[1:]
	if len(flags) > 0 && strings.HasPrefix(flags[0], serviceNameFlag) {
		name, flags = strings.TrimPrefix(flags[0], serviceNameFlag), flags[1:]
	}
	var err error
	switch command := args[0]; {
	case command == "install":
		err = installService(name, flags)
	case command == "run":
		err = runService(name, flags)
	case len(flags) > 0:
		err = fmt.Errorf("unexpected argument %q: see slipwayd service --help", flags[0])
	case command == "uninstall":
		err = withService(name, func(s *mgr.Service) error { return uninstallService(s) })
	case command == "start":
		err = withService(name, startService)
	case command == "stop":
		err = withService(name, stopService)
	default:
		err = fmt.Errorf("unknown command %q: see slipwayd service --help", command)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "slipwayd: service:", err)
		return exitFailure
	}
	return 0
}

// installService registers the service with the flags, of which it finds wrong ones
// now. It makes the event log's source too.
func installService(name string, flags []string) (err error) {
	cfg, err := config.Parse(flags, os.Stderr)
	if err == nil {
		err = check(cfg)
	}
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	manager, err := connectManager()
	if err != nil {
		return err
	}
	defer manager.Disconnect() //nolint:errcheck // nothing depends on it
	s, err := manager.CreateService(name, self, mgr.Config{
		DisplayName: "Slipway container engine", Description: "Runs containers and clones of databases for Docker's clients.",
		StartType: mgr.StartAutomatic, ErrorControl: mgr.ErrorNormal,
	}, append([]string{"service", "run", serviceNameFlag + name}, flags...)...)
	switch {
	case errors.Is(err, windows.ERROR_SERVICE_EXISTS):
		return fmt.Errorf("there is a service %s already: uninstall it, or choose another --service-name", name)
	case err != nil:
		return fmt.Errorf("registering service %s: %w", name, err)
	}
	defer s.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Delete())
		}
	}()
	// After a crash: soon, then a little later. A day without one forgets them.
	const day = 24 * 60 * 60 // seconds
	err = s.SetRecoveryActions([]mgr.RecoveryAction{
		{Type: mgr.ServiceRestart, Delay: time.Second}, {Type: mgr.ServiceRestart, Delay: 15 * time.Second}, {Type: mgr.ServiceRestart, Delay: time.Minute},
	}, day)
	if err != nil {
		return fmt.Errorf("setting what happens after a crash: %w", err)
	}
	if err := eventlog.InstallAsEventCreate(name, eventlog.Error|eventlog.Warning|eventlog.Info); err != nil {
		return fmt.Errorf("registering event source %s: %w", name, err)
	}
	return nil
}

func connectManager() (*mgr.Mgr, error) {
	manager, err := mgr.Connect()
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return nil, errors.New("only administrators may: start the console as administrator")
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the service manager: %w", err)
	}
	return manager, nil
}

func withService(name string, do func(*mgr.Service) error) error {
	manager, err := connectManager()
	if err != nil {
		return err
	}
	defer manager.Disconnect() //nolint:errcheck // nothing depends on it
	s, err := manager.OpenService(name)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return fmt.Errorf("there is no service %s: slipwayd service install makes it", name)
	}
	if err != nil {
		return fmt.Errorf("opening service %s: %w", name, err)
	}
	defer s.Close()
	return do(s)
}

func uninstallService(s *mgr.Service) error {
	status, err := s.Query()
	if err != nil {
		return fmt.Errorf("asking for the service's state: %w", err)
	}
	if status.State != svc.Stopped {
		return errors.New("the service is running: stop it first")
	}
	if err := s.Delete(); err != nil {
		return fmt.Errorf("removing the service: %w", err)
	}
	if err := eventlog.Remove(s.Name); err != nil && !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		return fmt.Errorf("removing the event source: %w", err)
	}
	return nil
}

func startService(s *mgr.Service) error {
	if err := s.Start(); err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
		return fmt.Errorf("starting the service: %w", err)
	}
	return waitForService(s, svc.Running)
}

func stopService(s *mgr.Service) error {
	if _, err := s.Control(svc.Stop); err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return fmt.Errorf("stopping the service: %w", err)
	}
	return waitForService(s, svc.Stopped)
}

// waitForService returns when the service is in the state wanted.
func waitForService(s *mgr.Service, want svc.State) error {
	for deadline := time.Now().Add(serviceWait); ; time.Sleep(100 * time.Millisecond) {
		status, err := s.Query()
		switch {
		case err != nil:
			return fmt.Errorf("asking for the service's state: %w", err)
		case status.State == want:
			return nil
		case status.State == svc.Stopped:
			return fmt.Errorf("the service has stopped with code %d: the event log says why", status.Win32ExitCode)
		case time.Now().After(deadline):
			return fmt.Errorf("the service is still not where it should be after %s", serviceWait)
		}
	}
}

// runService is the service's process. It returns when the service has ended.
func runService(name string, flags []string) error {
	events, err := eventlog.Open(name)
	if err != nil {
		return fmt.Errorf("opening the event log: %w", err)
	}
	defer events.Close()
	var warnings strings.Builder
	cfg, err := config.Parse(flags, &warnings)
	if err == nil {
		err = check(cfg)
	}
	if err != nil {
		return errors.Join(err, events.Error(eventError, "slipwayd: "+err.Error()))
	}
	keepCrashes(cfg)
	logger := slog.New(newEventHandler(events, level(cfg.Log.Level)))
	if warnings.Len() > 0 {
		logger.Warn("configuration", slog.String("warnings", warnings.String()))
	}
	return svc.Run(name, &serviceHandler{cfg: cfg, logger: logger})
}

// keepCrashes makes the runtime write what it prints before it dies to a file: a
// service has no standard error.
func keepCrashes(cfg *config.Config) {
	path := filepath.Join(filepath.Dir(cfg.Paths.DataRoot), "slipwayd-crash.log")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the path is the administrator's
	if err != nil {
		return // the directory is made with the data root at the first start
	}
	defer f.Close()
	_ = debug.SetCrashOutput(f, debug.CrashOptions{}) // as good as without
}

// serviceHandler runs the daemon for the service manager.
type serviceHandler struct {
	cfg    *config.Config
	logger *slog.Logger
}

// startHint is how long the manager is told that the next sign of life may take,
// in milliseconds.
const startHint = 30_000

// Execute implements svc.Handler.
func (h *serviceHandler) Execute(_ []string, requests <-chan svc.ChangeRequest, status chan<- svc.Status) (specific bool, code uint32) {
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- serve(ctx, h.cfg, h.logger, func() { close(ready) }) }()

	state := svc.Status{State: svc.StartPending, WaitHint: startHint}
	status <- state
	alive := time.NewTicker(startHint / 3 * time.Millisecond)
	defer alive.Stop()
	for {
		select {
		case <-ready:
			ready = nil
			state = svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
		case <-alive.C:
			if state.State == svc.Running {
				continue
			}
			state.CheckPoint++
		case r := <-requests:
			if r.Cmd == svc.Stop || r.Cmd == svc.Shutdown {
				stop(errors.New("the service is being stopped"))
				state = svc.Status{State: svc.StopPending, WaitHint: startHint}
			}
		case err := <-done:
			if err != nil {
				h.logger.Error("slipwayd ended", slog.Any("error", err))
				return true, exitFailure
			}
			return false, 0
		}
		status <- state
	}
}
