package main

import (
	"runtime"
	"slices"
	"testing"

	"slipway/image"
)

// What the flags say arrives, whatever characters it has.
func TestImportDirInstructions(t *testing.T) {
	o := importDirOptions{
		entrypoint: `["C:\\app\\server.exe", "-x"]`, cmd: `["a b"]`, workdir: `/app`, database: "postgres",
		env: []string{`PATH=C:\bin;"C:\Program Files"`, "PLAIN=1", "DOLLAR=$HOME ${X} '", "EMPTY="}, labels: []string{`a.b=c "d" \e $f`},
		volumes: []string{"/data"}, expose: []string{"5432", "80/udp"}, changes: []string{"ENV PLAIN=2"},
	}
	lines, err := o.instructions()
	if err != nil {
		t.Fatal(err)
	}
	var cfg image.RunConfig
	if err := image.ApplyChanges(&cfg, lines); err != nil {
		t.Fatal(err)
	}
	if want := []string{`PATH=C:\bin;"C:\Program Files"`, "PLAIN=2", "DOLLAR=$HOME ${X} '", "EMPTY="}; !slices.Equal(cfg.Env, want) {
		t.Errorf("the environment is %q", cfg.Env)
	}
	if cfg.Labels["a.b"] != `c "d" \e $f` || cfg.Labels["io.slipway.database"] != "postgres" {
		t.Errorf("the labels are %q", cfg.Labels)
	}
	volume, workdir := "/data", "/app"
	if runtime.GOOS == "windows" {
		volume, workdir = `C:\data`, `C:\app`
	}
	_, hasVolume := cfg.Volumes[volume]
	_, hasPort := cfg.ExposedPorts["80/udp"]
	if !hasVolume || !hasPort || cfg.WorkingDir != workdir {
		t.Errorf("%q, %q, %q", cfg.Volumes, cfg.ExposedPorts, cfg.WorkingDir)
	}
	if !slices.Equal(cfg.Entrypoint, []string{`C:\app\server.exe`, "-x"}) || !slices.Equal(cfg.Cmd, []string{"a b"}) {
		t.Errorf("%q %q", cfg.Entrypoint, cfg.Cmd)
	}
	for _, bad := range []importDirOptions{{env: []string{"NAME"}}, {labels: []string{"=x"}}, {env: []string{"A=b\nc"}}} {
		if _, err := bad.instructions(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestImportDirErrors(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{dir}, {dir, "UPPER"}, {dir + "/nothing", "x"}, {dir, "x", "--env", "NAME"}} {
		if code, _, stderr := command(t, append([]string{"image", "import-dir"}, args...)...); code != exitUsage || stderr == "" {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
	}
}
