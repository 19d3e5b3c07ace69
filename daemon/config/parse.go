package config

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// settings is a configuration while it is read: the raw values that need a
// second look once all of them are known.
type settings struct {
	cfg             Config
	hosts           []string
	tls             TLS
	useTLS          bool
	verify          bool
	debug           bool
	liveRestore     bool
	icc             bool
	shutdownSeconds int
	version         bool
	help            bool
	validate        bool
}

// Parse reads a command line (without the program's name) and the
// configuration file that it or the default names. Its error is one line for
// the user, who is at fault: print it and exit with status 2. Warnings go to
// stderr.
func Parse(args []string, stderr io.Writer) (*Config, error) {
	s := newSettings()
	options := s.options()
	flags := flagSet(options)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if rest := flags.Args(); len(rest) > 0 {
		return nil, fmt.Errorf("unexpected argument %q: slipwayd takes options only", rest[0])
	}
	switch {
	case s.help:
		return &Config{Mode: ModeHelp}, nil
	case s.version:
		return &Config{Mode: ModeVersion}, nil
	}

	path := s.cfg.Paths.ConfigFile
	found, err := loadFile(path, flags.Changed("config-file"), options, flags.Changed)
	if err != nil {
		return nil, fmt.Errorf("unable to configure the daemon with file %s: %w", path, err)
	}
	if !found {
		s.cfg.Paths.ConfigFile = ""
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	for _, h := range s.cfg.Listen.Hosts {
		if h.Scheme == "tcp" && s.cfg.Listen.TLS == nil {
			fmt.Fprintf(stderr, "Warning: anyone who can connect to %s is root on this machine: it has neither encryption nor authentication\n", h)
		}
	}
	return &s.cfg, nil
}

// Usage is the text of --help.
func Usage() string {
	flags := flagSet(newSettings().options())
	return "Usage: slipwayd [OPTIONS]\n\nThe Slipway container engine.\n\nOptions:\n" + flags.FlagUsages()
}

func flagSet(options []*option) *pflag.FlagSet {
	flags := pflag.NewFlagSet("slipwayd", pflag.ContinueOnError)
	flags.Usage = func() {}
	flags.SetOutput(io.Discard) // the caller prints the error, once
	for _, o := range options {
		f := flags.VarPF(flagValue{o}, o.flag, o.short, o.usage)
		if o.arg == "" {
			f.NoOptDefVal = "true"
		}
		f.Hidden = o.hidden
	}
	return flags
}

// finish checks what only shows when everything is known.
func (s *settings) finish() error {
	c := &s.cfg
	if s.validate {
		c.Mode = ModeValidate
	}
	if s.debug {
		c.Log.Level = "debug"
	}
	c.Network.ICC = s.icc
	c.ShutdownTimeout = time.Duration(s.shutdownSeconds) * time.Second
	if s.shutdownSeconds < 0 {
		c.ShutdownTimeout = -1
	}
	if !s.liveRestore {
		return errors.New("live-restore cannot be switched off: containers always go on running while the daemon is away")
	}
	for _, p := range []*string{&c.Paths.DataRoot, &c.Paths.ExecRoot, &c.Paths.PidFile} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if within(c.Paths.DataRoot, c.Paths.ExecRoot) || within(c.Paths.ExecRoot, c.Paths.DataRoot) {
		return fmt.Errorf("data-root %s and exec-root %s must not contain each other", c.Paths.DataRoot, c.Paths.ExecRoot)
	}
	if err := checkBridge(c.Network); err != nil {
		return err
	}
	return s.finishListen()
}

// within tells whether path is dir or beneath it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func checkBridge(n Network) error {
	if !n.FixedCIDR.IsValid() {
		return nil
	}
	if !n.BIP.IsValid() {
		return errors.New("fixed-cidr needs bip: it is a part of the bridge's network")
	}
	if n.FixedCIDR.Bits() < n.BIP.Bits() || !n.BIP.Masked().Contains(n.FixedCIDR.Addr()) {
		return fmt.Errorf("fixed-cidr %s is not inside the bridge's network %s", n.FixedCIDR, n.BIP.Masked())
	}
	return nil
}

func (s *settings) finishListen() error {
	l := &s.cfg.Listen
	l.GroupExplicit = l.Group != ""
	if l.Group == "" {
		l.Group = "slipway"
	}
	if s.useTLS && !s.verify {
		return errors.New("tls alone would let any client in: use tlsverify, with tlscacert, tlscert and tlskey")
	}
	if s.verify {
		l.TLS = &s.tls
	}
	if len(s.hosts) == 0 {
		s.hosts = []string{defaultHost}
	}
	seen := map[Address]bool{}
	for _, h := range s.hosts {
		addr, err := parseHost(h, s.verify)
		if err != nil {
			return err
		}
		if addr.Scheme == "tcp" && !s.verify {
			if err := s.checkPlain(addr); err != nil {
				return err
			}
		}
		if seen[addr] {
			return fmt.Errorf("host %s is given twice", addr)
		}
		seen[addr] = true
		l.Hosts = append(l.Hosts, addr)
	}
	return nil
}

func (s *settings) checkPlain(a Address) error {
	switch {
	case !isLoopback(a.Addr):
		return fmt.Errorf("host %s needs mutual TLS (tlsverify): whoever reaches the API is root", a)
	case !s.cfg.Listen.AllowPlainTCP:
		return fmt.Errorf("host %s needs mutual TLS (tlsverify), or allow-plain-tcp to open the loopback address to every local user", a)
	}
	return nil
}
