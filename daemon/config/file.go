package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// maxFileSize is far above any sensible configuration; it keeps a wrong path
// (a device, a disk image) from being read into memory.
const maxFileSize = 1 << 20

// loadFile takes over the settings of the file at path. A file that is missing
// is no error unless the user named it. given tells which flags were used.
func loadFile(path string, named bool, options []*option, given func(flag string) bool) (found bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		if !named && errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return false, err
	}
	if len(data) > maxFileSize {
		return false, fmt.Errorf("larger than %d bytes", maxFileSize)
	}
	return true, load(data, options, given)
}

// load takes over the settings of a configuration file's content.
func load(data []byte, options []*option, given func(flag string) bool) error {
	entries, err := topLevel(data)
	if err != nil {
		return err
	}
	byKey := map[string]*option{}
	for _, o := range options {
		if o.key != "" {
			byKey[o.key] = o
		}
	}

	var unknown, conflicts []string
	for _, e := range entries {
		o := byKey[e.key]
		switch {
		case o == nil:
			unknown = append(unknown, strings.Trim(strconv.Quote(e.key), `"`)) // one line whatever it holds
		case given(o.flag):
			conflicts = append(conflicts, fmt.Sprintf("%s: (from flag: %s, from file: %s)", e.key, o.get(), compact(e.value)))
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("the following directives don't match any configuration option: %s", strings.Join(unknown, ", "))
	}
	if len(conflicts) > 0 {
		slices.Sort(conflicts)
		return fmt.Errorf("the following directives are specified both as a flag and in the configuration file: %s",
			strings.Join(conflicts, ", "))
	}
	for _, e := range entries {
		if err := byKey[e.key].load(e.value); err != nil {
			return fmt.Errorf("invalid value of %q: %w", e.key, err)
		}
	}
	return nil
}

type entry struct {
	key   string
	value json.RawMessage
}

// topLevel splits a JSON object into its entries, in order. Unlike
// json.Unmarshal it finds a key that stands there twice. An empty file is an
// empty object.
func topLevel(data []byte) ([]entry, error) {
	data = bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\ufeff")))
	if len(data) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil {
		return nil, atPosition(dec, err)
	} else if tok != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}

	var entries []entry
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, atPosition(dec, err)
		}
		key, ok := tok.(string)
		if !ok {
			return nil, errors.New("not a JSON object")
		}
		if seen[key] {
			return nil, fmt.Errorf("the directive %q stands there twice", key)
		}
		seen[key] = true
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("the value of %q: %w", key, atPosition(dec, err))
		}
		entries = append(entries, entry{key, raw})
	}
	if _, err := dec.Token(); err != nil {
		return nil, atPosition(dec, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the end of the JSON object")
	}
	return entries, nil
}

func atPosition(dec *json.Decoder, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("not valid JSON: the file ends too early")
	}
	return fmt.Errorf("not valid JSON at byte %d: %w", dec.InputOffset(), err)
}

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return strings.Trim(b.String(), `"`)
}
