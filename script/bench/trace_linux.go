package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"slipway/internal/span"
)

// trace adds a table of where the time of some operations went that the daemon has done since then.
func (b *bench) trace(ctx context.Context, title string, since time.Time, operations ...string) error {
	record, err := b.slipway.spans(ctx)
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s: medians of the daemon's own record, in ms\n\n| | begins | takes |\n|---|---|---|\n", title)
	for _, name := range operations {
		var whole series
		parts := map[string]*[2]series{} // beginnings and durations
		var order []string
		for _, o := range record {
			if o.Name != name || o.Begin.Before(since) {
				continue
			}
			whole.addTime(o.Duration)
			seen := map[string]int{}
			for _, p := range o.Parts {
				part := p.Name
				if seen[p.Name]++; seen[p.Name] > 1 {
					part += fmt.Sprintf(" (%d)", seen[p.Name])
				}
				if parts[part] == nil {
					parts[part] = &[2]series{}
					order = append(order, part)
				}
				parts[part][0].addTime(p.Begin)
				parts[part][1].addTime(p.Duration)
			}
		}
		fmt.Fprintf(&text, "| **%s** | | **%.1f** |\n", name, whole.median())
		for _, part := range order {
			fmt.Fprintf(&text, "| %s | %.1f | %.1f |\n", part, parts[part][0].median(), parts[part][1].median())
		}
	}
	b.report.traces = append(b.report.traces, text.String())
	return nil
}

// spans asks the daemon for its record.
func (e *engine) spans(ctx context.Context) ([]span.Operation, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(e.host, "unix://"))
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://slipway/debug/spans", http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var record struct {
		Operations []span.Operation `json:"operations"`
	}
	err = json.NewDecoder(response.Body).Decode(&record)
	return record.Operations, err
}
