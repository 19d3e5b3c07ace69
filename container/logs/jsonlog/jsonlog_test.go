package jsonlog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"slipway/container/logs/jsonlog"
)

var noon = time.Date(2024, 2, 29, 12, 0, 0, 120_000_000, time.UTC)

func TestAppend(t *testing.T) {
	for _, tc := range []struct{ piece, attrs, want string }{
		{"hi\n", "", `{"log":"hi\n","stream":"stdout","time":"2024-02-29T12:00:00.12Z"}`},
		{"a\"b\\c\r\t\x00\x1b[0m", "", `{"log":"a\"b\\c\r\u0009\u0000\u001b[0m","stream":"stdout","time":"2024-02-29T12:00:00.12Z"}`},
		{"<&>\x7fé\u2028", "", `{"log":"\u003c\u0026\u003e` + "\x7f" + `é\u2028","stream":"stdout","time":"2024-02-29T12:00:00.12Z"}`},
		{"\xff\xfeok\xe2\x82", "", `{"log":"\ufffd\ufffdok\ufffd\ufffd","stream":"stdout","time":"2024-02-29T12:00:00.12Z"}`},
		{"x", `{"tag":"t"}`, `{"log":"x","stream":"stdout","attrs":{"tag":"t"},"time":"2024-02-29T12:00:00.12Z"}`},
	} {
		got := jsonlog.Append(nil, []byte(tc.piece), "stdout", []byte(tc.attrs), noon)
		if string(got) != tc.want+"\n" {
			t.Errorf("%q:\n got %s\nwant %s", tc.piece, got, tc.want)
		}
	}
}

func TestSplit(t *testing.T) {
	full := strings.Repeat("x", jsonlog.MaxPiece)
	for _, tc := range []struct {
		name, text string
		last       bool
		want       int
	}{
		{"line", "ab\ncd\n", false, 3},
		{"unfinished", "ab", false, 0},
		{"unfinished at the end", "ab", true, 2},
		{"nothing at the end", "", true, 0},
		{"longest whole line", full[1:] + "\n", false, jsonlog.MaxPiece},
		{"newline just behind", full + "\n", false, jsonlog.MaxPiece},
		{"long", full + full, false, jsonlog.MaxPiece},
		{"one short of a piece", full[1:], false, 0},
	} {
		if got := jsonlog.Split([]byte(tc.text), tc.last); got != tc.want {
			t.Errorf("%s: %d, not %d", tc.name, got, tc.want)
		}
	}
}

func TestDecodeForeign(t *testing.T) {
	var r jsonlog.Record
	line := `{ "stream":"stderr", "log":"\ud83d\ude00\n", "attrs":{"a":"b"}, "time":"2024-02-29T12:00:00.120000000Z", "more": 1 }`
	if err := r.Decode([]byte(line)); err != nil {
		t.Fatal(err)
	}
	if string(r.Log) != "😀\n" || r.Stream != "stderr" || string(r.Attrs) != `{"a":"b"}` || !r.Time.Equal(noon) {
		t.Errorf("%+v", r)
	}
	for _, bad := range []string{"", "\x00\x00\x00", "{}", `{"log":"x`, `{"log":"x","stream":"stdout","time":"yesterday"}`, `{"log":"x","stream":"stdout","time":"2024-02-29T12:00:00Z"`} {
		if err := r.Decode([]byte(bad)); !errors.Is(err, jsonlog.ErrCorrupt) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzRoundTrip: what is written is a JSON line that is read back, by us and by encoding/json.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("plain\n"))
	f.Add([]byte("\xff\u2028\\\"<\x00"))
	f.Fuzz(func(t *testing.T, piece []byte) {
		line := jsonlog.Append(nil, piece, "stderr", nil, noon)
		want := string(bytes.ToValidUTF8(piece, nil))
		if utf8.Valid(piece) != (want == string(piece)) {
			t.Skip()
		}
		var b []rune
		for _, r := range string(piece) { // one U+FFFD for each byte that is not UTF-8
			b = append(b, r)
		}
		want = string(b)
		var r jsonlog.Record
		if err := r.Decode(line); err != nil || string(r.Log) != want || r.Stream != "stderr" || !r.Time.Equal(noon) {
			t.Errorf("%q read back as %+v, %v", piece, r, err)
		}
		var v struct{ Log string }
		if err := json.Unmarshal(line, &v); err != nil || v.Log != want {
			t.Errorf("%q is %q to encoding/json, %v", piece, v.Log, err)
		}
		if bytes.Count(line, []byte{'\n'}) != 1 {
			t.Error("more than a line")
		}
	})
}

// FuzzDecode: our own way of reading agrees with encoding/json wherever it succeeds.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"log":"a\u00e9\n","stream":"stdout","time":"2024-02-29T12:00:00.12Z"}`))
	f.Add([]byte(`{"log":"\ud800","stream":"stdout","time":"2024-02-29T12:00:00Z"}`))
	f.Add([]byte(`{"log":"a","stream":"stdout","attrs":{"x":"y"},"time":"2024-02-29T12:00:00Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var r jsonlog.Record
		if r.Decode(line) != nil {
			return
		}
		var v struct {
			Log, Stream string
			Time        time.Time
		}
		if err := json.Unmarshal(bytes.TrimRight(line, "\r\n"), &v); err != nil {
			t.Fatalf("%q is no JSON: %v", line, err)
		}
		if v.Log != string(r.Log) || v.Stream != r.Stream || !v.Time.Equal(r.Time) {
			t.Errorf("%q: %+v and %+v", line, r, v)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	line := jsonlog.Append(nil, []byte("2024-02-29 12:00:00.120 UTC [1] LOG:  database system is ready to accept connections\n"), "stderr", nil, noon)
	b.SetBytes(int64(len(line)))
	var r jsonlog.Record
	for b.Loop() {
		if err := r.Decode(line); err != nil {
			b.Fatal(err)
		}
	}
}
