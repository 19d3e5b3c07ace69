package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// daemon answers on a socket like slipwayd's and returns its address.
func daemon(t *testing.T, answers map[string]string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("needs unix sockets")
	}
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, `{"message":"unexpected %s %s"}`, r.Method, r.URL)
			return
		}
		fmt.Fprint(w, body)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return "unix://" + socket
}

func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, streams{out: &out, err: &errs})
	return code, out.String(), errs.String()
}

const poolAnswer = `{"method":"pool","file_system":"xfs","pool_file":"/p.img","size":1073741824,"used":1024,"free":2048,"host_free":4096}`

func TestCommands(t *testing.T) {
	host := daemon(t, map[string]string{
		"GET /debug/check":                 `{"problems":[]}`,
		"GET /debug/locks":                 `{"locks":[{"key":"container/x","exclusive":true,"holders":1,"operation":"stop","held_ns":1500000,"waiting":["start","rm"]}]}`,
		"GET /pool":                        poolAnswer,
		"POST /pool/grow?size=10737418240": poolAnswer,
		"POST /pool/trim":                  `{"freed":2097152}`,
	})
	for _, test := range []struct {
		args   string
		stdout []string
	}{
		{"debug check", []string{"No problems found."}},
		{"debug locks", []string{"container/x", "exclusive", "stop", "2ms", "start, rm"}},
		{"pool status", []string{"xfs", "/p.img", "1GiB"}},
		{"pool grow 10GiB", []string{"1GiB"}},
		{"pool trim", []string{"2MiB"}},
		{"version", []string{"Version:"}},
		{"completion bash", []string{"slipway"}},
		{"pool --help", []string{"repair"}},
	} {
		code, stdout, stderr := command(t, append([]string{"-H", host}, strings.Fields(test.args)...)...)
		if code != 0 || stderr != "" {
			t.Errorf("%s: exit code %d, %q", test.args, code, stderr)
		}
		for _, want := range test.stdout {
			if !strings.Contains(stdout, want) {
				t.Errorf("%s: %q is not in %q", test.args, want, stdout)
			}
		}
	}
	for _, args := range []string{"debug check", "debug locks", "pool status", "pool grow 10GiB", "pool trim", "version"} {
		args += " --format json"
		_, stdout, _ := command(t, append([]string{"-H", host}, strings.Fields(args)...)...)
		if !json.Valid([]byte(stdout)) {
			t.Errorf("%s: %q", args, stdout)
		}
	}
}

func TestProblemsAreAnError(t *testing.T) {
	host := daemon(t, map[string]string{"GET /debug/check": `{"problems":[{"kind":"netns","object":"abc","detail":"belongs to no container"}]}`})
	t.Setenv("SLIPWAY_HOST", host)
	t.Setenv("DOCKER_HOST", "unix:///nowhere")
	code, stdout, stderr := command(t, "debug", "check")
	if code != exitFailed || !strings.Contains(stdout, "belongs to no container") || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestErrors(t *testing.T) {
	host := daemon(t, nil)
	for _, test := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"-H", host, "pool", "trim"}, exitFailed, "slipway: unexpected POST /pool/trim"},
		{[]string{"-H", "unix:///nowhere", "debug", "check"}, exitFailed, "cannot reach the daemon at unix:///nowhere"},
		{[]string{"-H", "nonsense", "debug", "check"}, exitUsage, "the daemon's address"},
		{[]string{"nonsense"}, exitUsage, `unknown command "nonsense"`},
		{[]string{"pool", "nonsense"}, exitUsage, `unknown command "nonsense"`},
		{[]string{"pool", "grow"}, exitUsage, "accepts 1 arg"},
		{[]string{"pool", "grow", "-5"}, exitUsage, ""},
		{[]string{"pool", "grow", "big"}, exitUsage, `"big" is not a size`},
		{[]string{"pool", "status", "--format", "xml"}, exitUsage, "it is table or json"},
		{[]string{"debug", "check", "--nonsense"}, exitUsage, "unknown flag"},
	} {
		code, _, stderr := command(t, test.args...)
		if code != test.code || !strings.Contains(stderr, test.stderr) || !strings.HasPrefix(stderr, "slipway: ") {
			t.Errorf("%v: exit code %d, want %d; %q, want %q", test.args, code, test.code, stderr, test.stderr)
		}
		if lines := strings.Count(stderr, "\n"); lines > 2 {
			t.Errorf("%v: %d lines", test.args, lines)
		}
	}
}

func TestWriteFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	if err := writeFile(name, func(w io.Writer) error { _, err := w.Write([]byte("x")); return err }); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := writeFile(name, func(io.Writer) error { return broken }); err == nil {
		t.Error("no error")
	}
	entries, _ := os.ReadDir(filepath.Dir(name))
	if data, _ := os.ReadFile(name); string(data) != "x" || len(entries) != 1 {
		t.Errorf("%q and %v are left", data, entries)
	}
}
