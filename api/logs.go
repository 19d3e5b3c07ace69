package api

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"slipway/container"

	"github.com/moby/moby/api/pkg/stdcopy"
)

// logTime is the format of timestamps in logs, always of the same length.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func logsOptions(q query) (container.LogsOptions, error) {
	opts := container.LogsOptions{
		Stdout:     q.flag("stdout"),
		Stderr:     q.flag("stderr"),
		Follow:     q.flag("follow"),
		Timestamps: q.flag("timestamps"),
		Details:    q.flag("details"),
		Tail:       q.get("tail"),
	}
	if !opts.Stdout && !opts.Stderr {
		return opts, invalidf("Bad parameters: you must choose at least one stream")
	}
	if opts.Tail != "" && opts.Tail != "all" {
		// Docker takes what is no number for all lines.
		if n, err := strconv.Atoi(opts.Tail); err != nil || n < 0 {
			opts.Tail = "all"
		}
	}
	var err error
	if opts.Since, err = q.timestamp("since"); err != nil {
		return opts, err
	}
	if q.get("until") != "0" {
		opts.Until, err = q.timestamp("until")
	}
	return opts, err
}

// containerLogs sends log lines as a raw stream, or in frames if the container
// has no terminal. Errors on the way go into the stream.
func (s *Server) containerLogs(ctx context.Context, w *response, r *request) error {
	opts, err := logsOptions(r.query)
	if err != nil {
		return err
	}
	logs, err := s.cfg.Containers.Logs(ctx, r.name(), opts)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", streamType(r.version, !logs.TTY))
	out := newStreamWriter(ctx, w, opts.Follow)
	defer out.close()
	_ = out.start() // if it fails, so does the first write; Messages must be run in any case
	outputs := map[string]io.Writer{"stdout": out, "stderr": out}
	var system io.Writer = out
	if !logs.TTY {
		mux := newFrameMux(out)
		outputs = map[string]io.Writer{"stdout": mux.stream(stdcopy.Stdout), "stderr": mux.stream(stdcopy.Stderr)}
		system = mux.stream(stdcopy.Systemerr)
	}
	if !opts.Stdout {
		delete(outputs, "stdout")
	}
	if !opts.Stderr {
		delete(outputs, "stderr")
	}
	var line []byte
	for msg, err := range logs.Messages {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			_, err = fmt.Fprintf(system, "Error grabbing logs: %v\n", err)
			return err
		}
		to, ok := outputs[msg.Stream]
		if !ok {
			continue
		}
		line = appendLogLine(line[:0], msg, opts)
		if _, err := to.Write(line); err != nil {
			return err
		}
	}
	return nil
}

func appendLogLine(b []byte, msg container.LogMessage, opts container.LogsOptions) []byte {
	if opts.Timestamps {
		b = append(msg.Time.UTC().AppendFormat(b, logTime), ' ')
	}
	if opts.Details {
		for i, key := range slices.Sorted(maps.Keys(msg.Attrs)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, url.QueryEscape(key)+"="+url.QueryEscape(msg.Attrs[key])...)
		}
		b = append(b, ' ')
	}
	return append(b, msg.Line...)
}
