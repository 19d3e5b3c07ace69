package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// problem is one finding of the daemon's checker.
type problem struct {
	Kind   string `json:"kind"`
	Object string `json:"object"`
	Detail string `json:"detail"`
}

// lock is one key of the daemon's locks that is held or waited for.
type lock struct {
	Key       string        `json:"key"`
	Exclusive bool          `json:"exclusive"`
	Holders   int           `json:"holders"`
	Operation string        `json:"operation,omitempty"`
	Held      time.Duration `json:"held_ns"`
	Waiting   []string      `json:"waiting,omitempty"`
}

func newDebug(s streams, d *daemonClient) *cobra.Command {
	return group("debug", "Look into the daemon", newCheck(s, d), newLocks(s, d))
}

func newCheck(s streams, d *daemonClient) *cobra.Command {
	var format formatValue
	cmd := &cobra.Command{
		Use: "check", Short: "Compare the daemon's records with the machine",
		Long: "Compares the daemon's records with what there is on the machine (snapshots, mounts, network namespaces,\n" +
			"cgroups, firewall rules) and lists what is lost or left over. The exit code is 1 if there is anything.",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report struct {
				Problems []problem `json:"problems"`
			}
			if err := d.call(cmd.Context(), http.MethodGet, "/debug/check", nil, &report); err != nil {
				return err
			}
			err := s.show(format, report, func(t *table) {
				if len(report.Problems) == 0 {
					t.row("No problems found.")
					return
				}
				t.row("KIND", "OBJECT", "DETAIL")
				for _, p := range report.Problems {
					t.row(p.Kind, p.Object, p.Detail)
				}
			})
			if err == nil && len(report.Problems) > 0 {
				return errProblems
			}
			return err
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

func newLocks(s streams, d *daemonClient) *cobra.Command {
	var format formatValue
	cmd := &cobra.Command{
		Use: "locks", Short: "List the locks that are held or waited for", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report struct {
				Locks []lock `json:"locks"`
			}
			if err := d.call(cmd.Context(), http.MethodGet, "/debug/locks", nil, &report); err != nil {
				return err
			}
			return s.show(format, report, func(t *table) {
				t.row("KEY", "MODE", "HELD BY", "FOR", "WAITING")
				for _, l := range report.Locks {
					t.row(l.Key, l.mode(), l.Operation, l.Held.Round(time.Millisecond).String(), strings.Join(l.Waiting, ", "))
				}
			})
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

func (l lock) mode() string {
	if l.Exclusive {
		return "exclusive"
	}
	return fmt.Sprintf("shared by %d", l.Holders)
}
