package daemon

import (
	"strings"
	"testing"

	"slipway/daemon/config"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	options := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for _, tt := range []struct {
		driver  string
		options map[string]string
		want    string // of the error; "" for none
	}{
		{"json-file", nil, ""},
		{"json-file", options("max-size", "10m", "max-file", "3", "compress", "true", "tag", "{{.Name}}", "labels", "a,b"), ""},
		{"json-file", options("tag", `{{slice .ImageID 0 6}} {{index (split .ImageName ":") 1}} {{index (split .Name "-") 2}}`), ""},
		{"none", nil, ""},
		{"none", options("max-size", "10m"), "max-size"},
		{"json-file", options("max-size", "abc"), "max-size"},
		{"json-file", options("max-file", "0"), "max-file"},
		{"json-file", options("bogus", "1"), "bogus"},
		{"json-file", options("compress", "true"), "compress"},
		{"json-file", options("labels-regex", "("), "labels-regex"},
		{"json-file", options("tag", "{{.Nome}}"), "tag"},
		{"json-file", options("tag", "{{\n"), "tag"},
	} {
		err := Validate(&config.Config{Logging: config.Logging{Driver: tt.driver, Options: tt.options}})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s %v: %v", tt.driver, tt.options, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s %v: got %v, want one line with %q", tt.driver, tt.options, err, tt.want)
		}
	}
}
