package main

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// The numbers of events. The messages of all are their text, as of what EventCreate
// writes, whose numbers end at 1000.
const (
	eventInfo    = 1
	eventWarning = 2
	eventError   = 3
)

// maxEvent is how long an event's text may be, in bytes. ReportEvent takes 31839
// characters.
const maxEvent = 31_000

// eventSink is *eventlog.Log.
type eventSink interface {
	Info(id uint32, text string) error
	Warning(id uint32, text string) error
	Error(id uint32, text string) error
}

// eventHandler is a slog.Handler that writes to the event log, which keeps the time
// and the level of an event by itself. It is safe for concurrent use.
type eventHandler struct {
	sink eventSink
	text slog.Handler // writes to line
	line *eventLine
}

// eventLine is where one record is put together at a time.
type eventLine struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func newEventHandler(sink eventSink, least slog.Level) *eventHandler {
	line := &eventLine{}
	text := slog.NewTextHandler(&line.buf, &slog.HandlerOptions{Level: least, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}})
	return &eventHandler{sink: sink, text: text, line: line}
}

// Enabled implements slog.Handler.
func (h *eventHandler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

// Handle implements slog.Handler.
func (h *eventHandler) Handle(ctx context.Context, r slog.Record) error {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	h.line.buf.Reset()
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	line := bytes.ReplaceAll(bytes.TrimSpace(h.line.buf.Bytes()), []byte{0}, nil) // which would end the text
	text := string(line[:min(len(line), maxEvent)])
	switch {
	case r.Level >= slog.LevelError:
		return h.sink.Error(eventError, text)
	case r.Level >= slog.LevelWarn:
		return h.sink.Warning(eventWarning, text)
	}
	return h.sink.Info(eventInfo, text)
}

// WithAttrs implements slog.Handler.
func (h *eventHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &eventHandler{sink: h.sink, text: h.text.WithAttrs(attrs), line: h.line}
}

// WithGroup implements slog.Handler.
func (h *eventHandler) WithGroup(name string) slog.Handler {
	return &eventHandler{sink: h.sink, text: h.text.WithGroup(name), line: h.line}
}
