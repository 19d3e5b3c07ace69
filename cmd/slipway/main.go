// Slipway is the small client for what the Docker client has no command for: images made of this machine's
// packages, the pool, and the daemon's own checks.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"slipway/internal/version"

	"github.com/spf13/cobra"
)

// Exit codes: of a command that failed, and of one that was not understood.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := newRoot(s) //nolint:contextcheck // cobra hands the context to each command
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, errProblems) { // already shown as the command's result
		return exitFailed
	}
	fmt.Fprintln(s.err, "slipway:", oneLine(err))
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(s.err, "See '%s --help'.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

// oneLine makes an error fit for one line.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// usageError is a command line that was not understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usage marks the errors of an argument check as wrong usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// group makes a command that only holds others.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}

func newRoot(s streams) *cobra.Command {
	d := &daemonClient{}
	root := group("slipway", "The engine's own commands, beside those of the docker client",
		newImage(s, d), newPool(s, d), newDebug(s, d), newVersion(s))
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.PersistentFlags().StringVarP(&d.host, "host", "H", "",
		"daemon's address (default $SLIPWAY_HOST, else $DOCKER_HOST, else "+defaultHost+")")
	return root
}

func newVersion(s streams) *cobra.Command {
	var format formatValue
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version of this program", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Commit  string `json:"commit"`
				Built   string `json:"built,omitempty"`
			}{version.Version(), version.Commit(), version.BuildTime()}
			return s.show(format, v, func(t *table) {
				t.row("Version:", v.Version)
				t.row("Commit:", v.Commit)
				if v.Built != "" {
					t.row("Built:", v.Built)
				}
			})
		},
	}
	formatFlag(cmd, &format)
	return cmd
}
