package api

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	mobyevents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
)

func TestReadJSON(t *testing.T) {
	for _, tt := range []struct {
		name, contentType, body, want string
	}{
		{"good", "application/json", `{"Name":"x"}`, ""},
		{"with charset", "application/json; charset=utf-8", `{"Name":"x"}`, ""},
		{"trailing space", "application/json", "{\"Name\":\"x\"}\n\n", ""},
		{"no body", "", "", ""},
		{"unknown field", "application/json", `{"Name":"x","Nope":1}`, ""},
		{"no type", "", `{}`, "malformed Content-Type header (): mime: no media type"},
		{"wrong type", "text/plain", `{}`, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"cut off", "application/json", `{"Name":`, "invalid JSON: unexpected EOF"},
		{"blank", "application/json", ` `, "invalid JSON: got EOF while reading request body"},
		{"garbage", "application/json", `x`, "invalid JSON: invalid character 'x' looking for beginning of value"},
		{"wrong field", "application/json", `{"Name":1}`, "invalid JSON: json: cannot unmarshal number into Go struct field .Name of type string"},
		{"two documents", "application/json", `{}{}`, "unexpected content after JSON"},
		{"closing bracket", "application/json", `{}]`, "unexpected content after JSON"},
		{"too large", "application/json", `{"Name":"` + strings.Repeat("x", maxBody) + `"}`, "request body too large: the limit is 8388608 bytes"},
		{"too large after", "application/json", `{}` + strings.Repeat(" ", maxBody), "request body too large: the limit is 8388608 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tt.body))
			if tt.body == "" {
				r = httptest.NewRequest(http.MethodPost, "/", nil)
			}
			if tt.contentType != "" {
				r.Header.Set("Content-Type", tt.contentType)
			}
			var out struct{ Name string }
			err := readJSON(httptest.NewRecorder(), r, &out)
			got := ""
			if err != nil {
				got = err.Error()
				if !errdefs.IsInvalidArgument(err) {
					t.Errorf("class %v", errdefs.Resolve(err))
				}
			}
			if got != tt.want {
				t.Errorf("error %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFlag(t *testing.T) {
	for value, want := range map[string]bool{
		"": false, "0": false, "no": false, "false": false, "none": false, "NO": false, " False ": false,
		"1": true, "true": true, "yes": true, "x": true, "00": true,
	} {
		if got := (query{"k": {value}}).flag("k"); got != want {
			t.Errorf("%q is %t", value, got)
		}
	}
	if !(query{}).flagUnlessOff("k") || (query{"k": {"0"}}).flagUnlessOff("k") || (query{"k": {""}}).flagUnlessOff("k") {
		t.Error("the default counts only for what is missing")
	}
}

func TestParseFilters(t *testing.T) {
	for in, want := range map[string]Filters{
		``:                        {},
		`{}`:                      {},
		`null`:                    {},
		`{"a":["b","c"]}`:         {"a": {"b": true, "c": true}},
		`{"a":{"b":true}}`:        {"a": {"b": true}},
		`{"a":{"b":false}}`:       {"a": {"b": true}},
		`{"a":{},"b":{"c":true}}`: {"a": {}, "b": {"c": true}},
	} {
		got, err := parseFilters(in)
		if err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{`x`, `[]`, `"a"`, `{"a":"b"}`, `{"a":1}`, `{"a":["b"],"c":{"d":true}}`, `{"a":["b"]`} {
		if got, err := parseFilters(in); err == nil || err.Error() != "invalid filter" || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
}

func TestParseTimestamp(t *testing.T) {
	for in, want := range map[string]time.Time{
		"0": time.Unix(0, 0), "1136073600": time.Unix(1136073600, 0), "-1": time.Unix(-1, 0),
		"1.5": time.Unix(1, 500000000), "1.000000001": time.Unix(1, 1), "1.0000000019": time.Unix(1, 1), "1.": time.Unix(1, 0),
	} {
		if got, err := parseTimestamp(in); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "1.x", "1.-5", "1.5.5", "2006-01-02", "99999999999999999999", "9223372036854775807", "1." + strings.Repeat("1", 21)} {
		if got, err := parseTimestamp(in); err == nil {
			t.Errorf("%s: %v", in, got)
		}
	}
}

func TestParseAuth(t *testing.T) {
	want := registry.AuthConfig{Username: "u", Password: "p?~\u00ff", ServerAddress: "https://x"}
	doc, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{base64.URLEncoding.EncodeToString(doc), base64.RawURLEncoding.EncodeToString(doc)} {
		if got, err := parseAuth(header); err != nil || got != want {
			t.Errorf("%s: %+v, %v", header, got, err)
		}
	}
	for _, header := range []string{"!", "e30", base64.URLEncoding.EncodeToString([]byte(`{"username":1}`)), ""} {
		got, err := parseAuth(header)
		if got != (registry.AuthConfig{}) {
			t.Errorf("%s: %+v", header, got)
		}
		if wantErr := header != "e30" && header != ""; (err != nil) != wantErr {
			t.Errorf("%s: %v", header, err)
		}
	}
}

func TestPlatforms(t *testing.T) {
	q := query{"a": {"linux/arm64/v8"}, "j": {`{"os":"linux","architecture":"arm64"}`}, "bad": {"?/x"}, "half": {`{"os":"linux"}`}, "text": {"linux"}}
	if p, err := q.platform("a"); err != nil || p.OS != "linux" || p.Architecture != "arm64" {
		t.Errorf("%v %v", p, err)
	}
	if p, err := q.onePlatform("j"); err != nil || p.Architecture != "arm64" {
		t.Errorf("%v %v", p, err)
	}
	if p, err := q.platform("none"); p != nil || err != nil {
		t.Errorf("%v %v", p, err)
	}
	for _, f := range []func() error{
		func() error { _, err := q.platform("bad"); return err },
		func() error { _, err := q.onePlatform("half"); return err },
		func() error { _, err := q.onePlatform("text"); return err },
	} {
		if err := f(); !errdefs.IsInvalidArgument(err) {
			t.Errorf("error %v", err)
		}
	}
}

func TestEventMatcher(t *testing.T) {
	start := mobyevents.Message{Type: "container", Action: "exec_start: sh -c x", Scope: "local", Actor: mobyevents.Actor{
		ID: "4c01db0b339c", Attributes: map[string]string{"name": "web", "image": "example.com/pg:17", "tier": "db"},
	}}
	for filters, want := range map[string]bool{
		`{}`:                                   true,
		`{"event":["exec_start"]}`:             true,
		`{"event":["start"]}`:                  false,
		`{"event":["start","exec_start"]}`:     true,
		`{"type":["container"]}`:               true,
		`{"type":["image"]}`:                   false,
		`{"container":["web"]}`:                true,
		`{"container":["4c01"]}`:               true,
		`{"container":["db"]}`:                 false,
		`{"image":["example.com/pg"]}`:         true,
		`{"image":["example.com/pg:17"]}`:      true,
		`{"image":["example.com/pg:16"]}`:      false,
		`{"label":["tier=db"]}`:                true,
		`{"label":["tier"]}`:                   true,
		`{"label":["tier=db","other"]}`:        false,
		`{"scope":["local"],"type":["image"]}`: false,
	} {
		f, err := parseFilters(filters)
		if err != nil {
			t.Fatal(err)
		}
		match, err := eventMatcher(f)
		if err != nil || match(start) != want {
			t.Errorf("%s: %t, %v", filters, !want, err)
		}
	}
}

func FuzzParseFilters(f *testing.F) {
	for _, seed := range []string{`{"a":["b"]}`, `{"a":{"b":true}}`, `null`, `{"a":null}`, `[`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		filters, err := parseFilters(s)
		if (err == nil) != (filters != nil) {
			t.Fatalf("%v, %v", filters, err)
		}
		for _, values := range filters {
			for v, set := range values {
				if !set {
					t.Fatalf("value %q is not set", v)
				}
			}
		}
	})
}

func FuzzParseAuth(f *testing.F) {
	f.Add("e30")
	f.Add("eyJ1c2VybmFtZSI6InUifQ==")
	f.Fuzz(func(t *testing.T, s string) {
		if auth, err := parseAuth(s); err != nil && auth != (registry.AuthConfig{}) {
			t.Fatalf("half read credentials %+v", auth)
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("since=1.5&until=2&tail=3&h=1&w=2&platform=linux&repo=a&tag=b&limit=1")
	f.Fuzz(func(_ *testing.T, s string) {
		values, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		q := query(values)
		_, _ = logsOptions(q)
		_, _ = q.filters()
		_, _ = q.number("limit")
		_, _ = q.size("h", "height")
		_, _ = q.platform("platform")
		_, _ = q.platforms("platform")
		_, _ = q.repoTag()
		_, _ = pullReference(q.get("repo"), q.get("tag"))
	})
}

func FuzzCreate(f *testing.F) {
	f.Add(`{"Image":"a","HostConfig":{"Ulimits":[null],"Mounts":[{"Type":"bind","ReadOnly":true}]},"NetworkingConfig":{"EndpointsConfig":{"a":null}}}`, 40)
	f.Add(`{"MacAddress":"02:42:ac:11:00:02","HostConfig":{"PortBindings":{"80/tcp":null}}}`, 43)
	f.Fuzz(func(t *testing.T, body string, minor int) {
		hr := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		hr.Header.Set("Content-Type", "application/json")
		r := &request{Request: hr, version: Version{1, minor}}
		req, legacy, err := readCreate(httptest.NewRecorder(), r)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("class of %v", err)
			}
			return
		}
		if _, err := adaptCreate(req, legacy, r.version); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatalf("class of %v", err)
		}
		if req.Config == nil || req.HostConfig == nil || req.NetworkingConfig == nil {
			t.Fatal("nil reaches the backend")
		}
		for name, endpoint := range req.NetworkingConfig.EndpointsConfig {
			if endpoint == nil {
				t.Fatalf("endpoint %q is nil", name)
			}
		}
	})
}

func FuzzVersion(f *testing.F) {
	f.Add("/v1.44/info")
	f.Add("/v/")
	res := newResolver(new(Server).routes())
	f.Fuzz(func(t *testing.T, path string) {
		version, rest := cutVersion(path)
		if v, err := negotiate(version); err == nil && (v.Less(MinVersion) || MaxVersion.Less(v)) {
			t.Fatalf("accepted %v", v)
		}
		u := res.resolve(http.MethodGet, rest)
		if u.RawPath != "" && u.EscapedPath() != u.RawPath {
			t.Fatalf("escaped path %q is not used for %q", u.RawPath, u.Path)
		}
	})
}
