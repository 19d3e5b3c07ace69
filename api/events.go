package api

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types"
	mobyevents "github.com/moby/moby/api/types/events"
)

// getEvents streams what happens, one JSON document a message.
func (s *Server) getEvents(ctx context.Context, w *response, r *request) error {
	since, err := r.query.timestamp("since")
	if err != nil {
		return err
	}
	until, err := r.query.timestamp("until")
	if err != nil {
		return err
	}
	if !until.IsZero() && until.Before(since) {
		return invalidf("`since` time (%s) cannot be after `until` time (%s)", r.query.get("since"), r.query.get("until"))
	}
	filters, err := r.query.filters()
	if err != nil {
		return err
	}
	match, err := eventMatcher(filters)
	if err != nil {
		return err
	}
	past, live, cancel := s.cfg.Events.Subscribe(since, until, match)
	defer cancel()

	media := eventsMedia(r)
	w.Header().Set("Content-Type", media)
	out := newStreamWriter(ctx, w, true)
	defer out.close()
	if err := out.start(); err != nil {
		return err
	}
	stream := eventStream{out: out, version: r.version, sequence: media == types.MediaTypeJSONSequence}
	for _, msg := range past {
		if err := stream.send(msg); err != nil {
			return err
		}
	}
	var end <-chan time.Time
	if !until.IsZero() {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(left)
		defer timer.Stop()
		end = timer.C
	}
	for {
		select {
		case msg, ok := <-live:
			if !ok {
				return nil // lagged too far behind; the client sees the stream's end
			}
			if err := stream.send(msg); err != nil {
				return err
			}
		case <-end:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// eventsMedia picks the format of the stream: what the client asks for by name,
// else what its version of the API expects.
func eventsMedia(r *request) string {
	for offer := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, params, _ := strings.Cut(offer, ";")
		if strings.ReplaceAll(params, " ", "") == "q=0" {
			continue
		}
		switch media = strings.TrimSpace(media); media {
		case types.MediaTypeJSONLines, types.MediaTypeNDJSON, types.MediaTypeJSONSequence:
			return media
		}
	}
	if r.version.before(52) {
		return types.MediaTypeJSON
	}
	return types.MediaTypeJSONLines
}

type eventStream struct {
	out      io.Writer
	version  Version
	sequence bool // RFC 7464: a record separator before each document
}

func (s eventStream) send(msg mobyevents.Message) error {
	if s.version.before(46) && msg.Type == mobyevents.ImageEventType && msg.Action == mobyevents.ActionCreate {
		return nil
	}
	doc, err := shaped(s.version, viewEvent, msg)
	if err != nil {
		return err
	}
	var line []byte
	if s.sequence {
		line = append(line, 0x1e)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	_, err = s.out.Write(append(append(line, body...), '\n'))
	return err
}

// eventMatcher makes the function that says whether a message passes the
// filters. Values of one filter are alternatives; all filters must be met.
func eventMatcher(filters Filters) (func(mobyevents.Message) bool, error) {
	for key := range filters {
		switch key {
		case "event", "type", "scope", "label", "image", "container", "daemon", "plugin", "volume",
			"network", "service", "node", "secret", "config", "builder":
		default:
			return nil, invalidf("invalid filter '%s'", key)
		}
	}
	return func(m mobyevents.Message) bool {
		for key, values := range filters {
			if len(values) > 0 && !eventPasses(m, key, values) {
				return false
			}
		}
		return true
	}, nil
}

func eventPasses(m mobyevents.Message, key string, values map[string]bool) bool {
	switch key {
	case "event":
		return values[string(m.Action)] || actionFamily(m.Action, values)
	case "type":
		return values[string(m.Type)]
	case "scope":
		return values[m.Scope]
	case "label":
		return hasLabels(m.Actor.Attributes, values)
	case "image":
		name := m.Actor.Attributes["image"]
		if m.Type == mobyevents.ImageEventType {
			name = m.Actor.Attributes["name"]
		}
		return values[m.Actor.ID] || values[name] || values[repository(m.Actor.ID)] || values[repository(name)]
	default: // an object by id, name, or the beginning of either
		for value := range values {
			if strings.HasPrefix(m.Actor.ID, value) || strings.HasPrefix(m.Actor.Attributes["name"], value) {
				return true
			}
		}
		return false
	}
}

// actionFamily matches "health_status: healthy" by health_status, and "exec_start:
// sh" by exec_start.
func actionFamily(action mobyevents.Action, values map[string]bool) bool {
	family, _, ok := strings.Cut(string(action), ":")
	return ok && values[family]
}

func hasLabels(attributes map[string]string, wanted map[string]bool) bool {
	for want := range wanted {
		key, value, hasValue := strings.Cut(want, "=")
		if got, ok := attributes[key]; !ok || hasValue && got != value {
			return false
		}
	}
	return true
}

// repository is an image's familiar name without its tag.
func repository(image string) string {
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarName(ref)
}
