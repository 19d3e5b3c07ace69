package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"slipway/clonefs"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
)

func newPool(s streams, d *daemonClient) *cobra.Command {
	return group("pool", "The pool, where images and volumes live",
		newPoolStatus(s, d), newPoolGrow(s, d), newPoolTrim(s, d), newPoolRepair(s))
}

func newPoolStatus(s streams, d *daemonClient) *cobra.Command {
	var format formatValue
	cmd := &cobra.Command{
		Use: "status", Short: "Show what the pool is and how full", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var status poolStatus
			if err := d.call(cmd.Context(), http.MethodGet, "/pool", nil, &status); err != nil {
				return err
			}
			return s.showPool(format, status)
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

// poolStatus is the daemon's answer to GET /pool.
type poolStatus struct {
	Method     string `json:"method"`
	Reason     string `json:"reason,omitempty"`
	FileSystem string `json:"file_system"`
	PoolFile   string `json:"pool_file,omitempty"`
	Size       int64  `json:"size"`
	Used       int64  `json:"used"`
	Free       int64  `json:"free"`
	HostFree   int64  `json:"host_free"`
}

func (s streams) showPool(format formatValue, p poolStatus) error {
	return s.show(format, p, func(t *table) {
		method := p.Method
		if p.Reason != "" {
			method += " (" + p.Reason + ")"
		}
		t.row("Method:", method)
		t.row("File system:", p.FileSystem)
		if p.PoolFile != "" {
			t.row("Pool file:", p.PoolFile)
		}
		t.row("Size:", size(p.Size))
		t.row("Used:", size(p.Used))
		t.row("Free:", size(p.Free))
		t.row("Free on the host:", size(p.HostFree))
	})
}

func size(n int64) string { return units.BytesSize(float64(n)) }

func newPoolGrow(s streams, d *daemonClient) *cobra.Command {
	var format formatValue
	cmd := &cobra.Command{
		Use: "grow SIZE", Short: "Make the pool file larger", Example: "  slipway pool grow 500GB",
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := units.RAMInBytes(args[0])
			if err != nil || n <= 0 {
				return usageError{fmt.Errorf("%q is not a size", args[0])}
			}
			var status poolStatus
			query := url.Values{"size": {strconv.FormatInt(n, 10)}}
			if err := d.call(cmd.Context(), http.MethodPost, "/pool/grow", query, &status); err != nil {
				return err
			}
			return s.showPool(format, status)
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

func newPoolTrim(s streams, d *daemonClient) *cobra.Command {
	var format formatValue
	cmd := &cobra.Command{
		Use: "trim", Short: "Give freed space back to the host", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report struct {
				Freed int64 `json:"freed"`
			}
			if err := d.call(cmd.Context(), http.MethodPost, "/pool/trim", nil, &report); err != nil {
				return err
			}
			return s.show(format, report, func(t *table) { t.row("Freed:", size(report.Freed)) })
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

func newPoolRepair(s streams) *cobra.Command {
	var discardLog bool
	dataRoot := defaultDataRoot
	cmd := &cobra.Command{
		Use: "repair", Short: "Mend a pool file that cannot be mounted, while the daemon is stopped",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return repair(cmd.Context(), s, dataRoot, clonefs.RepairOptions{DiscardLog: discardLog})
		},
	}
	cmd.Flags().StringVar(&dataRoot, "data-root", dataRoot, "the daemon's data root")
	cmd.Flags().BoolVar(&discardLog, "discard-log", false,
		"throw the file system's log away if it cannot be replayed; what was written last may be lost")
	return cmd
}

func repair(ctx context.Context, s streams, dataRoot string, opts clonefs.RepairOptions) error {
	config := clonefs.Config{DataRoot: dataRoot, Logger: slog.New(slog.NewTextHandler(s.err, nil))}
	output, err := clonefs.Repair(ctx, config, opts)
	if output = strings.TrimSpace(output); output != "" {
		fmt.Fprintln(s.out, output)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(s.out, "The pool is in order.")
	return nil
}
