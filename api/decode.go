package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/containerd/errdefs"
)

// maxBody limits a JSON request body, in bytes. The largest honest one, a
// container with thousands of labels and mounts, is far below.
const maxBody = 8 << 20

// readJSON decodes a request's JSON body into out. No body at all leaves out as
// it is, as Docker does for most endpoints. All errors are of the class invalid
// argument.
func readJSON(w http.ResponseWriter, r *http.Request, out any) error {
	if err := checkJSON(r); err != nil {
		return err
	}
	if r.Body == nil || r.ContentLength == 0 {
		return nil
	}
	return decodeJSON(http.MaxBytesReader(w, r.Body, maxBody), out)
}

// decodeJSON reads exactly one JSON document.
func decodeJSON(body io.Reader, out any) error {
	dec := json.NewDecoder(body)
	if err := dec.Decode(out); err != nil {
		return jsonError(err)
	}
	if _, err := dec.Token(); err == nil {
		return invalidf("unexpected content after JSON")
	} else if !errors.Is(err, io.EOF) {
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			return invalidf("unexpected content after JSON")
		}
		return jsonError(err)
	}
	return nil
}

func jsonError(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return invalidf("request body too large: the limit is %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, io.EOF) {
		return invalidf("invalid JSON: got EOF while reading request body")
	}
	return fmt.Errorf("%w: %w", errdefs.ErrInvalidArgument.WithMessage("invalid JSON"), err)
}

// checkJSON refuses a body that does not say that it is JSON.
func checkJSON(r *http.Request) error {
	ct := r.Header.Get("Content-Type")
	if ct == "" && (r.Body == nil || r.ContentLength == 0) {
		return nil
	}
	media, _, err := mime.ParseMediaType(ct)
	if err != nil {
		return invalidf("malformed Content-Type header (%s): %v", ct, err)
	}
	if media != "application/json" {
		return invalidf("unsupported Content-Type header (%s): must be 'application/json'", ct)
	}
	return nil
}

// writeJSON answers with a JSON document.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
