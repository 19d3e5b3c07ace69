package logs_test

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"slipway/container/logs"
)

func TestParseConfig(t *testing.T) {
	labels := map[string]string{"com.example.a": "1", "com.example.b": "2", "other": "3"}
	env := []string{"HOME=/root", "LANG=C", "EMPTY"}
	tag := logs.TagInfo{ID: "0123456789abcdef", Name: "/web", ImageID: "sha256:fedcba9876543210", ImageName: "nginx"}
	for _, tc := range []struct {
		name, driver string
		opts         map[string]string
		want         logs.LogConfig
		err          string
		is           func(error) bool
	}{
		{name: "default", want: logs.LogConfig{Driver: "json-file", MaxFile: 1}},
		{name: "none", driver: "none", opts: map[string]string{"max-size": "x"}, want: logs.LogConfig{Driver: "none"}},
		{
			name: "rotation", driver: "json-file", opts: map[string]string{"max-size": "10m", "max-file": "3", "compress": "true", "mode": "blocking"},
			want: logs.LogConfig{Driver: "json-file", MaxSize: 10_000_000, MaxFile: 3, Compress: true},
		},
		{
			name: "attributes", opts: map[string]string{"labels": "other,none", "labels-regex": `^com\.`, "env": "LANG", "tag": "{{.Name}}/{{.ID}} {{.ImageID}} {{upper .ImageName}}"},
			want: logs.LogConfig{Driver: "json-file", MaxFile: 1, Attrs: map[string]string{
				"other": "3", "com.example.a": "1", "com.example.b": "2", "LANG": "C", "tag": "web/0123456789ab fedcba987654 NGINX",
			}},
		},
		{name: "unknown option", opts: map[string]string{"max-sice": "1"}, err: "unknown log opt 'max-sice' for json-file log driver", is: errdefs.IsInvalidArgument},
		{name: "no files", opts: map[string]string{"max-file": "0"}, err: "max-file cannot be less than 1", is: errdefs.IsInvalidArgument},
		{name: "no size", opts: map[string]string{"max-size": "0"}, err: "max-size must be a positive number", is: errdefs.IsInvalidArgument},
		{name: "compress alone", opts: map[string]string{"compress": "true"}, err: "compress cannot be true when max-file is less than 2 or max-size is not set", is: errdefs.IsInvalidArgument},
		{name: "unknown driver", driver: "papyrus", err: "logger: no log driver named 'papyrus' is registered", is: errdefs.IsInvalidArgument},
		{name: "later driver", driver: "local", err: `log driver "local" is not supported: use json-file or none`, is: errdefs.IsNotImplemented},
		{name: "non-blocking", opts: map[string]string{"mode": "non-blocking"}, err: "log option mode=non-blocking is not supported", is: errdefs.IsNotImplemented},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := logs.ParseConfig(tc.driver, tc.opts, labels, env, tag)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err || !tc.is(err) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}
