package image

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

func TestApplyChanges(t *testing.T) {
	for _, tc := range []struct {
		changes []string
		want    func(c *RunConfig)
		message string
	}{
		{[]string{`CMD ["a", "b c"]`}, func(c *RunConfig) { c.Cmd = []string{"a", "b c"} }, ""},
		{[]string{`cmd echo $HOME`}, func(c *RunConfig) { c.Cmd = []string{"/bin/sh", "-c", "echo $HOME"} }, ""},
		{[]string{`ENTRYPOINT ["x"]`}, func(c *RunConfig) { c.Entrypoint, c.Cmd = []string{"x"}, nil }, ""},
		{[]string{`CMD y`, `ENTRYPOINT ["x"]`}, func(c *RunConfig) { c.Entrypoint, c.Cmd = []string{"x"}, []string{"/bin/sh", "-c", "y"} }, ""},
		{[]string{`ENV A=1 B="two words" C='$A' D=$A/${OLD} E=\$x F=${NO:-none} G=${OLD:+yes}`}, func(c *RunConfig) {
			c.Env = []string{"OLD=o", "A=1", "B=two words", "C=$A", "D=/o", "E=$x", "F=none", "G=yes"}
		}, ""},
		{[]string{`ENV OLD the whole  line`}, func(c *RunConfig) { c.Env = []string{"OLD=the whole  line"} }, ""},
		{[]string{`LABEL a=b "c d"="e f"`, "LABEL multi=\\\nline"}, func(c *RunConfig) {
			c.Labels = map[string]string{"a": "b", "c d": "e f", "multi": "line"}
		}, ""},
		{[]string{`EXPOSE 80 53/udp 8000-8002/tcp`}, func(c *RunConfig) {
			c.ExposedPorts = map[string]struct{}{"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}
		}, ""},
		{[]string{`VOLUME ["/a b", "/c"]`, `VOLUME /d /e`}, func(c *RunConfig) {
			c.Volumes = map[string]struct{}{"/a b": {}, "/c": {}, "/d": {}, "/e": {}}
		}, ""},
		{[]string{`USER me:us`, `STOPSIGNAL SIGINT`, `WORKDIR sub/dir`}, func(c *RunConfig) {
			c.User, c.StopSignal, c.WorkingDir = "me:us", "SIGINT", "/w/sub/dir"
		}, ""},
		{[]string{`WORKDIR /abs/../x`}, func(c *RunConfig) { c.WorkingDir = "/x" }, ""},
		{[]string{`HEALTHCHECK --interval=5s --timeout=1m --retries=3 --start-period=2s --start-interval=1s CMD pg_isready -q`}, func(c *RunConfig) {
			c.Healthcheck = &dockerspec.HealthcheckConfig{
				Test: []string{"CMD-SHELL", "pg_isready -q"}, Interval: 5 * time.Second, Timeout: time.Minute,
				StartPeriod: 2 * time.Second, StartInterval: time.Second, Retries: 3,
			}
		}, ""},
		{[]string{`HEALTHCHECK CMD ["a"]`}, func(c *RunConfig) { c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "a"}} }, ""},
		{[]string{`HEALTHCHECK NONE`}, func(c *RunConfig) { c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}} }, ""},
		{[]string{`ONBUILD RUN make`, "# comment", ""}, func(c *RunConfig) { c.OnBuild = []string{"RUN make"} }, ""},

		{[]string{`RUN x`}, nil, "run is not a valid change command"},
		{[]string{`CMD`}, nil, "CMD requires at least one argument"},
		{[]string{`ENV A`}, nil, "ENV must have two arguments"},
		{[]string{`ENV A=1 B`}, nil, "can't find = in \"B\""},
		{[]string{`ENV =1`}, nil, "ENV names can not be blank"},
		{[]string{`ENV A="x`}, nil, "unexpected end of statement while looking for matching double-quote"},
		{[]string{`ENV A=${B`}, nil, "syntax error: missing '}'"},
		{[]string{`EXPOSE x`}, nil, "invalid containerPort: x"},
		{[]string{`USER a b`}, nil, "USER requires exactly one argument"},
		{[]string{`VOLUME []`}, nil, "VOLUME requires at least one argument"},
		{[]string{`VOLUME [""]`}, nil, "VOLUME specified can not be an empty string"},
		{[]string{`HEALTHCHECK --interval=x CMD y`}, nil, "--interval: time: invalid duration"},
		{[]string{`HEALTHCHECK --colour=x CMD y`}, nil, "unknown flag: colour"},
		{[]string{`HEALTHCHECK foo`}, nil, `Unknown type "FOO" in HEALTHCHECK (try CMD)`},
		{[]string{`HEALTHCHECK CMD`}, nil, "Missing command after HEALTHCHECK CMD"},
		{[]string{`ONBUILD ONBUILD RUN x`}, nil, "Chaining ONBUILD"},
		{[]string{`ONBUILD FROM x`}, nil, "FROM isn't allowed as an ONBUILD trigger"},
		{[]string{`USER ok`, `BAD`}, nil, "bad is not a valid change command"},
	} {
		t.Run(strings.Join(tc.changes, ";"), func(t *testing.T) {
			var got, want RunConfig
			for _, c := range []*RunConfig{&got, &want} {
				c.Env, c.Cmd, c.WorkingDir = []string{"OLD=o"}, []string{"old"}, "/w"
			}
			err := ApplyChanges(&got, tc.changes)
			if tc.message != "" {
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.message) {
					t.Errorf("got %v, want %s", err, tc.message)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				tc.want(&want)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever is given: no panic, and a configuration that is changed wholly or not
// at all.
func FuzzApplyChanges(f *testing.F) {
	for _, seed := range []string{
		`CMD ["a"]`, `ENV A=1 B="x y" C=${D:-${E}}`, `LABEL "a b"='c'`, `HEALTHCHECK --retries=3 CMD x`, `EXPOSE 1-3/udp`, "ENV a\\\n=b", `ENV A=${${`, `VOLUME ["`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, change string) {
		var cfg RunConfig
		cfg.Env = []string{"A=b"}
		before := cloneConfig(&cfg)
		if err := ApplyChanges(&cfg, []string{"USER first", change}); err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("class of %v", err)
			}
			if diff := cmp.Diff(before, cfg); diff != "" {
				t.Error(diff)
			}
		}
	})
}
